"""Jobs in an SQL database. Plain SQLAlchemy Core, no dialect's own words."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, delete, func, insert, select, true, update

from flaregate_wire.attempts import CommittedArtifact
from flaregate_wire.model import rfc3339
from gateway.jobs import listing
from gateway.jobs import tables as t
from gateway.jobs.archive_index import ArchiveIndex
from gateway.jobs.batches import Batch, batch_of
from gateway.jobs.blob_index import BlobIndex
from gateway.jobs.cache_index import CacheIndex
from gateway.jobs.claims import Claims
from gateway.jobs.database import Database
from gateway.jobs.garbage_index import GarbageIndex
from gateway.jobs.holding import Holding, Overtaken
from gateway.jobs.listing import Filter
from gateway.jobs.log_index import LogIndex
from gateway.jobs.moves import Move
from gateway.jobs.needs import NOTHING, Needs, refer
from gateway.jobs.records import ATTEMPT, JOB, Answer, AttemptRecord, Blob, JobRecord

MOST_BATCHES = 1000
"""Of a job, that are looked at for one page of its events."""
Change = Callable[[JobRecord, AttemptRecord | None], Move | None]
"""From a job and its last attempt to a move. Pure; what it raises undoes the transaction and reaches the caller."""


@dataclass(frozen=True, slots=True)
class Written:
    """What is recorded after a move, with the events that it added."""

    job: JobRecord
    attempt: AttemptRecord | None = None
    batch: Batch | None = None
    new: bool = False


class SqlRepository:
    """Jobs, attempts, events, blobs. Each method is one transaction.

    Those that take a job's id trust the caller to have compared its tenant, which `current` gives.
    """

    def __init__(self, url: str, name: str = "gateway", hold: float = 15.0) -> None:
        """Open the database for the gateway of this name, which holds jobs for so many seconds at a time."""
        self._database = Database(url, pause=hold / 3)
        self.holding = Holding(self._database, name, hold)
        self.cache = CacheIndex(self._database)
        self.claims = Claims(self._database)
        self.staged = BlobIndex(self._database)
        self.archives = ArchiveIndex(self._database)
        self.garbage = GarbageIndex(self._database)
        self.logs = LogIndex(self._database)
        self._listeners: list[Callable[[Written], None]] = []
        self.listen(self._held)

    @property
    def kind(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._database.kind

    def listen(self, listener: Callable[[Written], None]) -> None:
        """Call back on the event loop after each move made here, in the order of a job's moves, whoever waits."""
        self._listeners.append(listener)

    def _held(self, written: Written) -> None:
        if written.new:
            self.holding.made(written.job.id, written.job.created)

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
        """Keep a new job, held by this gateway, and what its Idempotency-Key is answered; None if the key is taken.

        Raises BlobMissing unless all that it needs is there, which from then on it keeps.
        """
        again = False
        held = self.holding.columns(move.job.created)

        def work(connection: Connection) -> Written | None:
            nonlocal again
            job, batch = _numbered(move)
            if again and _current(connection, job.id) is not None:
                return Written(job, None, batch, new=True)  # it was kept, and the word of it was lost
            again = True
            if answer is not None:
                given = answer(job)
                if _answer(connection, job.tenant, given.key) is not None:
                    return None
                row = {"tenant": job.tenant, "key": given.key, "body": given.body, "view": given.view}
                connection.execute(insert(t.idempotency), row)
            connection.execute(insert(t.jobs), {"id": job.id, "definition": definition, **_columns(job), **held})
            refer(connection, job, needs)
            pairs = [{"tenant": job.tenant, "job": job.id, "name": k, "value": v} for k, v in job.labels.items()]
            if pairs:
                connection.execute(insert(t.labels), pairs)
            _append(connection, job, batch)
            return Written(job, None, batch, new=True)

        return await self._database.write(work, self._tell, move.job.id)

    async def answer(self, tenant: str, key: str) -> Answer | None:
        """What an Idempotency-Key was answered before."""
        return await self._database.read(lambda connection: _answer(connection, tenant, key))

    async def change(self, job: str, how: Change, fence: int | None = None) -> Written | None:
        """Change a job and its last attempt; None where there is nothing to change, or no such job.

        Raises Overtaken where the job has another fence than the one given.
        """
        return await self._database.write(lambda connection: _change(connection, job, how, fence), self._tell, job)

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

    async def held(self) -> tuple[tuple[JobRecord, AttemptRecord | None], ...]:
        """The jobs that this gateway holds and that have not ended, oldest first, each with its last attempt."""
        return await self._unended(t.jobs.c.holder == self.holding.name)

    async def unended(self) -> tuple[tuple[JobRecord, AttemptRecord | None], ...]:
        """The same of all gateways on this database."""
        return await self._unended(true())

    async def _unended(self, which: ColumnElement[bool]) -> tuple[tuple[JobRecord, AttemptRecord | None], ...]:
        j, a = t.jobs.c, t.attempts.c
        query = (
            select(j.id, j.record, a.record.label("attempt"))
            .join_from(t.jobs, t.attempts, a.job == j.id, isouter=True)
            .where(j.active.is_(True), which)
            .order_by(j.id, a.number)
        )

        def work(connection: Connection) -> tuple[tuple[JobRecord, AttemptRecord | None], ...]:
            last = {row.id: (row.record, row.attempt) for row in connection.execute(query)}
            return tuple(_read(*pair) for pair in last.values())

        return await self._database.read(work)

    async def page(self, tenant: str, wanted: Filter, limit: int) -> tuple[JobRecord, ...]:
        """Jobs of a tenant, newest first."""
        query = listing.page(tenant, wanted).limit(limit)
        return tuple(JOB.validate_json(row.record) for row in await self._rows(query))

    async def versions(self, jobs: Collection[str]) -> dict[str, int]:
        """The versions of those of these jobs that are there."""
        query = select(t.jobs.c.id, t.jobs.c.version).where(t.jobs.c.id.in_(jobs))
        return {row.id: row.version for row in await self._rows(query)}

    async def active(self) -> tuple[str, ...]:
        """The ids of all tenants' jobs that have not ended, oldest first."""
        query = select(t.jobs.c.id).where(t.jobs.c.active.is_(True)).order_by(t.jobs.c.id)
        return tuple(row.id for row in await self._rows(query))

    async def events(self, job: str, after: int, size: int) -> tuple[Batch, ...]:
        """Events after an id, in batches of about `size` bytes together (one batch at least)."""
        c = t.event_batches.c
        there = select(c.first, func.length(c.lines).label("size")).where(c.job == job, c.last > after)
        lines = select(c.first, c.last, c.lines).where(c.job == job).order_by(c.first)

        def work(connection: Connection) -> tuple[Batch, ...]:
            firsts: list[int] = []
            total = 0
            for row in connection.execute(there.order_by(c.first).limit(MOST_BATCHES)):
                firsts.append(row.first)
                total += row.size
                if total >= size:
                    break
            if not firsts:
                return ()
            found = connection.execute(lines.where(c.first.between(firsts[0], firsts[-1])))
            return tuple(Batch(row.first, row.last, bytes(row.lines)).after(after) for row in found)

        return await self._database.read(work)

    async def artifacts(self, job: str) -> tuple[CommittedArtifact, ...]:
        """What a job left in the store, by name."""
        c = t.artifacts.c
        query = select(c.name, c.key, c.media_type, c.size, c.sha256).where(c.job == job)
        rows = sorted(await self._rows(query), key=lambda row: str(row.name))  # databases sort names in their own ways
        return tuple(CommittedArtifact(**row._asdict()) for row in rows)

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
        "version": job.version,
        "record": JOB.dump_json(job).decode(),
        "ended": job.ended and rfc3339(job.ended),
        "expires": job.expires and rfc3339(job.expires),
    }


