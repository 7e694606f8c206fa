"""No sweep removes what a job refers to, whatever else happens meanwhile, wherever it is cut short, two at once.

Everything that reads and writes rows and objects is a work that stops before each of its calls. A state machine lets one or
another go on, moves the clock, kills some; after each step what any row names is in the store, and in the end nothing is left
there that no row names.
"""

import asyncio
import hashlib
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import select

from flaregate_wire.attempts import CommittedArtifact, Manifest
from flaregate_wire.blobs import BlobOffer
from flaregate_wire.jobs import Result
from flaregate_wire.states import State
from gateway.jobs import intake, moves
from gateway.jobs import tables as t
from gateway.jobs.archive import Archiver
from gateway.jobs.cache import Cache
from gateway.jobs.errors import BlobMismatch, BlobMissing, JobMissing
from gateway.jobs.needs import Left, Needs
from gateway.jobs.policy import Policy
from gateway.jobs.records import Blob
from gateway.jobs.repository import SqlRepository
from gateway.jobs.retention import Retention
from gateway.jobs.staging import Staging
from gateway.stores.base import ObjectInfo, ObjectMissing
from tests.doubles import Clock
from tests.gateway.test_decisions import job as record

DATABASES = ("sqlite", pytest.param("postgresql", marks=pytest.mark.services))
DATA = [f"bytes {n}".encode() for n in range(3)]
IDLE = 86_400
STEPS = st.one_of(st.just(1000), st.just(1000), st.integers(0, 9))
"""How far a work goes before something else happens; most go to their end."""
PACE: ContextVar = ContextVar("pace", default=None)


