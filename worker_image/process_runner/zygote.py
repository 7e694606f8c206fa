"""The processes that run user code, and how they descend from each other. Runs in children of the driver alone.

    zygote          has imported what every job needs, and has never run user code
    └── job         has loaded the rows of one job
        └── worker  runs tasks; shares with the job what it does not write to

Zygote and job are nurseries: they do nothing but fork and tell of ends. Each child has a process group of its own, so
that what it leaves behind ends with it, and gets SIGKILL from the kernel when its parent ends. A job whose user code
has started threads cannot be forked safely; it writes its rows to a file, and its workers descend from the zygote.
"""

import gc
import os
import random
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from io import TextIOWrapper
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import recv_handle
from pathlib import Path
from types import FrameType

import numpy as np
import psutil
from threadpoolctl import threadpool_limits

from flaregate.payload import CannotPack, dump, load, pack
from flaregate_wire.states import Reason
from worker_image.code import enter
from worker_image.engine.prepare import JobFailed, prepare
from worker_image.engine.session import Session
from worker_image.process_runner.messages import Exited, Fork, Kill, Load, Prepare, Prepared
from worker_image.process_runner.worker import serve
from worker_image.processes import signal_me_when_parent_ends

_OFTEN_USED = ("linear_model", "preprocessing", "decomposition", "svm", "ensemble", "neighbors", "feature_selection")
"""Packages of scikit-learn that the zygote imports while nobody needs it."""
_FIRST_TO_GO = "300"
"""Of two processes of one size, the kernel ends the one with user code first when memory runs out."""

Life = Callable[[Connection], None]


def be_zygote(channel: Connection) -> None:
    """The whole life of a zygote; it ends when the channel is closed."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # all workers print to one pipe: lines must arrive whole
            stream.reconfigure(line_buffering=True, write_through=False)
    for name in _OFTEN_USED:
        if channel.poll():
            break
        import_module(f"sklearn.{name}")
    pack(None)  # looks through all modules for the user's own; each child inherits what was found
    gc.collect()
    gc.freeze()  # else the first collection in each child writes to every page
    _nurse(channel, _live_for_a_job)


def _live_for_a_job(channel: Connection) -> None:
    order = channel.recv()
    enter(order.context.code)
    if isinstance(order, Load):
        _work(Session(order.context, load(order.data)), channel)
        return
    try:
        session, prepared = _prepared(order)
    except JobFailed as error:
        channel.send(error.with_traceback(None))
        return
    channel.send(prepared)
    if prepared.forks:
        pack(None)
        gc.freeze()
        _nurse(channel, partial(_work, session))


def _prepared(order: Prepare) -> tuple[Session, Prepared]:
    data, summary = prepare(order.context, order.files)
    forks = psutil.Process().num_threads() == 1
    if not forks:
        try:
            dump(data, order.data)
        except CannotPack as error:
            raise JobFailed(Reason.STAGE_IN_FAILED, f"the inputs cannot be handed to tasks: {error}") from error
    return Session(order.context, data), Prepared(summary, forks)


def _work(session: Session, channel: Connection) -> None:
    random.seed()  # else all workers would draw the same numbers
    np.random.seed()
    threadpool_limits(1)
    serve(session, channel)


class _Nursery:
    """The children of this process by number and process id."""

    def __init__(self, channel: Connection, life: Life) -> None:
        self._channel = channel
        self._life = life
        self._children: dict[int, int] = {}
        self._bell, self._rung = socket.socketpair()
        for end in (self._bell, self._rung):
            end.settimeout(0)
        signal.signal(signal.SIGCHLD, _ring)
        signal.set_wakeup_fd(self._bell.fileno(), warn_on_full_buffer=False)

    def run(self) -> None:
        """Until the channel is closed; no child is left then."""
        with suppress(EOFError, ConnectionError):
            while True:
                ready = wait([self._channel, self._rung])
                if self._rung in ready:
                    self._rung.recv(4096)
                    self._tell_of_ends()
                if self._channel in ready:
                    self._obey(self._channel.recv())
        for pid in self._children.values():
            _end_group(pid)
            os.waitpid(pid, 0)

    def _obey(self, wish: Fork | Kill) -> None:
        if isinstance(wish, Fork):
            self._fork(wish.child, recv_handle(self._channel))
        elif wish.child in self._children:
            _end_group(self._children[wish.child])

    def _fork(self, number: int, handle: int) -> None:
        me = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._leave_to_child()
            _live(self._life, Connection(handle), me)
        os.close(handle)
        with suppress(OSError):  # it has done so itself, or has ended
            os.setpgid(pid, pid)
        self._children[number] = pid

    def _leave_to_child(self) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for end in (self._bell, self._rung, self._channel):
            end.close()

    def _tell_of_ends(self) -> None:
        for number, pid in list(self._children.items()):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                _end_group(pid)  # before its number can pass to another process
                _, status = os.waitpid(pid, 0)
                del self._children[number]
                self._channel.send(Exited(number, os.waitstatus_to_exitcode(status)))


def _nurse(channel: Connection, life: Life) -> None:
    _Nursery(channel, life).run()


def _ring(_number: int, _frame: FrameType | None) -> None:
    """Python writes to the wake-up descriptor for signals that have a handler."""


def _end_group(leader: int) -> None:
    for end in (os.killpg, os.kill):  # the leader alone, where it has not made its group yet
        with suppress(ProcessLookupError, PermissionError):
            end(leader, signal.SIGKILL)


def _live(life: Life, channel: Connection, parent: int) -> None:
    """The whole life of a child, which never returns."""
    code = 1
    try:
        os.setpgid(0, 0)
        signal_me_when_parent_ends()
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO)
        if os.getppid() == parent:
            life(channel)
            code = 0
    except SystemExit as leave:
        code = leave.code if isinstance(leave.code, int) else 1
    except (EOFError, ConnectionError):
        code = 0  # nobody wants it any more
    except KeyboardInterrupt:  # only user code can raise it here: no terminal reaches this process group
        code = 128 + signal.SIGINT
    except BaseException:  # noqa: BLE001 - the last frame of this process: it is shown, and the exit code is 1
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
