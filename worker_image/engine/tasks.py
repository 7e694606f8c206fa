"""What runners are given and what they give back. Plain data; a report is small enough to travel by value."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from pydantic import JsonValue

from flaregate_wire.definitions import Needs
from flaregate_wire.events import ErrorDetail, WarningDetail
from flaregate_wire.planning import Step
from flaregate_wire.planning.families import Member

ALL_ROWS = -1
"""The number of the "fold" that trains on every row and tests on none."""


class Cut(NamedTuple):
    """Which rows of which source object train and which test."""

    source: int = 0
    """Number of the source object."""
    fold: int = ALL_ROWS
    resources: int = 0
    """Rows of the source that successive halving grants; 0 where all are."""


Key = tuple[str, Cut]
"""What one step made of one cut: (digest of the step, cut)."""


@dataclass(frozen=True, slots=True)
class Task:
    """One submission to a runner: a run of steps above the leaves, or a batch of leaves that share their upstream."""

    number: int
    cut: Cut
    inputs: tuple[Key, ...]
    """Results that must be held by the runner; none where the job's own rows are read."""
    steps: tuple[Step, ...] = ()
    """Above the leaves: each feeds the next one alone, and the last one's result is held under `key`."""
    members: tuple[Member, ...] = ()
    """Leaves, all on the same inputs. A task has either steps or members."""
    rows: tuple[int, int] | None = None
    """Of a map's block: the first row and the one after the last."""
    needs: Needs | None = None
    """None: one CPU, no limit of time, no second try."""
    keeps_state: bool = False
    """Whether fitted objects are wanted beside what it gives."""
    tries: int = 0
    """How often it was lost with its node, or ended in a way that its node's `retries` forgive."""

    @property
    def leaf(self) -> bool:
        """Whether it runs leaves."""
        return bool(self.members)

    @property
    def step(self) -> Step:
        """The last step, or the first leaf."""
        return self.members[0].step if self.members else self.steps[-1]

    @property
    def key(self) -> Key:
        """Where the runner holds what the last step made."""
        return self.step.digest, self.cut

    @property
    def digests(self) -> tuple[str, ...]:
        """Of what it runs, in the order of its reports."""
        return tuple(step.digest for step in self.steps) or tuple(member.step.digest for member in self.members)


@dataclass(frozen=True, slots=True)
class Report:
    """What one step gave on one cut, without the data it passed on."""

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
    metrics: Mapping[str, JsonValue] | None = None
    """The numbers that a sweep's cell gave."""
    output: JsonValue = None
    """What a leaf gave beside scores, as a typed value, where that is small."""
    held: bool = False
    """Whether the runner holds what it gave, to be written by `save_output`."""
    media_type: str = ""
    """Of what was held, once it is a file."""
    cached: bool = False
    """Whether it comes from the cache."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What one step or one leaf of a task gave, where it ran."""

    report: Report
    parts: Any = None
    """Of a step: the rows that it passes on, as Parts. Of a leaf with `held`: its output."""
    state: Any = None
    """The fitted object."""


class Loss(StrEnum):
    """Why a task gave fewer reports than it should."""

    DIED = "died"
    """The process that ran it ended: its own doing."""
    TIMED_OUT = "timed_out"
    """It took longer than its node's `timeout`, and its process was ended."""
    NODE_LOST = "node_lost"
    """The machine that ran it is gone."""
    INPUT_LOST = "input_lost"
    """What it needs was on a machine that is gone."""


@dataclass(frozen=True, slots=True)
class Done:
    """A task that ended: a report for each step or member, in order; fewer where it was lost on the way."""

    task: Task
    reports: tuple[Report, ...] = ()
    seconds: float = 0.0
    """Of the whole task, in its process."""
    host: str = ""
    loss: Loss | None = None
    message: str = ""
