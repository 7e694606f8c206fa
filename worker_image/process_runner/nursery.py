"""The driver's side of zygote and job: has children forked, hears of their ends, and sees to it that none is left."""

import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import send_handle
from time import monotonic
from typing import Any

from worker_image.memory import memory_use, oom_kills
from worker_image.process_runner.messages import Exited, Fork, Kill
from worker_image.processes import signal_me_when_parent_ends

_PROGRAM = (sys.executable, "-m", "worker_image.process_runner")
_END_SECONDS = 2.0
"""What a job has to end its workers before it is ended itself."""


class NurseryGone(Exception):
    """The process that forks the others has ended."""


@dataclass(slots=True)
class Child:
    """A process that a nursery has forked for us."""

    number: int
    channel: Connection

    def close(self) -> None:
        """It ends when it next listens."""
        self.channel.close()


@dataclass(slots=True)
class Nursery:
    """A process that forks others when it is asked to."""

    channel: Connection
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    _ends: dict[int, int] = field(default_factory=dict)

    def fork(self) -> Child:
        """A new child. Raises NurseryGone."""
        ours, childs = socket.socketpair()
        number = next(self._numbers)
        with ours, childs:
            try:
                self.channel.send(Fork(number))
                send_handle(self.channel, childs.fileno(), 0)
            except ConnectionError as error:
                raise NurseryGone from error
            return Child(number, Connection(ours.detach()))

    def kill(self, child: Child) -> None:
        """End it at once; `ended` tells when it has."""
        with suppress(ConnectionError):
            self.channel.send(Kill(child.number))

    def ended(self, child: Child) -> int | None:
        """How a child has ended, told once; None while it is not known to have. Raises NurseryGone."""
        try:
            while self.channel.poll():
                told: Exited = self.channel.recv()
                self._ends[told.child] = told.code
        except (EOFError, ConnectionError) as error:
            raise NurseryGone from error
        return self._ends.pop(child.number, None)

    def hear(self, child: Child, seconds: float | None = None) -> Any:
        """The next message of a child, or its exit code. Raises NurseryGone, and TimeoutError after `seconds`."""
        end = None if seconds is None else monotonic() + seconds
        listening = [self.channel, child.channel]
        while True:
            wait(listening, None if end is None else max(0.0, end - monotonic()))
            code = self.ended(child)
            try:
                if child.channel in listening and child.channel.poll():
                    message = child.channel.recv()
                    if code is not None:
                        self._ends[child.number] = code
                    return message
            except (EOFError, ConnectionError):
                listening = [self.channel]
            if code is not None:
                return code
            if end is not None and monotonic() >= end:
                raise TimeoutError


@dataclass(slots=True)
class Zygote(Nursery):
    """The first of them. Started once, it serves any number of jobs, one after the other."""

    reap: Callable[[], Any] = lambda: None

    @classmethod
    def start(cls) -> "Zygote":
        """As a program of its own: from any process, whatever it has done before."""
        ours, childs = socket.socketpair()
        with ours, childs:
            command = [*_PROGRAM, str(childs.fileno()), str(os.getpid())]
            process = subprocess.Popen(  # noqa: S603 - our own program
                command, stdin=subprocess.DEVNULL, pass_fds=(childs.fileno(),)
            )
            return cls(Connection(ours.detach()), reap=process.wait)

    @classmethod
    def split_off(cls) -> "Zygote":
        """By forking this process, which has one thread, has imported what jobs need, and has run no user code."""
        from worker_image.process_runner.zygote import be_zygote  # noqa: PLC0415 - before the fork, for both

        ours, childs = socket.socketpair()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                signal_me_when_parent_ends()
                handle = _alone_with(childs.detach())
                if os.getppid() == parent:
                    be_zygote(Connection(handle))
            finally:
                os._exit(0)
        childs.close()
        return cls(Connection(ours.detach()), reap=lambda: os.waitpid(pid, 0))

    def close(self) -> None:
        """End it, and with it all that descends from it."""
        self.channel.close()
        self.reap()

    def end(self, job: Child) -> None:
        """End a job: it ends its workers first, unless the user's code still holds it up."""
        job.close()
        end = monotonic() + _END_SECONDS
        with suppress(NurseryGone):
            while self.ended(job) is None:
                if monotonic() >= end:
                    self.kill(job)
                wait([self.channel], 0.1)


def _alone_with(handle: int) -> int:
    """Keep of the parent's open files what it prints to, and one more; gives its number now."""
    kept = 3
    if handle != kept:
        os.dup2(handle, kept, inheritable=False)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return kept


@dataclass(frozen=True, slots=True)
class End:
    """How a process ended."""

    words: str
    """What follows "the process"."""
    starved: bool
    """Whether the kernel ended it for want of memory."""


@dataclass(slots=True)
class Ends:
    """Reads exit codes, and remembers how often the kernel had to end processes."""

    count: Callable[[], int] = oom_kills
    use: Callable[[], str] = memory_use
    _before: int = 0

    def __post_init__(self) -> None:
        self._before = self.count()

    def read(self, code: int) -> End:
        """How a process with this exit code, or minus the number of a signal, ended."""
        before, self._before = self._before, self.count()
        if code >= 0:
            return End(f"exited with code {code}", starved=False)
        starved = code == -signal.SIGKILL and self._before > before
        if starved:
            return End(f"was killed for want of memory by {_signal(-code)}{self.use()}", starved=True)
        return End(f"was killed by {_signal(-code)}", starved=False)


def _signal(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"