def _answer(connection: Connection, tenant: str, key: str) -> Answer | None:
    query = select(t.idempotency).where(t.idempotency.c.tenant == tenant, t.idempotency.c.key == key)
    row = connection.execute(query).first()
    return None if row is None else Answer(row.key, row.body, bytes(row.view))


def _read(job: str, attempt: str | None) -> tuple[JobRecord, AttemptRecord | None]:
    return JOB.validate_json(job), None if attempt is None else ATTEMPT.validate_json(attempt)


def _current(connection: Connection, job: str) -> tuple[JobRecord, AttemptRecord | None] | None:
    """In one statement, which sees one state of both."""
    j, a = t.jobs.c, t.attempts.c
    both = select(j.record, a.record).join_from(t.jobs, t.attempts, a.job == j.id, isouter=True)
    row = connection.execute(both.where(j.id == job).order_by(a.number.desc()).limit(1)).first()
    return None if row is None else _read(row[0], row[1])


def _locked(connection: Connection, job: str, fence: int | None) -> tuple[JobRecord, AttemptRecord | None] | None:
    """In two statements: the second sees what whoever had the lock of the first has written."""
    j, a = t.jobs.c, t.attempts.c
    row = connection.execute(select(j.record, j.fence).where(j.id == job).with_for_update()).first()
    if row is None:
        return None
    if fence not in (None, row.fence):
        raise Overtaken(job)
    last = select(a.record).where(a.job == job).order_by(a.number.desc()).limit(1)
    return _read(row.record, connection.execute(last).scalar())


def _numbered(move: Move) -> tuple[JobRecord, Batch | None]:
    if not move.events:
        return move.job, None
    batch = batch_of(move.events, move.job.last_event + 1)
    return replace(move.job, last_event=batch.last), batch


def _append(connection: Connection, job: JobRecord, batch: Batch | None) -> None:
    if batch is not None:
        row = {"tenant": job.tenant, "job": job.id, "first": batch.first, "last": batch.last, "lines": batch.lines}
        connection.execute(insert(t.event_batches), row)


def _change(connection: Connection, job_id: str, how: Change, fence: int | None) -> Written | None:
    """One transaction; nobody else changes the job between what is read here and what is written."""
    current = _locked(connection, job_id, fence)
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
