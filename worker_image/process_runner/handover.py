"""HandoverRunner: begins on child processes at once, and goes over to a cluster when that is up and warm."""

import logging
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import count
from pathlib import Path
from threading import Thread
from time import monotonic
from typing import Any, Protocol

from flaregate_wire.planning import Step
from worker_image.engine.prepare import JobFailed, Summary
from worker_image.engine.runner import Runner, SaveFailed
from worker_image.engine.session import Context
from worker_image.engine.tasks import Cut, Done, Key, Task

log = logging.getLogger(__name__)

SETTLE_SECONDS = 0.5
"""A job that is done so soon has nothing to hand over."""
_LOOK_SECONDS = 0.05
"""Between looks for the successor."""
_TURN_SECONDS = 0.01
"""Between looks at the other runner while both have tasks."""


class Predecessor(Runner, Protocol):
    """A runner that can give away what it has: ProcessRunner."""

    @property
    def busy(self) -> float:
        """CPUs of the tasks that run now."""
        ...

    def recall(self) -> Sequence[Task]:
        """Give back the tasks that have not begun."""
        ...

    def export_state(self, key: Key, path: Path) -> int:
        """As `export`, of a fitted state."""
        ...

    def export_data(self, path: Path) -> None:
        """Write the job's rows. Raises SaveFailed."""
        ...

    def close(self) -> None:
        """End every process."""
        ...


class Successor(Runner, Protocol):
    """A runner that goes on with a job that another one has prepared: RayRunner."""

    def inherit(self, context: Context, data: Path) -> None:
        """Begin with the rows that `export_data` wrote; instead of `prepare`. Returns when tasks would start at once.

        Nothing is drawn a second time: both runners have the same folds. Raises JobFailed. Runs in a thread.
        """
        ...

    def adopt_state(self, key: Key, path: Path) -> None:
        """As `adopt`, of a fitted state."""
        ...


