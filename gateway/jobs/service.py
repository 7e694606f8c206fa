"""What the HTTP API asks for, in terms of jobs: submissions, views, streams, staging, and the containers' side."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from flaregate_wire.attempts import (
    BatchAnswer,
    EventBatch,
    HeadAddress,
    Manifest,
    ObjectsAnswer,
    ObjectsRequest,
    Order,
    Rendezvous,
    TrustScope,
)
from flaregate_wire.blobs import BlobAnswer, BlobOffer, Transfer
from flaregate_wire.definitions import JobDefinition
from flaregate_wire.digests import digest_bytes
from flaregate_wire.jobs import ArtifactPage, ArtifactView, JobPage, JobView, PlanView
from flaregate_wire.limits import BLOB_BYTES, LOG_TAIL_LINES
from flaregate_wire.problems import Fault
from flaregate_wire.states import Reason, State
from gateway.jobs import admission, intake, moves
from gateway.jobs.errors import (
    AttemptOver,
    BlobMismatch,
    BlobMissing,
    BootConflict,
    InvalidRequest,
    JobMissing,
    JobNotDone,
    KeyInFlight,
    KeyReused,
    TooLarge,
)
from gateway.jobs.feed import Feed, Form
from gateway.jobs.keys import Container, Keys
from gateway.jobs.logs import LogFilter, LogReader
from gateway.jobs.moves import Move
from gateway.jobs.records import Answer, AttemptRecord, Blob, JobRecord
from gateway.jobs.repository import Change, Filter, SqlRepository, Written
from gateway.jobs.views import job_view
from gateway.launchers.base import Launcher
from gateway.stores.base import Expected, ObjectMissing, Store

__all__ = ["Form", "Service", "Times"]


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds that the service grants."""

    lease: float
    join: float
    url_age: float


