"""The local launcher's memory and eyes: the folder of a run, and the processes that belong to it."""

import json
import os
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

MARKER = "FLAREGATE_RUN"
"""A variable that every descendant inherits."""
_CLOCK_SLACK = 2.0
"""Seconds by which a process' start may seem to move when the clock is set; a pid is not used again that soon."""


@dataclass(frozen=True, slots=True)
class Marker:
    """Which container of which run of which gateway a process belongs to."""

    home: str
    attempt: str
    index: int

    def __str__(self) -> str:
        return f"{self.home}/{self.attempt}/{self.index}"

    @classmethod
    def read(cls, text: str) -> "Marker | None":
        home, *rest = text.rsplit("/", 2)
        match rest:
            case [attempt, index] if index.isdigit():
                return cls(home, attempt, int(index))
        return None


@dataclass(frozen=True, slots=True)
class Instance:
    """A container's first process, and its end once that has been seen."""

    index: int
    pid: int
    created: float
    """When the kernel says it started, in seconds since the epoch: with the pid, a process' identity."""
    ended: float | None = None
    exit_code: int | None = None
    origin: str | None = None
    """Of a warm head that another attempt has left: the attempt for which it was started, whose marker it bears."""
    since: float | None = None
    """When this attempt began to have it, by the launcher's clock; the kernel's is a second off at times."""
    owner: str | None = None
    """In the record of the attempt for which it was started: who has it now, nobody (empty), or that attempt (None)."""

    @property
    def started(self) -> datetime:
        return datetime.fromtimestamp(self.since or self.created, UTC)

    def process(self) -> psutil.Process | None:
        """The process itself, if it is alive."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < _CLOCK_SLACK
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


class Run:
    """A folder: `run.json` (how many containers), for each `<index>.json` and `<index>.log`, and perhaps `parked`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def exists(self) -> bool:
        return self.folder.is_dir()

    def intend(self, instances: int) -> None:
        """Write down what will be started, before anything is."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.intended() < instances:
            _write(self.folder / "run.json", {"instances": instances})

    def intended(self) -> int:
        try:
            return int(json.loads((self.folder / "run.json").read_text())["instances"])
        except FileNotFoundError:
            return 0

    def instances(self) -> dict[int, Instance]:
        """What is written down as started."""
        found = (Instance(**json.loads(path.read_text())) for path in self.folder.glob("[0-9]*.json"))
        return {instance.index: instance for instance in found}

    def record(self, instance: Instance) -> None:
        _write(self.folder / f"{instance.index}.json", asdict(instance))

    def forget(self, index: int) -> None:
        """As if that container had never been started."""
        (self.folder / f"{index}.json").unlink()

    @property
    def parked(self) -> Path:
        """The file by which the head that was started here says that it waits for another job."""
        return self.folder / "parked"

    def output(self, index: int) -> Path:
        """Where the container's first process prints."""
        return self.folder / f"{index}.log"


def _write(path: Path, content: dict[str, object]) -> None:
    """Whole or not at all."""
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(content))
    draft.replace(path)


def marked() -> Iterator[tuple[psutil.Process, Marker | None]]:
    """Every process of this machine that can be read and is alive, with its marker."""
    for process in psutil.process_iter():
        try:
            text = process.environ().get(MARKER, "")
            if process.status() != psutil.STATUS_ZOMBIE:
                yield process, Marker.read(text)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue


def members(markers: Collection[Marker], leaders: Collection[Instance] = ()) -> list[tuple[psutil.Process, Marker]]:
    """The processes that bear one of the markers.

    With `leaders`, also those without a readable marker in the session that one of these first processes opened: a
    program that writes its title into its environment, as Ray's do, destroys the marker.
    """
    sessions = {leader.pid: leader for leader in leaders if _still_its_session(leader)}
    by_index = {marker.index: marker for marker in markers}
    found = []
    for process, marker in marked():
        if marker is None:
            leader = sessions.get(_session(process))
            marker = by_index.get(leader.index) if leader else None  # noqa: PLW2901
        if marker in markers and marker is not None:
            found.append((process, marker))
    return found


def _still_its_session(leader: Instance) -> bool:
    """A session keeps its number while it has members, so only a stranger that leads it now would make it another."""
    return leader.process() is not None or not psutil.pid_exists(leader.pid) or _is_zombie(leader.pid)


def _is_zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _session(process: psutil.Process) -> int:
    try:
        return os.getsid(process.pid)
    except (ProcessLookupError, PermissionError):
        return -1
