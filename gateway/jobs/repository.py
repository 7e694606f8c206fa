"""Jobs in an SQL database: all queries but the cache's. Plain SQLAlchemy Core, no dialect's own words."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, exists, insert, select, update

from flaregate_wire.attempts import CommittedArtifact
from flaregate_wire.model import rfc3339
from flaregate_wire.states import State
from gateway.jobs import tables as t
from gateway.jobs.archive_index import ArchiveIndex
from gateway.jobs.batches import Batch, batch_of
from gateway.jobs.blob_index import BlobIndex
from gateway.jobs.cache_index import CacheIndex
from gateway.jobs.claims import Claims
from gateway.jobs.database import Database
from gateway.jobs.garbage_index import GarbageIndex
from gateway.jobs.moves import Move
from gateway.jobs.needs import NOTHING, Needs, refer
from gateway.jobs.records import ATTEMPT, JOB, Answer, AttemptRecord, Blob, JobRecord, Segment

Change = Callable[[JobRecord, AttemptRecord | None], Move | None]
"""From a job and its last attempt to a move. Pure; what it raises undoes the transaction and reaches the caller."""


@dataclass(frozen=True, slots=True)
class Written:
    """What is recorded after a move, with the events that it added."""

    job: JobRecord
    attempt: AttemptRecord | None = None
    batch: Batch | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which jobs to list."""

    state: State | None = None
    label: tuple[str, str] | None = None
    created_after: datetime | None = None
    before: str | None = None
    """The id of the last job of the page before."""


