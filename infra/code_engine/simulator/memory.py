"""How much memory the processes of an instance have, and an end for those that have more than they may. Linux only."""

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

log = logging.getLogger(__name__)
PROC = Path("/proc")
EVERY = 0.2
"""Seconds between looks."""
_ROUNDS = 100
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class _Seen:
    pid: int
    parent: int
    session: int
    started: int
    """In clock ticks since the machine's start: with the number, a process' identity."""
    dead: bool
    """Whether it only waits until its parent has heard of its end."""


@dataclass
class Tree:
    """A process that leads a session, and all that has come from it, wherever it has gone since."""

    root: int
    limit: int
    """Bytes that all of it may have together."""
    starved: bool = False
    """Whether it was ended for having more."""
    known: dict[int, int] = field(default_factory=dict)
    """When each that was seen alive had started."""

    def grow(self, seen: dict[int, _Seen]) -> list[int]:
        """Take in what is new; gives what is alive. No other process gets the session's number while it has one."""
        found = {pid for pid, started in self.known.items() if pid in seen and seen[pid].started == started}
        if not self.known or any(seen[pid].session == self.root for pid in found):
            found |= {one.pid for one in seen.values() if one.session == self.root}
        new = found
        while new:
            new = {one.pid for one in seen.values() if one.parent in new} - found
            found |= new
        self.known = {pid: seen[pid].started for pid in found}
        return sorted(pid for pid in found if not seen[pid].dead)

    def kill(self) -> None:
        """All of it, until nothing is left that could start more."""
        alive: list[int] = []
        for _ in range(_ROUNDS):
            alive = self.grow(_processes())
            if not alive:
                return
            for pid in alive:
                _kill(pid)
        log.error("processes of %d do not end: %s", self.root, alive)

    def check(self, seen: dict[int, _Seen]) -> None:
        alive = self.grow(seen)
        if sum(map(_resident, alive)) > self.limit and sum(map(_proportional, alive)) > self.limit:
            self.starved = True
            self.kill()


class Watch:
    """A thread that looks at all trees."""

    def __init__(self) -> None:
        self._trees: list[Tree] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name="memory", daemon=True)
        self._thread.start()

    def add(self, root: int, limit: int) -> Tree:
        """Look at a process that has just been started, and was not waited for yet."""
        tree = Tree(root, limit)
        tree.grow(_processes())
        self._trees.append(tree)
        return tree

    def remove(self, tree: Tree) -> None:
        if tree in self._trees:
            self._trees.remove(tree)

    def close(self) -> None:
        self._ending.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._ending.wait(EVERY):
            if self._trees:
                seen = _processes()
                for tree in list(self._trees):
                    tree.check(seen)


def _processes() -> dict[int, _Seen]:
    return {one.pid: one for one in _read()}


def _read() -> Iterator[_Seen]:
    for path in PROC.glob("[0-9]*/stat"):
        try:
            state, *numbers = path.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        parent, session, started = int(numbers[0]), int(numbers[2]), int(numbers[18])
        yield _Seen(int(path.parent.name), parent, session, started, state in "ZX")


def _resident(pid: int) -> int:
    """Bytes, those that are shared with others too: never less than its share."""
    try:
        return int((PROC / str(pid) / "statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def _proportional(pid: int) -> int:
    """Bytes; of what is shared, its share."""
    try:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