def sha(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Work:
    """Something under way: it stops before each call until it is let go on."""

    def __init__(self, loop, function, args):
        self.loop = loop
        self.at_gate, self.open = asyncio.Event(), asyncio.Event()
        self.task = loop.create_task(self._run(function, args))

    async def _run(self, function, args):
        PACE.set(self)
        await self.gate()
        return await function(*args)

    async def gate(self):
        self.at_gate.set()
        await self.open.wait()
        self.open.clear()

    async def step(self):
        """Until the next call, or the end."""
        self.at_gate.clear()
        self.open.set()
        stopped = asyncio.ensure_future(self.at_gate.wait())
        await asyncio.wait({self.task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if self.task.done():
            self.task.result()

    async def kill(self):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


class Paced:
    """The same object, whose calls stop where a work makes them."""

    def __init__(self, inner):
        self._inner = inner

    def __getattr__(self, name):
        found = getattr(self._inner, name)
        if name in ("list", "get", "uploads"):
            return self._each(found)
        if not asyncio.iscoroutinefunction(found):
            return found

        async def call(*args, **named):
            if PACE.get() is not None:
                await PACE.get().gate()
            return await found(*args, **named)

        return call

    def _each(self, found):
        async def each(*args, **named):
            async for item in found(*args, **named):
                if PACE.get() is not None:
                    await PACE.get().gate()
                yield item

        return each


class Index:
    """A repository whose calls, and those of its parts, stop."""

    def __init__(self, repository):
        self._whole = Paced(repository)
        self.garbage, self.staged = Paced(repository.garbage), Paced(repository.staged)
        self.archives, self.cache = Paced(repository.archives), Paced(repository.cache)

    def __getattr__(self, name):
        return getattr(self._whole, name)


class Memory:
    """A store without a disk."""

    def __init__(self, clock):
        self.clock, self.objects = clock, {}

    async def put(self, key, pieces, **_):
        data = b"".join([piece async for piece in pieces])
        self.objects[key] = (data, self.clock())
        return await self.head(key)

    async def head(self, key):
        if key not in self.objects:
            raise ObjectMissing(key)
        data, when = self.objects[key]
        return ObjectInfo(key, len(data), when)

    async def list(self, prefix):
        for key, (data, when) in list(self.objects.items()):
            if key.startswith(prefix):
                yield ObjectInfo(key, len(data), when)

    async def get(self, key, *, start=0, stop=None):
        if key not in self.objects:
            raise ObjectMissing(key)
        yield self.objects[key][0][start:stop]

    async def uploads(self, prefix):
        for found in ():
            yield found

    async def delete_all(self, keys):
        for key in keys:
            self.objects.pop(key, None)

    async def delete(self, key):
        await self.delete_all([key])

    def presign(self, *_):
        from flaregate_wire.blobs import Transfer

        return Transfer(method="PUT", url="http://store.test/")


async def pieces(data):
    yield data


class Machine(RuleBasedStateMachine):
    """Jobs, blobs, artifacts, sweeps."""

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = TemporaryDirectory()
        self.clock = Clock()
        self.clock.time = datetime(2026, 1, 1, tzinfo=UTC)
        self.repository = SqlRepository(self.fresh_url())
        self.memory = Memory(self.clock)
        store, index = Paced(self.memory), Index(self.repository)
        policy = Policy(0, idle=IDLE)
        self.staging = Staging(index, store, 900, self.clock)
        self.archiver = Archiver(index, store, inline=0)
        cache = Cache(None, index.cache, store, policy, self.clock)
        self.sweeps = [Retention(index, store, self.staging, cache, policy, self.clock) for _ in range(2)]
        self.store, self.index = store, index
        self.works, self.jobs, self.needs, self.deleted, self.expiry, self.count = [], [], {}, set(), {}, 0

    def fresh_url(self):
        return f"sqlite:///{Path(self.folder.name) / 'a.db'}"

    def run(self, coroutine):
        return self.loop.run_until_complete(coroutine)

    def begin(self, steps, function, *args):
        async def begun():
            work = Work(self.loop, function, args)
            for _ in range(steps):
                if not work.task.done():
                    await work.step()
            return work

        self.works.append(self.run(begun()))

    def running(self):
        self.works = [work for work in self.works if not work.task.done()]
        return self.works

    @rule(data=st.sampled_from(DATA), steps=STEPS)
    def stage(self, data, steps):
        self.begin(steps, self._stage, data)

    async def _stage(self, data):
        offer = BlobOffer(sha256=sha(data), size=len(data), media_type="a/b")
        if (await self.staging.offer("t", offer)).exists:
            return
        blob = (await self.index.blobs("t", (sha(data),))).get(sha(data))
        if blob is not None:
            await self.store.put(blob.key, pieces(data))
            try:
                await self.staging.complete("t", sha(data))
            except (JobMissing, BlobMismatch):
                pass  # its place is gone, or was taken by an artifact that is gone: it is offered again

    @rule(
        sums=st.sets(st.sampled_from(DATA), max_size=2),
        of=st.integers(0, 5),
        keep=st.sampled_from([None, 10, 2 * IDLE]),
        steps=STEPS,
    )
    def submit(self, sums, of, keep, steps):
        known = {sha256 for sha256, complete in self.rows(t.blobs.c.sha256, t.blobs.c.complete) if complete}
        self.begin(steps, self._submit, {sha(data) for data in sums} & known, of, keep)

    async def _submit(self, sums, of, keep):
        left = ()
        if of < len(self.jobs):
            earlier = self.jobs[of]
            left = tuple(
                Left(
                    earlier,
                    item.name,
                    Blob("t", item.sha256, item.size, "a/b", item.key, complete=True, used=self._now()),
                )
                for item in await self.index.artifacts(earlier)
            )
        self.count += 1
        job = replace(record(State.QUEUED, attempts=0, started=None), id=f"job-{self.count}", tenant="t", keep=keep)
        job = replace(job, created=self.clock(), since=self.clock())
        needs = Needs(frozenset(sums | {one.blob.sha256 for one in left}), left)
        try:
            await self.index.create(moves.queued(job), b"{}", None, needs)
        except BlobMissing:
            return
        self.jobs.append(job.id)
        self.needs[job.id] = needs.blobs

    def _now(self):
        return self.clock().isoformat(timespec="microseconds").replace("+00:00", "Z")

    @precondition(lambda self: self.jobs)
    @rule(number=st.integers(0, 5), data=st.sampled_from(DATA), stray=st.booleans(), steps=STEPS)
    def work_off(self, number, data, stray, steps):
        self.begin(steps, self._work_off, self.jobs[-1 - number % len(self.jobs)], data, stray)

    async def _work_off(self, job, data, stray):
        """Runs, writes an artifact, commits it, ends."""
        change = self.index.change
        await change(job, lambda j, a: moves.begin(j, a, self.clock()))
        self.count += 1
        boot = f"boot {self.count}"
        try:
            await change(job, lambda j, a: moves.boot(j, a, 0, boot, self.clock()))
        except moves.AttemptOver:
            return
        current = await self.index.current(job)
        if current is None:
            return
        if current[1].boots.get(0) != boot:  # another head has the order; it is told lost, and may go on writing
            await change(job, lambda j, a: moves.leave(j, a, self.clock(), lease=60))
            return
        start = intake.prefix(*current)
        if stray:
            await self.store.put(start + "stray", pieces(b"never committed"))
        await self.store.put(start + "made", pieces(data))
        item = CommittedArtifact(name="made", key=start + "made", media_type="a/b", size=len(data), sha256=sha(data))
        manifest = Manifest(boot=boot, succeeded=True, result=Result(outcomes=0, failed=0), artifacts=(item,))
        try:
            await change(job, lambda j, a: moves.commit(j, a, manifest, self.clock()))
        except moves.AttemptOver:
            return
        await change(job, lambda j, a: moves.leave(j, a, self.clock(), lease=60))
        with suppress(RuntimeError):  # its events have gone with it
            await self.archiver.move(job)

    @precondition(lambda self: self.jobs)
    @rule(number=st.integers(0, 5), which=st.integers(0, 1), steps=STEPS)
    def delete(self, number, which, steps):
        job = self.jobs[number % len(self.jobs)]
        current = self.run(self.repository.current(job))
        if current is not None and current[0].state.terminal:
            self.deleted.add(job)
            self.begin(steps, self.sweeps[which].remove, "t", job)

    @rule(which=st.integers(0, 1), steps=STEPS)
    def gc(self, which, steps):
        self.begin(steps, self.sweeps[which].sweep)

    @rule(which=st.integers(0, 1))
    def a_day_later(self, which):
        self.clock.pass_by(IDLE + 1)
        self.run(self.sweeps[which].sweep())

    @rule(which=st.integers(0, 1))
    def dry(self, which):
        before = dict(self.memory.objects)
        self.run(self.sweeps[which].sweep(dry_run=True))
        assert self.memory.objects == before

    @precondition(lambda self: self.running())
    @rule(number=st.integers(0, 20), steps=st.integers(1, 12))
    def go_on(self, number, steps):
        work = self.running()[number % len(self.works)]
        for _ in range(steps):
            if not work.task.done():
                self.run(work.step())

    @precondition(lambda self: self.running())
    @rule(number=st.integers(0, 20))
    def finish(self, number):
        self.go_on(number, 1000)

    @precondition(lambda self: self.running())
    @rule(number=st.integers(0, 20))
    def kill(self, number):
        self.run(self.running()[number % len(self.works)].kill())

    @rule(seconds=st.sampled_from([1, 20, IDLE + 1]))
    def pass_by(self, seconds):
        self.clock.pass_by(seconds)

    def rows(self, *columns):
        return self.run(self.repository._database.read(lambda connection: list(connection.execute(select(*columns)))))

    @invariant()
    def what_a_row_names_is_there(self):
        objects = self.memory.objects
        for sha256, key, complete in self.rows(t.blobs.c.sha256, t.blobs.c.key, t.blobs.c.complete):
            assert not complete or sha(objects[key][0]) == sha256
        for sha256, key in self.rows(t.artifacts.c.sha256, t.artifacts.c.key):
            assert sha(objects[key][0]) == sha256
        assert all(key in objects for (key,) in self.rows(t.event_archives.c.key) if key)

    @invariant()
    def what_a_job_refers_to_is_known_and_whole(self):
        known = {sha256 for sha256, complete in self.rows(t.blobs.c.sha256, t.blobs.c.complete) if complete}
        assert all(self.needs[job] <= known for (job,) in self.rows(t.jobs.c.id) if job in self.needs)

    @invariant()
    def only_jobs_whose_time_is_over_are_gone(self):
        there = {job for (job,) in self.rows(t.jobs.c.id)}
        kept = {job for job in self.jobs if job not in self.deleted}
        for job in kept - there:
            assert self.expiry.get(job, self.clock() + timedelta(days=999)) <= self.clock()
        self.expiry.update(
            {job: datetime.fromisoformat(when) for job, when in self.rows(t.jobs.c.id, t.jobs.c.expires) if when}
        )

    def teardown(self):
        try:
            for work in self.running():
                self.run(work.kill())
            self.run(self.archiver.move_all())
            for _ in range(3):
                self.clock.pass_by(IDLE + 1)
                self.run(self.sweeps[0].sweep())
            self.what_a_row_names_is_there()
            self.what_a_job_refers_to_is_known_and_whole()
            active = {job for job, active in self.rows(t.jobs.c.id, t.jobs.c.active) if active}
            named = {key for table in (t.blobs, t.artifacts, t.event_archives) for (key,) in self.rows(table.c.key)}
            left = {key for key in self.memory.objects if key.split("/")[3] not in active}
            assert left <= named, "nothing is left that no row names"
            needed = {sha256 for (sha256,) in self.rows(t.job_blobs.c.sha256)}
            assert {sha256 for (sha256,) in self.rows(t.blobs.c.sha256)} == needed
            assert not [1 for active, expires in self.rows(t.jobs.c.active, t.jobs.c.expires) if expires and not active]
        finally:
            self.repository.close()
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()
            self.folder.cleanup()


FEW = settings(
    max_examples=25,
    stateful_step_count=40,
    deadline=None,
    phases=[phase for phase in Phase if phase is not Phase.explain],  # which takes minutes, and hides what failed
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def test_no_sweep_removes_what_is_needed():
    run_state_machine_as_test(Machine, settings=FEW)


@pytest.mark.services
def test_no_sweep_removes_what_is_needed_on_postgresql(postgres):
    class OnPostgres(Machine):
        def fresh_url(self):
            return postgres.database()

    run_state_machine_as_test(OnPostgres, settings=settings(FEW, max_examples=15))


def queued(number, **more):
    job = replace(record(State.QUEUED, attempts=0, started=None), id=f"job-{number}", tenant="t", **more)
    return moves.queued(job)


async def told(repository, move, needs):
    try:
        return await repository.create(move, b"{}", None, needs) is not None
    except BlobMissing:
        return False


async def test_of_a_submission_and_a_sweep_at_once_one_comes_first(database_url):
    mine, theirs = SqlRepository(database_url), SqlRepository(database_url, "b")
    old, now = "2025-01-01T00:00:00.000000Z", datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(40):
        blob = Blob("t", sha(b"%d" % number), 1, "a/b", f"tenants/t/blobs/{number}", complete=True, used=old)
        await mine.staged.offer(blob)
        submitting = told(mine, queued(number), Needs(frozenset({blob.sha256})))
        sweeping = theirs.garbage.drop(now - timedelta(days=1), None, 10)
        works = [submitting, sweeping] if number % 2 else [sweeping, submitting]
        results = await asyncio.gather(*works)
        created, dropped = results if number % 2 else reversed(results)
        there = bool(await mine.blobs("t", [blob.sha256]))
        assert (created, [one.sha256 for one in dropped]) == (there, [] if there else [blob.sha256])
    mine.close()
    theirs.close()


async def test_of_a_submission_and_the_end_of_an_artifact_at_once_one_comes_first(database_url):
    mine, theirs = SqlRepository(database_url), SqlRepository(database_url, "b")
    now = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(0, 60, 2):
        left, reader = f"job-{number}", f"job-{number + 1}"
        await mine.create(queued(number), b"{}")
        await mine.change(left, lambda j, a: moves.begin(j, a, now))
        await mine.change(left, lambda j, a: moves.boot(j, a, 0, "boot", now))
        key, sum_ = f"tenants/t/jobs/{left}/attempts/1/made", sha(b"made %d" % number)
        item = CommittedArtifact(name="made", key=key, media_type="a/b", size=1, sha256=sum_)
        manifest = Manifest(boot="boot", succeeded=True, result=Result(outcomes=0, failed=0), artifacts=(item,))
        await mine.change(left, lambda j, a, manifest=manifest: moves.commit(j, a, manifest, now))
        await mine.change(left, lambda j, a: moves.leave(j, a, now, lease=60))
        needs = Needs(frozenset({sum_}), (Left(left, "made", Blob("t", sum_, 1, "a/b", key, complete=True, used="")),))
        created, kept = await asyncio.gather(told(mine, queued(number + 1), needs), theirs.garbage.forget(left))
        assert kept is not None
        assert await mine.current(left) is None
        assert (await mine.current(reader) is not None) == created
        assert (sum_ in await mine.blobs("t", [sum_])) == created
        assert (await mine.garbage.strangers([key]) == frozenset()) == created, (
            "its object goes only if nobody reads it"
        )
    mine.close()
    theirs.close()


@pytest.mark.exhaustive
@pytest.mark.timeout(600)
def test_no_sweep_removes_what_is_needed_in_many_courses():
    run_state_machine_as_test(Machine, settings=settings(FEW, max_examples=200, stateful_step_count=60))
