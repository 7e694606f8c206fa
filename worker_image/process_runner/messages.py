"""What the driver and its child processes say to each other. Large things travel as names of files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flaregate_wire.planning import Step
from worker_image.engine.prepare import Summary
from worker_image.engine.session import Context
from worker_image.engine.tasks import Report, Task


@dataclass(frozen=True, slots=True)
class Fork:
    """To a nursery: have a child; the child's end of a channel follows."""

    child: int


@dataclass(frozen=True, slots=True)
class Kill:
    """To a nursery: end a child, and all that is in its process group."""

    child: int


@dataclass(frozen=True, slots=True)
class Exited:
    """From a nursery: a child has ended, and nothing of its process group is left."""

    child: int
    code: int
    """Its exit code, or minus the number of the signal that ended it."""


@dataclass(frozen=True, slots=True)
class Prepare:
    """To a child of the zygote: load the job's rows. It becomes the nursery of the job's workers."""

    context: Context
    files: Mapping[str, str]
    data: Path
    """Where to write the rows if this process cannot be forked any more."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """The job's rows are loaded."""

    summary: Summary
    forks: bool
    """Whether this process is a nursery now. Where the user's code has started threads, the rows are in the file."""


@dataclass(frozen=True, slots=True)
class Load:
    """To a child of the zygote: become a worker of a job of which another process has written the rows."""

    context: Context
    data: Path


@dataclass(frozen=True, slots=True)
class Run:
    """To a worker: run a task."""

    task: Task
    inputs: tuple[Path, ...]
    out: Path
    """Start of the names of all files that it leaves."""

    @property
    def parts(self) -> Path:
        """What the last step passes on."""
        return self.out.with_name(f"{self.out.name}.parts")

    def state(self, index: int) -> Path:
        """The fitted object of a step or member."""
        return self.out.with_name(f"{self.out.name}.{index}.state")

    def output(self, index: int) -> Path:
        """What a member gave."""
        return self.out.with_name(f"{self.out.name}.{index}.output")


@dataclass(frozen=True, slots=True)
class Came:
    """From a worker: a step or member of the task has ended, and its files are written."""

    report: Report
    media_type: str | None = None
    """Of its output, where it left one."""


@dataclass(frozen=True, slots=True)
class Ended:
    """From a worker: the task has ended."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Save:
    """To a worker: write a fitted pipeline."""

    steps: Sequence[Step]
    states: Sequence[Path]
    path: Path


@dataclass(frozen=True, slots=True)
class DumpData:
    """To a worker: write the job's rows for processes that do not descend from the one that loaded them."""

    path: Path


@dataclass(frozen=True, slots=True)
class Choose:
    """To a worker: ask the job's own function which of these rows is best."""

    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Answer:
    """From a worker: what came of Save, DumpData or Choose."""

    value: int = 0
    problem: str | None = None
