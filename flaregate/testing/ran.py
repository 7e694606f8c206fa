"""A job that was run without a gateway: its events and how it ended, seen as the SDK sees any job."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flaregate.outcomes import Outcome, Result, result_of
from flaregate.payload import decode_data
from flaregate.submission import Submission
from flaregate_wire import jobs
from flaregate_wire.events import OutcomeEvent, Reported
from flaregate_wire.states import Reason, State


@dataclass(frozen=True, slots=True)
class Left:
    """An artifact of a job."""

    path: Path
    media_type: str


@dataclass(frozen=True, slots=True)
class Ran:
    """A job that has ended. What it left stays readable as long as its folder."""

    submission: Submission
    succeeded: bool
    events: Sequence[Reported] = ()
    reason: Reason | None = None
    message: str | None = None
    totals: jobs.Result | None = None
    artifacts: Mapping[str, Left] = field(default_factory=dict)
    """By name."""
    id: str = "in-process"

    @property
    def view(self) -> jobs.JobView:
        """What a gateway would show of it."""
        definition, now = self.submission.definition, datetime.now(UTC)
        return jobs.JobView(
            id=self.id,
            name=definition.pipeline.name,
            action=definition.action,
            project=definition.project,
            labels=definition.labels,
            state=State.SUCCEEDED if self.succeeded else State.FAILED,
            reason=self.reason,
            message=self.message,
            created=now,
            ended=now,
            cluster=CLUSTER,
            result=self.totals,
            definition=definition,
            version=1,
        )

    @property
    def result(self) -> Result:
        """What it gave, however it ended."""
        events = [event for event in self.events if isinstance(event, OutcomeEvent)]
        return result_of(self.view, events, self.submission.own, self, list(self.artifacts))

    @property
    def outcomes(self) -> list[Outcome]:
        """In candidate order."""
        return self.result.outcomes

    @property
    def stats(self) -> jobs.Stats:
        """What the engine counted."""
        return self.totals.stats if self.totals else jobs.Stats()

    def pipeline(self, name: str | None = None) -> Any:
        """The fitted pipeline of an artifact. Its code runs here."""
        from flaregate.fitted import load  # noqa: PLC0415 - needs scikit-learn

        return load(self.artifacts[name or "best"].path, trust=True)

    def load(self, name: str) -> Any:
        """The object of an artifact."""
        left = self.artifacts[name]
        return decode_data(left.media_type, left.path)


CLUSTER = jobs.Cluster(
    topology="single", workers=0, min_workers=0, cpus=2, memory=1_000_000_000, why="it runs without a gateway"
)
"""What such a job is told of where it runs."""

RunJob = Callable[[Submission, Path], Ran]
"""Runs a job to its end and leaves its artifacts in an empty folder. It raises nothing for what user code does."""