class Service:
    """One gateway's jobs. Every method takes the tenant or the container that asks."""

    def __init__(
        self,
        repository: SqlRepository,
        store: Store,
        launcher: Launcher,
        keys: Keys,
        times: Times,
        clock: Callable[[], datetime],
    ) -> None:
        self._repository = repository
        self._store = store
        self._launcher = launcher
        self._keys = keys
        self._times = times
        self._now = clock
        self._feed = Feed(repository)
        self._logs = LogReader(repository, store, self._feed)
        self._in_flight: set[tuple[str, str]] = set()
        self.stirred: Callable[[str], None] = lambda _: None
        """Called with a job that may need the reconciler."""

    async def change(self, job: str, how: Change) -> Written | None:
        """Apply a change, and tell everyone who waits for it."""
        return await self._repository.change(job, how)

    # --- jobs, for users

    async def submit(self, tenant: str, body: bytes, key: str | None) -> tuple[JobView, bool]:
        """Accept a job, or give the answer that its Idempotency-Key had before."""
        if key is None:
            return await self._accept(tenant, body, None), False
        if (tenant, key) in self._in_flight:
            raise KeyInFlight
        self._in_flight.add((tenant, key))
        try:
            known = await self._repository.answer(tenant, key)
            if known is None:
                return await self._accept(tenant, body, key), False
        finally:
            self._in_flight.discard((tenant, key))
        if known.body != digest_bytes(body):
            raise KeyReused
        return JobView.model_validate_json(known.view), True

    async def _accept(self, tenant: str, body: bytes, key: str | None) -> JobView:
        definition, job = await asyncio.to_thread(self._admitted, tenant, body)
        await self._check_blobs(tenant, definition)
        definition_bytes = definition.model_dump_json(by_alias=True, exclude_none=True).encode()

        def answer(record: JobRecord) -> Answer:
            view = job_view(record, (), record.created).model_dump_json(exclude_none=True).encode()
            return Answer(key or "", digest_bytes(body), view)

        written = await self._repository.create(moves.queued(job), definition_bytes, answer if key else None)
        if written is None:
            raise KeyInFlight
        self.stirred(job.id)
        return job_view(written.job, (), self._now())

    def _admitted(self, tenant: str, body: bytes) -> tuple[JobDefinition, JobRecord]:
        """In a thread: a definition may be small and its graph large."""
        definition = admission.parse(body)
        admission.check_environment(definition.environment, self._launcher.environment())
        return definition, admission.admit(definition, self._launcher.capabilities, tenant, self._now())

    async def _check_blobs(self, tenant: str, definition: JobDefinition) -> None:
        needed = definition.blobs()
        known = await self._repository.blobs(tenant, tuple(needed))
        missing = sorted(name for name in needed if name not in known or not known[name].complete)
        if missing:
            listed = tuple(Fault(pointer="", rule="blob", message=f"{name} is not staged") for name in missing)
            raise BlobMissing(f"{', '.join(missing)}: stage them with POST /v1/blobs first", listed)

    async def plan(self, tenant: str, body: bytes) -> PlanView:
        """What a job would do."""

        def work() -> PlanView:
            definition = admission.parse(body)
            admission.check_environment(definition.environment, self._launcher.environment())
            return admission.planned(definition, self._launcher.capabilities)

        return await asyncio.to_thread(work)

    async def _record(self, tenant: str, job: str) -> JobRecord:
        current = await self._repository.current(job)
        if current is None or current[0].tenant != tenant:
            raise JobMissing(f"there is no job {job!r}")
        return current[0]

    async def view(self, tenant: str, job: str) -> JobView:
        """One job, with its definition."""
        record = await self._record(tenant, job)
        definition = JobDefinition.model_validate_json(await self._repository.definition(job))
        attempts = (await self._repository.attempts((job,)))[job]
        if not record.log_tail and record.state in (State.FAILED, State.TIMED_OUT):
            record = replace(record, log_tail=await self._logs.last_lines(job, LOG_TAIL_LINES))
        return job_view(record, attempts, self._now(), definition)

    async def wait(
        self, tenant: str, job: str, version: int | None, until: Literal["change", "done"], seconds: float
    ) -> JobView:
        """The job as soon as it has another version than the one seen, or is done; at the latest after `seconds`."""
        channel = self._feed.join(job)
        try:
            async with asyncio.timeout(seconds):
                while True:
                    woken = channel.woken
                    record = await self._record(tenant, job)
                    version = record.version if version is None else version
                    changed = until == "change" and record.version != version
                    if record.state.terminal or changed:
                        break
                    await woken.wait()
        except TimeoutError:
            pass  # nothing has changed
        finally:
            self._feed.leave(job)
        return await self.view(tenant, job)

    async def page(
        self,
        tenant: str,
        *,
        state: State | None,
        label: str | None,
        created_after: datetime | None,
        limit: int,
        cursor: str | None,
    ) -> JobPage:
        """Jobs, newest first; the cursor is the last id of the page before."""
        name, _, value = (label or "").partition("=")
        wanted = Filter(state, (name, value) if label else None, created_after, cursor)
        records = await self._repository.page(tenant, wanted, limit + 1)
        shown = records[:limit]
        attempts = await self._repository.attempts([record.id for record in shown])
        now = self._now()
        views = [job_view(record, attempts[record.id], now) for record in shown]
        return JobPage(jobs=tuple(views), next=shown[-1].id if len(records) > limit else None)

    async def cancel(self, tenant: str, job: str, reason: Reason = Reason.CANCELLED_BY_USER) -> JobView:
        """Wish it cancelled."""
        await self._record(tenant, job)
        await self.change(job, lambda record, _: moves.wish(record, reason))
        self.stirred(job)
        return await self.view(tenant, job)

    async def delete(self, tenant: str, job: str) -> None:
        """Remove a finished job and its objects; one that is not there is a success."""
        try:
            record = await self._record(tenant, job)
        except JobMissing:
            return
        if not record.state.terminal:
            raise JobNotDone
        await self._repository.remove(job)
        async for item in self._store.list(f"tenants/{tenant}/jobs/{job}/"):
            await self._store.delete(item.key)

    async def stream(self, tenant: str, job: str, after: int, form: Form) -> AsyncIterator[bytes]:
        """The job's events after an id, until the last."""
        await self._record(tenant, job)
        return self._feed.read(job, after, form)

    async def log(
        self,
        tenant: str,
        job: str,
        *,
        index: int | None,
        role: Literal["head", "worker"] | None,
        attempt: int | None,
        tail: int | None,
        follow: bool,
    ) -> AsyncIterator[bytes]:
        """What the job's code has printed."""
        await self._record(tenant, job)
        return self._logs.read(job, LogFilter(index, role, attempt), tail, follow=follow)

    async def artifacts(self, tenant: str, job: str) -> ArtifactPage:
        """What the job left in the store."""
        await self._record(tenant, job)
        found = await self._repository.artifacts(job)
        return ArtifactPage(artifacts=tuple(ArtifactView.model_validate(item.model_dump()) for item in found))

    async def artifact(self, tenant: str, job: str, name: str) -> tuple[ArtifactView, Transfer]:
        """One artifact, and where to read it."""
        await self._record(tenant, job)
        for item in await self._repository.artifacts(job):
            if item.name == name:
                return ArtifactView.model_validate(item.model_dump()), self._store.presign("GET", item.key)
        raise JobMissing(f"job {job!r} left no artifact {name!r}")

    async def ready(self) -> dict[str, bool]:
        """Whether the database and the store answer."""
        await self._repository.active()
        with suppress(ObjectMissing):  # that is an answer
            await self._store.head("probe")
        return {"database": True, "store": True}

    # --- staging

    async def offer(self, tenant: str, offer: BlobOffer) -> BlobAnswer:
        """Whether it is staged, or where to send it: a random key, bound to size and sum."""
        if offer.size > BLOB_BYTES:
            raise TooLarge(f"{offer.size} bytes; the limit blob_bytes is {BLOB_BYTES} bytes")
        key = f"tenants/{tenant}/blobs/{secrets.token_hex(16)}"
        blob = Blob(tenant, offer.sha256, offer.size, offer.media_type, key, complete=False)
        kept = await self._repository.keep_blob(blob)  # an earlier offer of the same bytes keeps its place
        if kept.complete:
            return BlobAnswer(exists=True)
        if kept.size != offer.size:
            raise BlobMismatch(f"{offer.sha256} was announced with {kept.size} bytes before, now with {offer.size}")
        upload = self._store.presign("PUT", kept.key, Expected(kept.size, kept.sha256))
        return BlobAnswer(exists=False, upload=(upload,), expires=self._now() + timedelta(seconds=self._times.url_age))

    async def complete(self, tenant: str, sha256: str) -> None:
        """The bytes were sent: check that they are there, and make them known."""
        blob = (await self._repository.blobs(tenant, (sha256,))).get(sha256)
        if blob is None:
            raise JobMissing(f"nothing was announced as {sha256}")
        try:
            info = await self._store.head(blob.key)
        except ObjectMissing as error:
            raise BlobMismatch("nothing has been sent yet") from error
        if info.size != blob.size:
            raise BlobMismatch(f"{info.size} bytes came, {blob.size} were announced")
        await self._repository.keep_blob(replace(blob, complete=True))

    # --- containers

    async def order(self, attempt: str, index: int, boot: str) -> Order:
        """The order of a container; its first boot has it and may ask again."""
        job = self._job_of(attempt)

        def how(record: JobRecord, last: AttemptRecord | None) -> Move | None:
            if index >= record.cluster.instances:
                raise InvalidRequest(f"there is no container {index}; the cluster has {record.cluster.instances}")
            return moves.boot(record, self._own(last, attempt), index, boot, self._now())

        await self.change(job, how)
        current = await self._repository.current(job)
        if current is None:
            raise AttemptOver
        record, last = current
        self.stirred(job)
        own = self._own(last, attempt)
        if own is not None and own.boots.get(index, boot) != boot:
            raise BootConflict  # of a head: the attempt is lost with its first boot
        live = moves.live(record, own)
        return await self._order(record, live, index, boot)

    async def _order(self, record: JobRecord, attempt: AttemptRecord, index: int, boot: str) -> Order:
        definition = JobDefinition.model_validate_json(await self._repository.definition(record.id))
        staged = await self._repository.blobs(record.tenant, tuple(definition.blobs())) if index == 0 else {}
        return Order(
            job=record.id,
            attempt=attempt.id,
            number=attempt.number,
            index=index,
            role="head" if index == 0 else "worker",
            token=self._keys.token(Container(attempt.id, index, boot)),
            lease=self._times.lease,
            deadline=(record.started or record.created) + timedelta(seconds=record.timeout),
            join_deadline=self._times.join,
            cluster=record.cluster,
            ray_token=self._keys.ray(attempt.id),
            trust_scope=TrustScope(tenant=record.tenant, project=record.project),
            definition=definition if index == 0 else None,
            blobs={name: self._store.presign("GET", blob.key) for name, blob in staged.items()},
        )

    def _job_of(self, attempt: str) -> str:
        return attempt.rpartition("-")[0]

    def _own(self, last: AttemptRecord | None, attempt: str) -> AttemptRecord | None:
        """The last attempt if it is the one that asks; an older one is over."""
        return last if last is not None and last.id == attempt else None

    def _boot(self, last: AttemptRecord | None, who: Container) -> AttemptRecord | None:
        own = self._own(last, who.attempt)
        if own is not None and own.boots.get(who.index) != who.boot:
            raise BootConflict
        return own

    async def register(self, who: Container, head: HeadAddress) -> None:
        """The head says where it listens."""
        await self.change(
            self._job_of(who.attempt), lambda record, last: moves.register(record, self._boot(last, who), head)
        )

    async def rendezvous(self, who: Container, seconds: float, until: Literal["head", "done"]) -> Rendezvous:
        """Where the head is, or word that the attempt is over; at the latest after `seconds`."""
        job = self._job_of(who.attempt)
        channel = self._feed.join(job)
        answer = Rendezvous()
        try:
            async with asyncio.timeout(seconds):
                while True:
                    woken = channel.woken
                    current = await self._repository.current(job)
                    try:
                        live = moves.live(current[0], self._boot(current[1], who)) if current else None
                    except AttemptOver:
                        live = None
                    if live is None or live.verdict is not None:
                        return Rendezvous(done=True)
                    answer = Rendezvous(head=live.head)
                    if (until == "head" and live.head is not None) or not seconds:
                        return answer
                    await woken.wait()
        except TimeoutError:
            return answer
        finally:
            self._feed.leave(job)

    async def take(self, who: Container, batch: EventBatch) -> BatchAnswer:
        """Take events in, renew the lease, pass wishes on."""
        written = await self.change(
            self._job_of(who.attempt),
            lambda record, last: intake.take_in(record, self._boot(last, who), who.index, batch, self._now()),
        )
        if written is None or written.attempt is None:
            raise AttemptOver
        verdict = written.attempt.verdict
        unwanted = written.job.wish is not None or (verdict is not None and not verdict.committed)
        return BatchAnswer(
            acknowledged=written.attempt.expected.get(who.index, 0), lease=self._times.lease, cancel=unwanted
        )

    async def objects(self, who: Container, asked: ObjectsRequest) -> ObjectsAnswer:
        """Presigned requests under the attempt's own prefix."""
        record, attempt = await self._live(who)
        start = intake.prefix(record, attempt)
        return ObjectsAnswer(put=tuple((start + name, self._store.presign("PUT", start + name)) for name in asked.put))

    async def commit(self, who: Container, manifest: Manifest) -> None:
        """Take the manifest, if what it names is there and under the attempt's own prefix."""
        record, attempt = await self._live(who)
        start = intake.prefix(record, attempt)
        for item in manifest.artifacts:
            if not item.key.startswith(start):
                raise InvalidRequest(f"the artifact {item.name!r} is not under the attempt's own prefix")
            if (await self._store.head(item.key)).size != item.size:
                raise BlobMismatch(f"the artifact {item.name!r} is not {item.size} bytes long")
        await self.change(record.id, lambda job, last: moves.commit(job, self._boot(last, who), manifest, self._now()))
        self.stirred(record.id)

    async def _live(self, who: Container) -> tuple[JobRecord, AttemptRecord]:
        current = await self._repository.current(self._job_of(who.attempt))
        if current is None:
            raise AttemptOver
        return current[0], moves.live(current[0], self._boot(current[1], who))
