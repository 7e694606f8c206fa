"""The loop between what is recorded and what the platform says. `decide` says what to do; here it is done."""

import asyncio
import contextlib
import itertools
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

from flaregate_wire.jobs import Place
from flaregate_wire.states import Reason, State
from gateway.jobs import decisions as d
from gateway.jobs import moves, replacing, starting
from gateway.jobs.attended import attended
from gateway.jobs.errors import DatabaseAway
from gateway.jobs.figures import Figures
from gateway.jobs.holding import Overtaken
from gateway.jobs.keys import Keys
from gateway.jobs.ledger import Admission, admit, bounded, claim_of
from gateway.jobs.records import AttemptRecord, Instance, JobRecord, Verdict
from gateway.jobs.repository import Change, SqlRepository, Written
from gateway.launchers.base import (
    Barred,
    CannotSee,
    Handle,
    ImageRefused,
    InstanceSighting,
    Launcher,
    LaunchFailed,
    LaunchOrder,
    LaunchRefused,
    Phase,
    Quota,
    Sighting,
)

log = logging.getLogger(__name__)
WORKERS = 8
MOST_STEPS = 20
"""Steps that one job takes in a row at most; what is left waits for the next tick."""
SOON = 0.03
"""Seconds between what containers say and a look at the platform, which shows what they do next."""
GIVING_UP = 3.0
"""Seconds that the database has at the end to take the jobs back."""
UNSEEN = "platform_unseen"
CROWDED = "platform_full"
RELAUNCH = timedelta(seconds=1)
"""Between tries, until the launch's deadline."""


@dataclass(frozen=True, slots=True)
class Cadence:
    """Seconds between looks while jobs are active, and between searches for runs that no job owns."""

    tick: float
    reap: float


@dataclass(frozen=True, slots=True)
class Seen:
    """What the platform said, and when it was asked, on the reconciler's own count of looks and acts."""

    sighting: Sighting
    asked: int


def _last(how: Callable[[JobRecord, AttemptRecord], moves.Move | None]) -> Change:
    """A change that needs an attempt; a job without one is left as it is."""
    return lambda job, last: None if last is None else how(job, last)


def _crowded(job: JobRecord, _: AttemptRecord | None, *, now: datetime, reason: str | None) -> moves.Move | None:
    """The job waits for room on the platform, or no longer."""
    return moves.condition(job, CROWDED, now, reason)


def _instances(sighting: Sighting) -> dict[int, Instance]:
    return {item.index: Instance(item.started, item.ended) for item in sighting.instances if item.started is not None}


class Jobs(Protocol):
    """What the reconciler asks of the service."""

    async def change(self, job: str, how: Change, fence: int | None = None) -> Written | None:
        """Apply a change, and tell everyone who waits for it. Raises Overtaken for an old fence."""

    def resolve(self, record: JobRecord) -> None:
        """Begin to find out what the files of its references are; the job is nudged when that is known."""

    async def rescue(self, record: JobRecord, attempt: AttemptRecord) -> bool:
        """Take in what an attempt that is lost or leaves wrote while no gateway answered; False: not possible yet."""


