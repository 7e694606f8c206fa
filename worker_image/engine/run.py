"""What one run of one job has: its plan, its runner, its way to report, its counts. Shared by all that work on it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from flaregate_wire.definitions import JobDefinition
from flaregate_wire.events import AttemptEvent, AttemptPhase, Reported
from flaregate_wire.planning import Plan, Step
from worker_image.cache import Cache, NoCache
from worker_image.engine.drive import Drive
from worker_image.engine.prepare import Summary
from worker_image.engine.progress import Progress
from worker_image.engine.runner import Runner
from worker_image.engine.tasks import Cut
from worker_image.work import LocalArtifact


class Say(Protocol):
    """Takes an event, and the files that must be in the store before it is told."""

    def __call__(self, event: Reported, files: Sequence[LocalArtifact] = ()) -> None: ...


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


@dataclass(slots=True)
class Run:
    """One run of one job."""

    plan: Plan
    runner: Runner
    report: Say
    scratch: Path
    attempt: int = 1
    now: Callable[[], datetime] = utc_now
    cache: Cache = field(default_factory=NoCache)
    job: str = ""
    """Its id: what draws random numbers is shared within it alone."""
    summary: Summary = field(default_factory=lambda: Summary(()))
    progress: Progress = field(init=False)
    drive: Drive = field(init=False)

    def __post_init__(self) -> None:
        self.progress = Progress(self.report, self.now, self.attempt, 0)
        self.drive = Drive(self.runner, let_go=lambda worker: self.reached("released", worker))

    @property
    def definition(self) -> JobDefinition:
        """Of the job."""
        return self.plan.definition

    def reached(self, phase: AttemptPhase, index: int = 0) -> None:
        """Report that a container has reached a phase now."""
        self.report(AttemptEvent(time=self.now(), attempt=self.attempt, phase=phase, index=index))

    def save(self, steps: Sequence[Step], cut: Cut, name: str) -> Path:
        """Write a fitted pipeline, whose states the runner holds. Raises SaveFailed or StatesLost."""
        path = self.scratch / f"{name}.flaregate"
        self.runner.save(steps, cut, path)
        return path
