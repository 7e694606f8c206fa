"""The loop between a schedule and a runner. Knows neither data nor outcomes."""

import logging
from dataclasses import dataclass, field
from typing import Protocol

from flaregate_wire.events import ErrorDetail
from worker_image.engine.runner import Runner
from worker_image.engine.schedule import Schedule, Verdict
from worker_image.engine.tasks import Done, Key, Member, Report

log = logging.getLogger(__name__)

IN_FLIGHT_A_SLOT = 4
"""Tasks that a runner has at once for each slot: enough that no slot waits, few enough that little is held."""


class Sink(Protocol):
    """Takes in what tasks gave."""

    def step(self, node: str, key: Key, report: Report) -> None:
        """A step above the leaves has ended; again after a loss."""
        ...

    def leaf(self, member: Member, fold: int, report: Report) -> None:
        """A leaf has ended on one fold."""
        ...

    def failed(self, member: Member, fold: int, error: ErrorDetail) -> None:
        """A leaf could not run on one fold, or was lost."""
        ...

    def pause(self) -> None:
        """Between two waits."""
        ...


@dataclass(slots=True)
class Drive:
    """Runs schedules on one runner, and counts what that took."""

    runner: Runner
    tasks: int = 0
    hosts: dict[str, None] = field(default_factory=dict)

    def run(self, schedule: Schedule, sink: Sink) -> None:
        """Run a schedule until nothing is left of it."""
        running = 0
        while True:
            running += self._submit(schedule, sink, running)
            if schedule.releases:
                self.runner.release(tuple(schedule.releases))
                schedule.releases.clear()
            if not running:
                return
            for done in self.runner.wait():
                running -= 1
                self._take_in(schedule, sink, done)
            sink.pause()

    def _submit(self, schedule: Schedule, sink: Sink, running: int) -> int:
        slots = max(self.runner.slots(), 1)
        submitted = 0
        while running + submitted < IN_FLIGHT_A_SLOT * slots:
            taken = schedule.take(slots)
            if taken is None:
                break
            if isinstance(taken, Verdict):
                _judge(sink, taken)
                continue
            self.runner.submit(taken)
            submitted += 1
        self.tasks += submitted
        return submitted

    def _take_in(self, schedule: Schedule, sink: Sink, done: Done) -> None:
        task = done.task
        for verdict in schedule.done(done):
            _judge(sink, verdict)
        if done.loss is not None:
            log.warning("a task of node %r was lost (%s): %s", task.step.node, done.loss, done.message)
            return
        self.hosts.setdefault(done.host)
        for member, report in zip(task.members, done.reports, strict=True):
            for note in report.notes:
                log.info("%s", note)
            if task.leaf:
                sink.leaf(member, task.fold, report)
            else:
                sink.step(task.step.node, task.key, report)


def _judge(sink: Sink, verdict: Verdict) -> None:
    for member in verdict.members:
        sink.failed(member, verdict.fold, verdict.error)
