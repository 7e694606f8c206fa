"""What users ask for, in terms of jobs: submissions, plans, views, streams; and the other services beside it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from functools import partial
from typing import Literal

from flaregate_wire.blobs import Transfer
from flaregate_wire.definitions import JobDefinition
from flaregate_wire.digests import digest_bytes
from flaregate_wire.jobs import ArtifactPage, ArtifactView, JobPage, JobView, Place, PlanView, PriceView
from flaregate_wire.limits import LOG_TAIL_LINES
from flaregate_wire.states import Reason, State
from gateway.jobs import admission, moves
from gateway.jobs.archive import Archiver, EventLog
from gateway.jobs.cache import Cache
from gateway.jobs.cache_index import Scope
from gateway.jobs.cached import CachedTasks
from gateway.jobs.containers import Containers, Times
from gateway.jobs.errors import JobMissing, JobNotDone, KeyInFlight, KeyReused
from gateway.jobs.feed import Feed, Form
from gateway.jobs.figures import Figures
from gateway.jobs.keys import Keys
from gateway.jobs.large import LargeObjects
from gateway.jobs.listing import Filter
from gateway.jobs.logs import LogQuery, LogReader, OpenedLog
from gateway.jobs.policy import Policy
from gateway.jobs.prices import UNKNOWN
from gateway.jobs.records import Answer, AttemptRecord, JobRecord
from gateway.jobs.references import References
from gateway.jobs.repository import Change, SqlRepository, Written
from gateway.jobs.results import Results, Table
from gateway.jobs.retention import Retention
from gateway.jobs.sizing import larger
from gateway.jobs.spilled import Spilled
from gateway.jobs.staging import Staging
from gateway.jobs.views import job_view
from gateway.launchers.base import Launcher
from gateway.stores.base import Store
from gateway.stores.readiness import Readiness

__all__ = ["Form", "Service", "Times"]


class Service:
    """One gateway's jobs. Every method takes the tenant that asks."""

    def __init__(
        self,
        repository: SqlRepository,
        store: Store,
        launcher: Launcher,
        keys: Keys,
        times: Times,
        policy: Policy,
        clock: Callable[[], datetime],
        *,
        direct: bool = False,
    ) -> None:
        """`direct`: presigned requests go to the store, past the gateway, and so while that is away."""
        self._repository = repository
        self._store = store
        self.readiness = Readiness(store)
        self._launcher = launcher
        self._now = clock
        log = EventLog(repository, store)
        self._feed = Feed(repository, log)
        self._results = Results(repository, log)
        self.archiver = Archiver(repository, store)
        self._logs = LogReader(repository, store, self._feed)
        self._in_flight: set[tuple[str, str]] = set()
        self.stirred: Callable[[str], None] = lambda _: None
        """Called with a job that may need the reconciler."""
        self.figures = Figures()
        self.place: Callable[[str], Place | None] = lambda _: None
        """A queued job's place among those that wait for room."""
        self.staging = Staging(repository, store, times.url_age, clock)
        stir: Callable[[str], None] = lambda job: self.stirred(job)  # noqa: E731, PLW0108 - it is set later
        self._spilled = Spilled(repository, store, (times.url_age, times.lease), clock, active=direct)
        self.containers = Containers(repository, store, keys, times, self._feed, stir, clock, self._spilled)
        self.cache = Cache(self.containers, repository.cache, store, policy, clock)
        self._policy = policy
        self.retention = Retention(repository, store, self.staging, self.cache, policy, clock)
        self.large = LargeObjects(self.containers, repository.staged, store, clock)
        self.references = References(repository, self.change, stir, clock)
        self.containers.reads = self.references.reads
        can = launcher.capabilities
        self.containers.node_tls = not can.private_network
        self.containers.larger = partial(larger, sizes=can.sizes, max_memory=can.max_memory)
        self._cached = CachedTasks(repository.cache, store, clock)

    @property
    def feed(self) -> Feed:
        """Who reads or waits for jobs here."""
        return self._feed

    async def change(self, job: str, how: Change, fence: int | None = None) -> Written | None:
        """Apply a change, and tell everyone who waits for it. Raises Overtaken for an old fence."""
        return await self._repository.change(job, how, fence)

    def resolve(self, record: JobRecord) -> None:
        """Begin to find out what the files of a job's references are; the job is stirred when that is known."""
        self.references.begin(record)

    async def rescue(self, record: JobRecord, attempt: AttemptRecord) -> bool:
        """Take in what the containers of an attempt wrote while no gateway answered; False: not possible yet."""
        return await self._spilled.rescue(record, attempt)

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
        except KeyInFlight:  # another gateway was quicker, and has answered
            known = await self._repository.answer(tenant, key)
        finally:
            self._in_flight.discard((tenant, key))
        if known is None:
            raise KeyInFlight
        if known.body != digest_bytes(body):
            raise KeyReused
        return JobView.model_validate_json(known.view), True

    async def _accept(self, tenant: str, body: bytes, key: str | None) -> JobView:
        definition, job = await asyncio.to_thread(self._admitted, tenant, body)
        definition, needs = await self.staging.resolve(tenant, definition)
        job = replace(job, code=",".join(definition.own_blobs()))
        definition_bytes = definition.model_dump_json(by_alias=True, exclude_none=True).encode()

        def answer(record: JobRecord) -> Answer:
            view = self._shown(record, (), record.created).model_dump_json(exclude_none=True).encode()
            return Answer(key or "", digest_bytes(body), view)

        written = await self._repository.create(moves.queued(job), definition_bytes, answer if key else None, needs)
        if written is None:
            raise KeyInFlight
        self.stirred(job.id)
        return self._shown(written.job, (), self._now())

    def _admitted(self, tenant: str, body: bytes) -> tuple[JobDefinition, JobRecord]:
        """In a thread: a definition may be small and its graph large."""
        definition = admission.parse(body)
        admission.check_environment(definition, self._launcher.environment())
        self.references.check(tenant, definition)
        job = admission.admit(definition, self._launcher.capabilities, tenant, self._now())
        return definition, replace(job, keep=self._policy.kept(tenant, definition.keep))

    async def plan(self, tenant: str, body: bytes) -> PlanView:
        """What a job would do, and how much of it is done already."""

        def work() -> tuple[JobDefinition, PlanView]:
            definition = admission.parse(body)
            admission.check_environment(definition, self._launcher.environment())
            self.references.check(tenant, definition)
            return definition, admission.planned(definition, self._launcher.capabilities)

        definition, planned = await asyncio.to_thread(work)
        definition, _ = await self.staging.resolve(tenant, definition)
        scikit_learn = self._launcher.environment().get("scikit-learn", "")
        known = await self._cached.count(Scope(tenant, definition.project), definition, scikit_learn)
        return planned.model_copy(update={"cached": known.tasks, "cached_why": known.why})

    async def _record(self, tenant: str, job: str) -> JobRecord:
        current = await self._repository.current(job)
        if current is None or current[0].tenant != tenant:
            raise JobMissing(f"there is no job {job!r}")
        return current[0]

    def _shown(
        self,
        record: JobRecord,
        attempts: tuple[AttemptRecord, ...],
        now: datetime,
        definition: JobDefinition | None = None,
    ) -> JobView:
        place = self.place(record.id) if record.state is State.QUEUED else None
        price = self._launcher.capabilities.price
        return job_view(record, attempts, now, definition, price=price, place=place)

    def environment(self) -> Mapping[str, str]:
        """Versions in the containers."""
        return self._launcher.environment()

    def price(self) -> PriceView:
        """What containers cost here."""
        platform = self._launcher.capabilities
        if platform.price is None:
            return PriceView(launcher=platform.name, vcpu_second=UNKNOWN, gib_second=UNKNOWN, source="none is known")
        each = {
            name: f"{getattr(platform.price, name).normalize():f} {platform.price.currency}"
            for name in ("vcpu_second", "gib_second")
        }
        return PriceView(launcher=platform.name, source=platform.price.source, **each)

    async def view(self, tenant: str, job: str) -> JobView:
        """One job, with its definition."""
        record = await self._record(tenant, job)
        definition = JobDefinition.model_validate_json(await self._repository.definition(job))
        attempts = (await self._repository.attempts((job,)))[job]
        if not record.log_tail and record.state in (State.FAILED, State.TIMED_OUT):
            record = replace(record, log_tail=await self._logs.last_lines(job, LOG_TAIL_LINES))
        return self._shown(record, attempts, self._now(), definition)

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
                    if record.state.terminal or changed or self._feed.closing:
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
        views = [self._shown(record, attempts[record.id], now) for record in shown]
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
        await self.retention.remove(tenant, job)

    async def stream(self, tenant: str, job: str, after: int, form: Form) -> AsyncIterator[bytes]:
        """The job's events after an id, until the last."""
        await self._record(tenant, job)
        return self._feed.read(job, after, form)

    async def table(self, tenant: str, job: str, by: Sequence[str]) -> Table:
        """The outcomes of a job that has ended as rows, or groups of them."""
        return await self._results.table(await self._record(tenant, job), by)

    async def log(self, tenant: str, job: str, query: LogQuery) -> OpenedLog:
        """What the job's code has printed."""
        return await self._logs.open(await self._record(tenant, job), query)

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

    async def ready(self) -> dict[str, object]:
        """What the gateway needs, each with what it is; false where it does not answer.

        Not so the platform: one that lets nobody in is told, but containers that run on it go on needing the gateway.
        """
        await self._repository.active()
        found = await self.readiness.look()
        return {
            "database": self._repository.kind,
            "store": False if found is None else asdict(found),
            "platform": {"name": self._launcher.capabilities.name, "barred": self.figures.barred},
        }