class Reconciler:
    """Brings every job to its end. One deduplicating queue; no job is worked at twice at once."""

    def __init__(
        self,
        repository: SqlRepository,
        launcher: Launcher,
        keys: Keys,
        jobs: Jobs,
        rules: d.Rules,
        cadence: Cadence,
        gateway_url: str,
        clock: Callable[[], datetime],
    ) -> None:
        self._repository = repository
        self._holding = repository.holding
        self._launcher = launcher
        self._keys = keys
        self._jobs = jobs
        self._rules = rules
        self._cadence = cadence
        self._url = gateway_url
        self._now = clock
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._waiting: set[str] = set()
        self._working: set[str] = set()
        self._seen: dict[str, Seen] = {}
        self._acted: dict[str, int] = {}
        """When an attempt was last launched or stopped; what was seen before is about its past."""
        self._count = itertools.count(1)
        self._not_before: dict[str, datetime] = {}
        self._stirred = asyncio.Event()
        self._admission = Admission(frozenset(), {})
        self.figures = Figures()
        self._attended = True
        self._quota = launcher.capabilities.quota if bounded(launcher.capabilities.quota) else None

    def place(self, job: str) -> Place | None:
        """A queued job's place among those that wait for room."""
        return self._admission.places.get(job)

    def nudge(self, job: str) -> None:
        """Something has happened to a job that is held here: look at the platform soon, and at the job now."""
        if job in self._holding:
            self._attended = False  # until it is looked at
            self._stirred.set()
            self._enqueue(job)

    def _enqueue(self, job: str) -> None:
        """Have a job looked at; one that is in the queue already is not put there again."""
        if job not in self._waiting:
            self._waiting.add(job)
            self._queue.put_nowait(job)

    @property
    def idle(self) -> bool:
        """Whether every job that is held here has ended."""
        return not self._holding

    @property
    def attended(self) -> bool:
        """Whether containers will call for all that is left to do here."""
        return self.idle or self._attended

    async def run(self) -> None:
        """Take up every job that nobody works at, and go on until cancelled; then give them up."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(WORKERS):
                    group.create_task(self._work())
                group.create_task(self._look())
                group.create_task(self._reap())
        finally:
            with contextlib.suppress(DatabaseAway, TimeoutError):
                async with asyncio.timeout(GIVING_UP):
                    await self._holding.release()

    async def _look(self) -> None:
        """One question to the platform a tick, or sooner when something happens; none while nothing is held."""
        while True:
            self._stirred.clear()
            try:
                await self._holding.keep(self._now())
                if self._holding:
                    await self.tick()
                else:
                    self.figures.held, self.figures.waiting = {}, 0
            except DatabaseAway:
                log.warning("the database is away; nothing is done until it is back")
            except Exception:  # whatever it was, the next look may succeed; without looks no job would ever end
                log.exception("the platform could not be looked at")
            pause = min(self._cadence.tick, self._holding.pace) if self._holding else self._holding.pace
            with contextlib.suppress(TimeoutError):  # not wait_for, which in Python 3.11 can lose a cancel
                async with asyncio.timeout(pause):
                    await self._stirred.wait()
                await asyncio.sleep(min(SOON, self._cadence.tick))

    async def tick(self) -> None:
        """Look at all attempts of which something may be left, and have those jobs looked at that need it."""
        jobs = [pair for pair in await self._repository.held() if pair[0].id in self._holding]
        handles = {
            self._launcher.handle(attempt.id): (record, attempt)
            for record, attempt in jobs
            if attempt is not None and attempt.gone is None
        }
        self._attended = attended(jobs, self._admission.places)
        self.figures.held = dict(Counter(record.state.value for record, _ in jobs))
        if handles or self.figures.barred is not None:
            await self._observe(handles)
        await self._bar([pair for pair in jobs if pair[1] is None or pair[1].launched is None or pair[1].gone])
        if self._quota is not None:
            await self._admit(self._quota)
        for record, attempt in jobs:
            if self._due(record, attempt):
                self._enqueue(record.id)

    def _entered(self, error: CannotSee | LaunchFailed | None = None) -> None:
        """The platform was asked something: did it let the gateway in? An error of another kind does not tell."""
        was = self.figures.barred
        if error is None:
            self.figures.barred = None
        elif isinstance(error, Barred):
            self.figures.barred = str(error)
        if was != self.figures.barred:
            log.warning("nothing is launched: %s", self.figures.barred or "that is over, the platform lets us in again")

    async def _bar(self, jobs: list[tuple[JobRecord, AttemptRecord | None]]) -> None:
        """Tell those of our jobs that would be launched that they have to wait, or that they need not any more."""
        message, now = self.figures.barred, self._now()
        for record, _ in jobs:
            if moves.condition(record, d.BARRED, now, message) is not None:
                with contextlib.suppress(Overtaken):
                    how = partial(moves.barred, name=d.BARRED, now=now, message=message)
                    await self._change(record.id, how)

    async def _admit(self, quota: Quota) -> None:
        """Find out who may begin, of the jobs of all gateways on the database; tell those of ours that have to wait."""
        taken, queue, now = [], {}, self._now()
        for record, attempt in await self._repository.unended():
            if attempt is not None and attempt.gone is None:
                taken.append(claim_of(record, attempt))
            else:
                queue[record.id] = record
        self._admission = admit(quota, taken, [claim_of(record) for record in queue.values()])
        self.figures.waiting = len(self._admission.places)
        for job, place in self._admission.places.items():
            if job in self._holding and moves.condition(queue[job], CROWDED, now, place.reason) is not None:
                with contextlib.suppress(Overtaken):
                    await self._change(job, partial(_crowded, now=now, reason=place.reason))

    def _let_in(self, job: str) -> bool:
        return self.figures.barred is None and (self._quota is None or job in self._admission.let_in)

    def _due(self, record: JobRecord, attempt: AttemptRecord | None) -> bool:
        sighting = self._sighting(attempt)
        if attempt and sighting and moves.sighted(record, attempt, _instances(sighting)):
            return True
        let_in = self._let_in(record.id)
        return not isinstance(d.decide(record, attempt, sighting, self._now(), self._rules, let_in=let_in), d.Wait)

    async def _observe(self, handles: dict[Handle, tuple[JobRecord, AttemptRecord]]) -> None:
        asked, now, message = next(self._count), self._now(), None
        try:
            seen = await self._launcher.observe(tuple(handles))
            self._entered()
        except CannotSee as error:
            self._entered(error)
            message = str(error) or "the platform gave no answer"
            seen = {}
            self.figures.platform_unseen += 1
        self._seen = {handle.attempt: Seen(sighting, asked) for handle, sighting in seen.items()}
        for handle, (record, attempt) in handles.items():
            told = {UNSEEN: message}
            if handle in seen:
                told[starting.NOT_STARTING] = starting.tried_again(attempt, seen[handle])
            for name, text in told.items():
                await self._tell(record, name, text, now)

    async def _tell(self, record: JobRecord, name: str, message: str | None, now: datetime) -> None:
        """Something is the case beside the job's state, or no longer (None), and not yet written down."""
        if moves.condition(record, name, now, message) is not None:
            with contextlib.suppress(Overtaken):
                await self._change(record.id, lambda job, _: moves.condition(job, name, now, message))

    async def _change(self, job: str, how: Change) -> Written | None:
        """A change by who holds the job. Raises Overtaken, and drops the job, where that is another gateway by now."""
        fence = self._holding.fence(job)
        try:
            return await self._jobs.change(job, how, fence)
        except Overtaken:
            self._holding.drop(job, fence)
            raise

    async def _work(self) -> None:
        while True:
            job = await self._queue.get()
            self._waiting.discard(job)
            if job in self._working:
                continue  # the next tick brings it back
            self._working.add(job)
            try:
                await self._advance(job)
            except Overtaken:
                log.info("%s is another gateway's now", job)
            except Exception:  # one job's fault must not stop the others; the next tick tries again
                log.exception("%s could not be advanced", job)
            finally:
                self._working.discard(job)

    async def _advance(self, job: str) -> None:
        for _ in range(MOST_STEPS if job in self._holding else 0):
            current = await self._repository.current(job)
            if current is None or current[0].state.terminal:
                self._holding.drop(job)
                return
            record, attempt = current
            sighting = await self._metered(job, attempt)
            now = self._now()
            action = d.decide(record, attempt, sighting, now, self._rules, let_in=self._let_in(job))
            if isinstance(action, d.Resolve):
                self._jobs.resolve(record)
            if isinstance(action, d.Wait | d.Resolve) or not await self._rescued(action, record, attempt):
                return
            if isinstance(action, d.Launch | d.Stop) and not self._holding.young(job, now):
                return  # another gateway may do so by now; after the next renewal it is known
            if not await self._do(action, record, attempt):
                return

    async def _rescued(self, action: d.Action, record: JobRecord, attempt: AttemptRecord | None) -> bool:
        """Whether nothing is left in the store to be taken in before the action; a head that commits leaves none."""
        if attempt is None or not attempt.boots:
            return True
        lost = isinstance(action, d.Rule) and action.verdict.state is State.FAILED
        leaves = isinstance(action, d.Leave) and not (attempt.verdict is not None and attempt.verdict.committed)
        return not (lost or leaves) or await self._jobs.rescue(record, attempt)

    def _sighting(self, attempt: AttemptRecord | None) -> Sighting | None:
        """What was seen since the attempt was last launched or stopped."""
        seen = None if attempt is None else self._seen.get(attempt.id)
        if attempt is None or seen is None or attempt.gone is not None:
            return None
        return None if seen.asked < self._acted.get(attempt.id, 0) else seen.sighting

    async def _metered(self, job: str, attempt: AttemptRecord | None) -> Sighting | None:
        """What was seen; the meter takes it in."""
        sighting = self._sighting(attempt)
        instances = {} if sighting is None else _instances(sighting)
        if instances:
            await self._change(job, _last(lambda record, last: moves.sighted(record, last, instances)))
        return sighting

    async def _do(self, action: d.Action, record: JobRecord, attempt: AttemptRecord | None) -> bool:
        """Carry an action out; gives whether there may be more to do at once."""
        now = self._now()
        match action:
            case d.Begin():
                await self._change(record.id, partial(_crowded, now=now, reason=None))
                return await self._change(record.id, lambda job, last: moves.begin(job, last, now)) is not None
            case d.Close(verdict):
                return await self._change(record.id, lambda job, _: moves.close(job, verdict, now)) is not None
            case d.Rule(verdict):
                return await self._rule(record.id, verdict)
            case _:
                return attempt is not None and await self._at_platform(action, record, attempt)

    async def _at_platform(self, action: d.Action, record: JobRecord, attempt: AttemptRecord) -> bool:
        """The same of what the platform is asked for, and of what it has said."""
        match action:
            case d.Launch():
                return await self._launch(record, attempt)
            case d.Lose(lost, by):
                return await self._lose(record.id, lost, by)
            case d.Stop(force):
                await self._launcher.stop(self._launcher.handle(attempt.id), force=force)
                self._acted[attempt.id] = next(self._count)
                await self._change(
                    record.id, _last(lambda job, last: moves.stopped(job, last, self._now(), force=force))
                )
                return False
            case d.Leave():
                return await self._leave(record.id, attempt)
            case _:
                return False

    async def _leave(self, job: str, attempt: AttemptRecord) -> bool:
        now, lease, price = self._now(), self._rules.lease, self._rules.price
        self._seen.pop(attempt.id, None)
        self._acted.pop(attempt.id, None)
        self._not_before.pop(attempt.id, None)
        how = _last(lambda record, last: moves.leave(record, last, now, lease=lease, price=price))
        left = await self._change(job, how) is not None
        await self._forget(self._launcher.handle(attempt.id))
        return left

    async def _rule(self, job: str, verdict: Verdict) -> bool:
        return await self._change(job, lambda record, last: moves.rule(record, last, verdict)) is not None

    async def _launch(self, record: JobRecord, attempt: AttemptRecord) -> bool:
        order = LaunchOrder(
            job=record.id,
            attempt=attempt.id,
            tenant=record.tenant,
            cluster=record.cluster,
            gateway_url=self._url,
            bootstrap=self._keys.bootstrap(attempt.id),
            max_seconds=record.timeout,
            code=record.code,
            replacements=tuple(replacing.asked_for(attempt, self._now())),
            lost=attempt.lost,
        )
        if self._not_before.get(attempt.id, self._now()) > self._now():
            return False
        try:
            async with asyncio.timeout(self._rules.launch_timeout):
                await self._launcher.launch(order)
        except LaunchRefused as error:
            return await self._refused(record.id, attempt, error)
        except Barred as error:
            self._entered(error)
            self._not_before[attempt.id] = self._now() + RELAUNCH
            return False  # the next look tells the jobs, and asks whether it still is so
        except (LaunchFailed, TimeoutError) as error:
            message = str(error) or "the platform gave no answer to the launch"
            self._not_before[attempt.id] = self._now() + RELAUNCH
            await self._change(record.id, lambda job, _: moves.condition(job, d.UNLAUNCHED, self._now(), message))
            return False
        self._acted[attempt.id] = next(self._count)
        self._not_before.pop(attempt.id, None)
        if attempt.launched is not None:  # a platform that never shows a replacement is not asked at every look
            self._not_before[attempt.id] = self._now() + RELAUNCH
        await self._change(record.id, lambda job, _: moves.condition(job, d.UNLAUNCHED, self._now(), None))
        await self._change(record.id, _last(lambda job, last: moves.launched(job, last, self._now())))
        return False

    async def _refused(self, job: str, attempt: AttemptRecord, error: LaunchRefused) -> bool:
        """The platform will never take the order: the attempt fails, or goes on without another worker."""
        now, message = self._now(), str(error)
        if attempt.launched is None:
            reason = Reason.IMAGE_PULL_FAILED if isinstance(error, ImageRefused) else Reason.PLATFORM_ERROR
            return await self._rule(job, Verdict(State.FAILED, now, reason, message))
        never = (InstanceSighting(index, Phase.ENDED, story=message) for index in replacing.unstarted(attempt, now))
        return await self._lose(job, tuple(never), ())

    async def _lose(self, job: str, lost: Sequence[InstanceSighting], by: Sequence[int]) -> bool:
        now = self._now()
        written = await self._change(job, _last(lambda record, last: moves.lose(record, last, lost, by, now)))
        self.figures.workers_replaced += len(by) if written is not None else 0
        return written is not None

    async def _reap(self) -> None:
        """End runs that no live attempt owns, at the start and from time to time."""
        while True:
            try:
                await self._end_orphans()
            except CannotSee as error:
                self._entered(error)
                log.info("runs without an owner could not be looked for: %s", error)
            except Exception:  # the next search may succeed
                log.exception("runs without an owner could not be ended")
            await asyncio.sleep(self._cadence.reap)

    async def _end_orphans(self) -> None:
        alive = await self._launcher.list()
        self._entered()
        orphans = [handle for handle in alive if await self._ownerless(handle)]
        self.figures.platform_runs, self.figures.orphaned_runs = len(alive), len(orphans)
        for handle in orphans:
            log.warning("%s has no owner; it is ended", handle.name)
            await self._launcher.stop(handle, force=True)
            self.figures.orphans_ended += 1
        for handle in await self._launcher.kept():
            if await self._ownerless(handle):
                await self._forget(handle)

    async def _ownerless(self, handle: Handle) -> bool:
        attempt = await self._repository.attempt(handle.attempt)
        return attempt is None or attempt.gone is not None

    async def _forget(self, handle: Handle) -> None:
        """Let the platform forget an ended run; where that fails, the next search for runs without an owner does it."""
        try:
            await self._launcher.forget(handle)
        except CannotSee as error:
            log.info("%s is not forgotten yet: %s", handle.name, error)