class HandoverRunner:
    """Tasks go to the first runner until the second is ready, then to the second; what runs on the first ends there.

    Both may stand on the same CPUs: while the first has tasks, the second gets as many fewer.
    """

    def __init__(
        self, first: Predecessor, later: Callable[[], Successor | None], settle: float = SETTLE_SECONDS
    ) -> None:
        """`later` gives the second runner once there is one; it is asked often, and must not wait."""
        self._first = first
        self._later = later
        self._settle = settle
        self._folder = Path(tempfile.mkdtemp(prefix="handover-"))
        self._files = count()
        self._begin()

    def _begin(self, context: Context | None = None) -> None:
        self._context = context
        self._since = monotonic()
        self._successor: Successor | None = None
        self._inheriting: Thread | None = None
        self._problem: BaseException | None = None
        self._second: Successor | None = None
        self._used = False
        self._waiting: deque[Task] = deque()
        """For the second, while the first still has the CPUs."""
        self._on_first: dict[int, Task] = {}
        self._on_second: dict[int, Task] = {}
        self._adopted: dict[Key, Path] = {}
        self._at_second: set[Key] = set()
        self._states_at_first: set[Key] = set()
        self._outputs_at_first: set[int] = set()

    @property
    def name(self) -> str:
        return self._second.name if self._used and self._second is not None else self._first.name

    def slots(self) -> int:
        return self._first.slots() if self._second is None else self._second.slots()

    def idle_workers(self) -> tuple[int, ...]:
        return () if self._second is None or self._waiting else self._second.idle_workers()

    def prepare(self, context: Context, files: Mapping[str, str]) -> Summary:
        summary = self._first.prepare(context, files)
        self._begin(context)
        return summary

    def close(self) -> None:
        """End the first runner's processes. The second is the caller's."""
        self._first.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    # --- tasks

    def submit(self, task: Task) -> None:
        if self._second is None:
            self._on_first[task.number] = task
            self._first.submit(task)
        else:
            self._waiting.append(task)
            self._feed(self._second)

    def wait(self, timeout: float | None = None) -> Sequence[Done]:
        end = None if timeout is None else monotonic() + timeout
        while True:
            self._advance()
            done = self._collect(None if end is None else max(0.0, end - monotonic()))
            idle = not (self._on_first or self._on_second or self._waiting)
            if done or idle or (end is not None and monotonic() >= end):
                return done

    def _collect(self, left: float | None) -> list[Done]:
        found: list[Done] = []
        if self._on_first:
            pause = _LOOK_SECONDS if self._second is None else _TURN_SECONDS if self._on_second else _LOOK_SECONDS
            for done in self._first.wait(pause if left is None else min(pause, left)):
                self._note(done)
                found.append(done)
            left = 0.0
        if self._second is not None and self._on_second:
            for done in self._second.wait(left):
                del self._on_second[done.task.number]
                found.append(done)
        return found

    def _note(self, done: Done) -> None:
        """Remember what the first runner holds of a task."""
        task = self._on_first.pop(done.task.number)
        if task.keeps_state:
            ended = zip(task.digests, done.reports, strict=False)
            self._states_at_first.update((digest, task.cut) for digest, report in ended if report.error is None)
        if any(report.held for report in done.reports):
            self._outputs_at_first.add(task.number)

    def _advance(self) -> None:
        if self._second is not None:
            self._feed(self._second)
        elif self._inheriting is not None:
            if not self._inheriting.is_alive():
                self._go_over()
        elif self._problem is None and monotonic() - self._since >= self._settle:
            try:
                self._successor = self._later()
                if self._successor is not None:
                    self._hand_over(self._successor)
            except (JobFailed, SaveFailed) as error:
                self._stay(error)

    def _hand_over(self, successor: Successor) -> None:
        assert self._context is not None  # noqa: S101 - tasks come after `prepare`
        context, data = self._context, self._folder / str(next(self._files))
        self._first.export_data(data)

        def inherit() -> None:
            try:
                successor.inherit(context, data)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - Ray leaves so; the thread that waits tells it
                self._problem = error
            finally:
                data.unlink(missing_ok=True)

        self._inheriting = Thread(target=inherit, name="inherit", daemon=True)
        self._inheriting.start()

    def _go_over(self) -> None:
        self._inheriting = None
        if self._problem is not None:
            self._stay(self._problem)
            return
        self._second = self._successor
        for task in self._first.recall():
            del self._on_first[task.number]
            self._waiting.append(task)
        self._advance()

    def _stay(self, problem: BaseException) -> None:
        """The job goes on where it is."""
        self._problem = problem
        words = problem.message if isinstance(problem, JobFailed) else f"{type(problem).__name__}: {problem}"
        log.warning("the job stays on %s: %s", self._first.name, words)

    def _feed(self, second: Successor) -> None:
        while self._waiting and (not self._on_first or len(self._on_second) < second.slots() - self._first.busy):
            task = self._waiting.popleft()
            for key in task.inputs:
                self._give(second, key)
            self._on_second[task.number] = task
            self._at_second.add(task.key)
            self._states_at_first.difference_update((digest, task.cut) for digest in task.digests)
            self._used = True
            second.submit(task)

    def _give(self, second: Successor, key: Key) -> None:
        if key not in self._at_second:
            path = self._folder / str(next(self._files))
            self._first.export(key, path)
            second.adopt(key, path)
            self._adopted[key] = path
            self._at_second.add(key)

    # --- what is held

    def release(self, keys: Collection[Key]) -> None:
        self._first.release(keys)
        if self._second is not None:
            self._second.release(keys)
        for key in keys:
            self._at_second.discard(key)
            if key in self._adopted:
                self._adopted.pop(key).unlink(missing_ok=True)

    def save(self, steps: Sequence[Step], cut: Cut, path: Path) -> None:
        here = {(step.digest, cut) for step in steps} & self._states_at_first
        if self._second is None or len(here) == len({step.digest for step in steps}):
            self._first.save(steps, cut, path)
            return
        for key in here:
            state = self._folder / str(next(self._files))
            self._first.export_state(key, state)
            self._second.adopt_state(key, state)
        self._second.save(steps, cut, path)

    def forget(self) -> None:
        self._states_at_first.clear()
        self._first.forget()
        if self._second is not None:
            self._second.forget()

    def save_output(self, task: Task, index: int, path: Path) -> str:
        return self._holder(task.number in self._outputs_at_first).save_output(task, index, path)

    def export(self, key: Key, path: Path) -> int:
        return self._holder(key not in self._at_second).export(key, path)

    def adopt(self, key: Key, path: Path) -> None:
        if self._second is None:
            self._first.adopt(key, path)
        else:
            self._second.adopt(key, path)
            self._at_second.add(key)

    def choose(self, rows: Sequence[Mapping[str, Any]]) -> int:
        return self._first.choose(rows)

    def _holder(self, first: bool) -> Runner:  # noqa: FBT001
        return self._first if first or self._second is None else self._second
