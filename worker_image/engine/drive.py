"""The loop between a schedule and a runner. Knows neither data nor outcomes."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from flaregate_wire.events import ErrorDetail
from flaregate_wire.planning.families import Member
from worker_image.engine.runner import Runner
from worker_image.engine.schedule import Load, Schedule, Verdict
from worker_image.engine.tasks import Cut, Done, Report, Task

log = logging.getLogger(__name__)

IN_FLIGHT_A_SLOT = 3
"""Tasks that a runner has at once for each slot: enough that no slot waits, few enough that little is held."""
PAUSE_SECONDS = 0.5
"""How long to wait for a task at most, before the sink may speak."""


class Sink(Protocol):
    """Takes in what tasks gave."""

    @property
    def stopped(self) -> bool:
        """Whether no more is wanted."""
        ...

    def steps(self, task: Task, reports: tuple[Report, ...], seconds: float) -> None:
        """Steps above the leaves have ended; again after a loss. What the last made is held by the runner."""
        ...

    def loaded(self, load: Load) -> None:
        """What steps make was loaded instead."""
        ...

    def leaf(self, task: Task | None, index: int, member: Member, cut: Cut, report: Report) -> None:
        """A leaf has ended on one cut, as member `index` of a task; without a task it was known before."""
        ...

    def failed(self, member: Member, cut: Cut, error: ErrorDetail) -> None:
        """A leaf could not run on one cut, or was lost."""
        ...

    def pause(self) -> None:
        """Between two waits."""
        ...


@dataclass(slots=True)
class Drive:
    """Runs schedules on one runner, and counts what that took."""

    runner: Runner
    load: Callable[[Load], Path | None] = lambda _: None
    let_go: Callable[[int], None] = lambda _: None
    """Told the number of a worker that is no longer needed, once."""
    tasks: int = 0
    seconds: float = 0.0
    """Of all tasks, in their processes."""
    hosts: dict[str, None] = field(default_factory=dict)
    _gone: set[int] = field(default_factory=set)

    def run(self, schedule: Schedule, sink: Sink) -> None:
        """Run a schedule until nothing is left of it, or the sink wants no more."""
        running = self._submit(schedule, sink, 0)
        for member, cut, report in schedule.given():
            sink.leaf(None, 0, member, cut, report)
        while running and not sink.stopped:
            for done in self.runner.wait(PAUSE_SECONDS):
                running -= 1
                self._take_in(schedule, sink, done)
            running += self._submit(schedule, sink, running)
            if schedule.releases:
                self.runner.release(tuple(schedule.releases))
                schedule.releases.clear()
            if schedule.exhausted:
                self.let_idle_go()
            sink.pause()

    def let_idle_go(self) -> None:
        """Let the workers go that have nothing to do."""
        for index in self.runner.idle_workers():
            if index not in self._gone:
                self._gone.add(index)
                self.let_go(index)

    def _submit(self, schedule: Schedule, sink: Sink, running: int) -> int:
        slots = max(self.runner.slots(), 1)
        submitted = 0
        while running + submitted < IN_FLIGHT_A_SLOT * slots:
            taken = schedule.take(slots)
            if taken is None:
                break
            if isinstance(taken, Verdict):
                _judge(sink, taken)
            elif isinstance(taken, Load):
                self._load(schedule, sink, taken)
            else:
                self.runner.submit(taken)
                submitted += 1
        self.tasks += submitted
        return submitted

    def _load(self, schedule: Schedule, sink: Sink, load: Load) -> None:
        path = self.load(load)
        if path is not None:
            self.runner.adopt(load.key, path)
            sink.loaded(load)
        schedule.loaded(load, there=path is not None)

    def _take_in(self, schedule: Schedule, sink: Sink, done: Done) -> None:
        task = done.task
        self.seconds += done.seconds
        if done.loss is not None:
            log.warning("a task of node %r was lost (%s): %s", task.step.node, done.loss, done.message)
        else:
            self.hosts.setdefault(done.host)
        for report in done.reports:
            for note in report.notes:
                log.info("%s", note)
        if task.leaf:
            for index, (member, report) in enumerate(zip(task.members, done.reports, strict=False)):
                sink.leaf(task, index, member, task.cut, report)
        elif done.loss is None:
            sink.steps(task, done.reports, done.seconds)
        for verdict in schedule.done(done):
            _judge(sink, verdict)


def _judge(sink: Sink, verdict: Verdict) -> None:
    for member in verdict.members:
        sink.failed(member, verdict.cut, verdict.error)