class SqlRepository:
    """Jobs, attempts, events, blobs. Each method is one transaction.

    Those that take a job's id trust the caller to have compared its tenant, which `current` gives.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self.cache = CacheIndex(self._database)
        self.claims = Claims(self._database)
        self.staged = BlobIndex(self._database)
        self.archives = ArchiveIndex(self._database)
        self.garbage = GarbageIndex(self._database)
        self._listeners: list[Callable[[Written], None]] = []

    def listen(self, listener: Callable[[Written], None]) -> None:
        """Call back on the event loop after each move, in the order of the moves, whatever became of who made it."""
        self._listeners.append(listener)

    def close(self) -> None:
        """Finish what has begun and let go of the database."""
        self._database.close()

    def _tell(self, written: Written | None) -> None:
        if written is not None:
            for listener in self._listeners:
                listener(written)

    async def create(
        self,
        move: Move,
        definition: bytes,
        answer: Callable[[JobRecord], Answer] | None = None,
        needs: Needs = NOTHING,
    ) -> Written | None:
        """Keep a new job and what its Idempotency-Key is answered; None if the key is taken.

        Raises BlobMissing unless all that it needs is there, which from then on it keeps.
        """

        def work(connection: Connection) -> Written | None:
            job, batch = _numbered(move)
            if answer is not None:
                given = answer(job)
                if _answer(connection, job.tenant, given.key) is not None:
                    return None
                row = {"tenant": job.tenant, "key": given.key, "body": given.body, "view": given.view}
                connection.execute(insert(t.idempotency), row)
            connection.execute(insert(t.jobs), {"id": job.id, "definition": definition, **_columns(job)})
            refer(connection, job, needs)
            pairs = [{"tenant": job.tenant, "job": job.id, "name": k, "value": v} for k, v in job.labels.items()]
            if pairs:
                connection.execute(insert(t.labels), pairs)
            _append(connection, job, batch)
            return Written(job, None, batch)

        return await self._database.write(work, self._tell)

    async def answer(self, tenant: str, key: str) -> Answer | None:
        """What an Idempotency-Key was answered before."""
        return await self._database.read(lambda connection: _answer(connection, tenant, key))

    async def change(self, job: str, how: Change) -> Written | None:
        """Change a job and its last attempt; None where there is nothing to change, or no such job."""
        return await self._database.write(lambda connection: _change(connection, job, how), self._tell)

    async def current(self, job: str) -> tuple[JobRecord, AttemptRecord | None] | None:
        """A job and its last attempt."""
        return await self._database.read(lambda connection: _current(connection, job))

    async def definition(self, job: str) -> bytes:
        """A job's definition as JSON; empty for a job that is not there."""
        query = select(t.jobs.c.definition).where(t.jobs.c.id == job)
        return await self._database.read(lambda connection: bytes(connection.execute(query).scalar() or b""))

    async def attempt(self, attempt: str) -> AttemptRecord | None:
        """An attempt by its id."""
        query = select(t.attempts.c.record).where(t.attempts.c.id == attempt)
        return next((ATTEMPT.validate_json(row.record) for row in await self._rows(query)), None)

    async def attempts(self, jobs: Collection[str]) -> dict[str, tuple[AttemptRecord, ...]]:
        """The attempts of each of these jobs, the last at the end."""
        c = t.attempts.c
        found: dict[str, tuple[AttemptRecord, ...]] = dict.fromkeys(jobs, ())
        for row in await self._rows(select(c.job, c.record).where(c.job.in_(jobs)).order_by(c.job, c.number)):
            found[row.job] = (*found[row.job], ATTEMPT.validate_json(row.record))
        return found

    async def present(self) -> tuple[AttemptRecord, ...]:
        """The attempts of all tenants of which something may be left on the platform."""
        query = (
            select(t.attempts.c.record).join(t.jobs, t.jobs.c.id == t.attempts.c.job).where(t.jobs.c.active.is_(True))
        )
        found = (ATTEMPT.validate_json(row.record) for row in await self._rows(query))
        return tuple(attempt for attempt in found if attempt.gone is None)

    async def page(self, tenant: str, wanted: Filter, limit: int) -> tuple[JobRecord, ...]:
        """Jobs of a tenant, newest first."""
        return tuple(JOB.validate_json(row.record) for row in await self._rows(_page(tenant, wanted).limit(limit)))

    async def active(self) -> tuple[str, ...]:
        """The ids of all tenants' jobs that have not ended, oldest first."""
        query = select(t.jobs.c.id).where(t.jobs.c.active.is_(True)).order_by(t.jobs.c.id)
        return tuple(row.id for row in await self._rows(query))

    async def events(self, job: str, after: int, size: int) -> tuple[Batch, ...]:
        """Events after an id, in batches of about `size` bytes together (one batch at least)."""
        c = t.event_batches.c
        query = select(c.first, c.last, c.lines).where(c.job == job, c.last > after).order_by(c.first)

        def work(connection: Connection) -> tuple[Batch, ...]:
            found: list[Batch] = []
            total = 0
            with connection.execution_options(stream_results=True).execute(query) as rows:
                for row in rows:
                    found.append(Batch(row.first, row.last, bytes(row.lines)).after(after))
                    total += len(row.lines)
                    if total >= size:
                        break
            return tuple(found)

        return await self._database.read(work)

    async def segments(self, job: str, after: int = 0) -> tuple[tuple[int, Segment], ...]:
        """The index of a job's logs: pieces in the order in which they came, each with its number."""
        c = t.segments.c
        query = select(c.id, c.attempt, c.container, c.start, c.size, c.key).where(c.job == job, c.id > after)
        return tuple((row[0], Segment(*tuple(row)[1:])) for row in await self._rows(query.order_by(c.id)))

    async def artifacts(self, job: str) -> tuple[CommittedArtifact, ...]:
        """What a job left in the store, by name."""
        c = t.artifacts.c
        query = select(c.name, c.key, c.media_type, c.size, c.sha256).where(c.job == job).order_by(c.name)
        names = ("name", "key", "media_type", "size", "sha256")
        return tuple(CommittedArtifact(**dict(zip(names, row, strict=True))) for row in await self._rows(query))

    async def blobs(self, tenant: str, sums: Collection[str]) -> dict[str, Blob]:
        """The blobs of a tenant among these, complete or not."""
        query = select(t.blobs).where(t.blobs.c.tenant == tenant, t.blobs.c.sha256.in_(sums))
        return {row.sha256: Blob(*tuple(row)) for row in await self._rows(query)} if sums else {}

    async def _rows(self, query: Select[Any]) -> list[Row[Any]]:
        return await self._database.read(lambda connection: list(connection.execute(query)))


def _columns(job: JobRecord) -> dict[str, Any]:
    return {
        "tenant": job.tenant,
        "state": job.state.value,
        "active": not job.state.terminal,
        "created": rfc3339(job.created),
        "record": JOB.dump_json(job).decode(),
        "ended": job.ended and rfc3339(job.ended),
        "expires": job.expires and rfc3339(job.expires),
    }


