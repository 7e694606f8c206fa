"""The loop between what is recorded and what the platform says. `decide` says what to do; here it is done."""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from flaregate_wire.states import Reason, State
from gateway.jobs import decisions as d
from gateway.jobs import moves
from gateway.jobs.keys import Keys
from gateway.jobs.records import AttemptRecord, Instance, JobRecord, Verdict
from gateway.jobs.repository import Change, SqlRepository, Written
from gateway.launchers.base import CannotSee, Handle, Launcher, LaunchFailed, LaunchOrder, LaunchRefused, Sighting

log = logging.getLogger(__name__)
WORKERS = 8
MOST_STEPS = 20
"""Steps that one job takes in a row at most; what is left waits for the next tick."""
SOON = 0.03
"""Seconds between what containers say and a look at the platform, which shows what they do next."""
UNSEEN = "platform_unseen"
UNLAUNCHED = "launch_failed"
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


class Jobs(Protocol):
    """What the reconciler asks of the service."""

    async def change(self, job: str, how: Change) -> Written | None:
        """Apply a change, and tell everyone who waits for it."""

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
        self._launcher = launcher
        self._keys = keys
        self._jobs = jobs
        self._change = jobs.change
        self._rules = rules
        self._cadence = cadence
        self._url = gateway_url
        self._now = clock
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._waiting: set[str] = set()
        self._working: set[str] = set()
        self._active: set[str] = set()
        self._seen: dict[str, Seen] = {}
        self._acted: dict[str, int] = {}
        """When an attempt was last launched or stopped; what was seen before is about its past."""
        self._count = itertools.count(1)
        self._not_before: dict[str, datetime] = {}
        self._stirred = asyncio.Event()

    def nudge(self, job: str) -> None:
        """Something has happened to a job: look at the platform soon, and at the job now."""
        self._stirred.set()
        self._enqueue(job)

    def _enqueue(self, job: str) -> None:
        """Have a job looked at; one that is in the queue already is not put there again."""
        self._active.add(job)
        if job not in self._waiting:
            self._waiting.add(job)
            self._queue.put_nowait(job)

    @property
    def idle(self) -> bool:
        """Whether every job has ended."""
        return not self._active

    async def run(self) -> None:
        """Take up every job that has not ended, and go on until cancelled."""
        for job in await self._repository.active():
            self.nudge(job)
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work())
            group.create_task(self._look())
            group.create_task(self._reap())

    async def _look(self) -> None:
        """One question to the platform a tick, or sooner when something happens; none while nothing is active."""
        while True:
            if not self._active:
                self._stirred.clear()
                await self._stirred.wait()
            self._stirred.clear()
            try:
                handles = await self._handles()
                if handles:
                    await self._observe(handles)
            except Exception:  # whatever it was, the next look may succeed; without looks no job would ever end
                log.exception("the platform could not be looked at")
            for job in tuple(self._active):
                self._enqueue(job)
            with contextlib.suppress(TimeoutError):  # not wait_for, which in Python 3.11 can lose a cancel
                async with asyncio.timeout(self._cadence.tick):
                    await self._stirred.wait()
                await asyncio.sleep(min(SOON, self._cadence.tick))

    async def _handles(self) -> dict[Handle, str]:
        present = await self._repository.present()
        return {self._launcher.handle(attempt.id): attempt.job for attempt in present}

    async def _observe(self, handles: dict[Handle, str]) -> None:
        asked, now = next(self._count), self._now()
        try:
            seen = await self._launcher.observe(tuple(handles))
        except CannotSee as error:
            message = str(error) or "the platform gave no answer"
            self._seen.clear()
            for job in handles.values():
                await self._change(job, lambda record, _: moves.condition(record, UNSEEN, now, message))
            return
        self._seen = {handle.attempt: Seen(sighting, asked) for handle, sighting in seen.items()}
        for job in handles.values():
            await self._change(job, lambda record, _: moves.condition(record, UNSEEN, now, None))

    async def _work(self) -> None:
        while True:
            job = await self._queue.get()
            self._waiting.discard(job)
            if job in self._working:
                continue  # the next tick brings it back
            self._working.add(job)
            try:
                await self._advance(job)
            except Exception:  # one job's fault must not stop the others; the next tick tries again
                log.exception("%s could not be advanced", job)
            finally:
                self._working.discard(job)

    async def _advance(self, job: str) -> None:
        for _ in range(MOST_STEPS):
            current = await self._repository.current(job)
            if current is None or current[0].state.terminal:
                self._active.discard(job)
                return
            record, attempt = current
            sighting = await self._metered(job, attempt)
            action = d.decide(record, attempt, sighting, self._now(), self._rules)
            if isinstance(action, d.Wait) or not await self._rescued(action, record, attempt):
                return
            if not await self._do(action, record, attempt):
                return

    async def _rescued(self, action: d.Action, record: JobRecord, attempt: AttemptRecord | None) -> bool:
        """Whether nothing is left in the store to be taken in before the action; a head that commits leaves none."""
        if attempt is None or not attempt.boots:
            return True
        lost = isinstance(action, d.Rule) and action.verdict.state is State.FAILED
        leaves = isinstance(action, d.Leave) and not (attempt.verdict is not None and attempt.verdict.committed)
        return not (lost or leaves) or await self._jobs.rescue(record, attempt)

    async def _metered(self, job: str, attempt: AttemptRecord | None) -> Sighting | None:
        """What was seen since the attempt was last launched or stopped; the meter takes it in."""
        seen = None if attempt is None else self._seen.get(attempt.id)
        if attempt is None or seen is None or attempt.gone is not None:
            return None
        if seen.asked < self._acted.get(attempt.id, 0):
            return None
        instances = {
            item.index: Instance(item.started, item.ended)
            for item in seen.sighting.instances
            if item.started is not None
        }
        if instances:
            await self._change(job, _last(lambda record, last: moves.sighted(record, last, instances)))
        return seen.sighting

    async def _do(self, action: d.Action, record: JobRecord, attempt: AttemptRecord | None) -> bool:
        """Carry an action out; gives whether there may be more to do at once."""
        now = self._now()
        match action:
            case d.Begin():
                return await self._change(record.id, lambda job, last: moves.begin(job, last, now)) is not None
            case d.Close(verdict):
                return await self._change(record.id, lambda job, _: moves.close(job, verdict, now)) is not None
            case d.Rule(verdict):
                return await self._rule(record.id, verdict)
            case _ if attempt is None:
                return False
            case d.Launch():
                return await self._launch(record, attempt)
            case d.Stop(force):
                await self._launcher.stop(self._launcher.handle(attempt.id), force=force)
                self._acted[attempt.id] = next(self._count)
                await self._change(
                    record.id, _last(lambda job, last: moves.stopped(job, last, self._now(), force=force))
                )
                return False
            case d.Leave():
                lease = self._rules.lease
                self._seen.pop(attempt.id, None)
                self._acted.pop(attempt.id, None)
                return (
                    await self._change(record.id, _last(lambda job, last: moves.leave(job, last, now, lease=lease)))
                    is not None
                )
            case _:
                return False

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
        )
        if self._not_before.get(attempt.id, self._now()) > self._now():
            return False
        try:
            async with asyncio.timeout(self._rules.launch_timeout):
                await self._launcher.launch(order)
        except LaunchRefused as error:
            return await self._rule(record.id, Verdict(State.FAILED, self._now(), Reason.PLATFORM_ERROR, str(error)))
        except (LaunchFailed, TimeoutError) as error:
            message = str(error) or "the platform gave no answer to the launch"
            self._not_before[attempt.id] = self._now() + RELAUNCH
            await self._change(record.id, lambda job, _: moves.condition(job, UNLAUNCHED, self._now(), message))
            return False
        self._acted[attempt.id] = next(self._count)
        self._not_before.pop(attempt.id, None)
        await self._change(record.id, lambda job, _: moves.condition(job, UNLAUNCHED, self._now(), None))
        await self._change(record.id, _last(lambda job, last: moves.launched(job, last, self._now())))
        return False

    async def _reap(self) -> None:
        """End runs that no live attempt owns, at the start and from time to time."""
        while True:
            try:
                await self._end_orphans()
            except CannotSee as error:
                log.info("runs without an owner could not be looked for: %s", error)
            except Exception:  # the next search may succeed
                log.exception("runs without an owner could not be ended")
            await asyncio.sleep(self._cadence.reap)

    async def _end_orphans(self) -> None:
        for handle in await self._launcher.list():
            attempt = await self._repository.attempt(handle.attempt)
            if attempt is None or attempt.gone is not None:
                log.warning("%s has no owner; it is ended", handle.name)
                await self._launcher.stop(handle, force=True)
