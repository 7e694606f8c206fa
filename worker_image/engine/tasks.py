"""What runners are given and what they give back. Plain data; a report is small enough to travel by value."""

from dataclasses import dataclass
from enum import StrEnum

from flaregate_wire.events import ErrorDetail, WarningDetail
from flaregate_wire.planning import Step

ALL_ROWS = -1
"""The number of the "fold" that trains on every row and tests on none."""

Key = tuple[str, int]
"""What one step made of one fold: (digest of the step, number of the fold)."""


@dataclass(frozen=True, slots=True)
class Member:
    """One leaf in one setting, and the candidates that end in it."""

    step: Step
    candidates: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """One submission to a runner: a step above the leaves, or a batch of leaves that share their upstream."""

    number: int
    fold: int
    inputs: tuple[Key, ...]
    """Results that must be held by the runner; none where the step reads the job's own rows."""
    members: tuple[Member, ...]
    leaf: bool
    tries: int = 0
    """How often it was lost with its node."""

    @property
    def step(self) -> Step:
        """The step of a task above the leaves."""
        return self.members[0].step

    @property
    def key(self) -> Key:
        """Where the runner keeps what a task above the leaves made."""
        return self.step.digest, self.fold

    @property
    def keeps_state(self) -> bool:
        """Whether its fitted object is wanted beside its scores: where all rows train. It has one member then."""
        return self.fold == ALL_ROWS


@dataclass(frozen=True, slots=True)
class Report:
    """What one step gave on one fold, without the data it passed on."""

    error: ErrorDetail | None = None
    fit_time: float = 0.0
    """Seconds, of fitting and transforming the training rows."""
    score_time: float = 0.0
    """Seconds, of transforming or scoring the test rows."""
    scores: dict[str, float] | None = None
    train_scores: dict[str, float] | None = None
    warnings: tuple[WarningDetail, ...] = ()
    fitted: bool = False
    inner_fits: int = 0
    notes: tuple[str, ...] = ()
    """Lines for the log."""


class Loss(StrEnum):
    """Why a task gave no reports."""

    DIED = "died"
    """The process that ran it ended: its own doing."""
    NODE_LOST = "node_lost"
    """The machine that ran it is gone."""
    INPUT_LOST = "input_lost"
    """What it needs was on a machine that is gone."""


@dataclass(frozen=True, slots=True)
class Done:
    """A task that ended: one report for each member, or why there is none."""

    task: Task
    reports: tuple[Report, ...] = ()
    seconds: float = 0.0
    """Of the whole task, in its process."""
    host: str = ""
    loss: Loss | None = None
    message: str = ""