def _answer(connection: Connection, tenant: str, key: str) -> Answer | None:
    query = select(t.idempotency).where(t.idempotency.c.tenant == tenant, t.idempotency.c.key == key)
    row = connection.execute(query).first()
    return None if row is None else Answer(row.key, row.body, bytes(row.view))


def _current(connection: Connection, job: str) -> tuple[JobRecord, AttemptRecord | None] | None:
    found = connection.execute(select(t.jobs.c.record).where(t.jobs.c.id == job)).scalar()
    if found is None:
        return None
    record = JOB.validate_json(found)
    query = select(t.attempts.c.record).where(t.attempts.c.job == job, t.attempts.c.number == record.attempts)
    last = connection.execute(query).scalar()
    return record, None if last is None else ATTEMPT.validate_json(last)


def _page(tenant: str, wanted: Filter) -> Select[Any]:
    query = select(t.jobs.c.record).where(t.jobs.c.tenant == tenant)
    if wanted.state is not None:
        query = query.where(t.jobs.c.state == wanted.state.value)
    if wanted.created_after is not None:
        query = query.where(t.jobs.c.created > rfc3339(wanted.created_after))
    if wanted.before is not None:
        query = query.where(t.jobs.c.id < wanted.before)
    if wanted.label is not None:
        label, (name, value) = t.labels.c, wanted.label
        query = query.where(
            exists().where(label.job == t.jobs.c.id, label.tenant == tenant, label.name == name, label.value == value)
        )
    return query.order_by(t.jobs.c.id.desc())


def _numbered(move: Move) -> tuple[JobRecord, Batch | None]:
    if not move.events:
        return move.job, None
    batch = batch_of(move.events, move.job.last_event + 1)
    return replace(move.job, last_event=batch.last), batch


def _append(connection: Connection, job: JobRecord, batch: Batch | None) -> None:
    if batch is not None:
        row = {"tenant": job.tenant, "job": job.id, "first": batch.first, "last": batch.last, "lines": batch.lines}
        connection.execute(insert(t.event_batches), row)


def _change(connection: Connection, job_id: str, how: Change) -> Written | None:
    """One transaction: there is one writer, so what is read here is what is changed."""
    current = _current(connection, job_id)
    move = how(*current) if current is not None else None
    if current is None or move is None:
        return None
    old_job, old_attempt = current
    job, batch = _numbered(move)
    attempt = move.attempt or old_attempt
    seen = job != old_job or _shown(attempt) != _shown(old_attempt)
    job = replace(job, version=old_job.version + seen)
    if job != old_job:
        connection.execute(update(t.jobs).where(t.jobs.c.id == job.id), _columns(job))
    if attempt is not None and attempt != old_attempt:
        _keep_attempt(connection, attempt, new=old_attempt is None or attempt.id != old_attempt.id)
    _append(connection, job, batch)
    _keep_parts(connection, job, move)
    return Written(job, attempt, batch)


def _shown(attempt: AttemptRecord | None) -> object:
    """What users see of an attempt; a renewed lease is nothing new to them."""
    return None if attempt is None else (attempt.id, attempt.timeline, attempt.verdict, attempt.instances)


def _keep_attempt(connection: Connection, attempt: AttemptRecord, *, new: bool) -> None:
    record = ATTEMPT.dump_json(attempt).decode()
    if new:
        row = {"id": attempt.id, "tenant": attempt.tenant, "job": attempt.job, "number": attempt.number}
        connection.execute(insert(t.attempts), {"record": record, **row})
    else:
        connection.execute(update(t.attempts).where(t.attempts.c.id == attempt.id), {"record": record})


def _keep_parts(connection: Connection, job: JobRecord, move: Move) -> None:
    owner = {"tenant": job.tenant, "job": job.id}
    if move.segments:
        rows = [
            {"attempt": s.attempt, "container": s.index, "start": s.start, "size": s.size, "key": s.key, **owner}
            for s in move.segments
        ]
        connection.execute(insert(t.segments), rows)
    if move.artifacts:
        names = [artifact.name for artifact in move.artifacts]  # the same again, or a later attempt's
        connection.execute(delete(t.artifacts).where(t.artifacts.c.job == job.id, t.artifacts.c.name.in_(names)))
        connection.execute(insert(t.artifacts), [{**artifact.model_dump(), **owner} for artifact in move.artifacts])
