"""The container's first process: all it does is to see that nothing outlives it or the supervisor.

It forks the supervisor and waits. If either of the two is killed, even by SIGKILL, the other one ends every process
below. Ray alone does not do that: its agents outlive a killed raylet by half a minute and more.
"""

import os
import shutil
import signal
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

from worker_image.processes import adopt_orphans, end_descendants, signal_me_when_parent_ends

KEEPER_GONE = signal.SIGUSR1
"""What the supervisor gets when the keeper ends."""
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_TEMP_LENGTH = 24


def keep(supervise: Callable[[Path], int]) -> int:
    """Run `supervise` in a child and give its exit code, once everything below has ended.

    Its argument is a new folder, which is removed at the end.
    """
    adopt_orphans()
    signal.pthread_sigmask(signal.SIG_BLOCK, {KEEPER_GONE, *_FORWARDED})
    scratch = _new_scratch()
    keeper = os.getpid()
    child = os.fork()
    if child == 0:
        _supervise(supervise, scratch, keeper)
    for number in _FORWARDED:
        signal.signal(number, lambda received, _: os.kill(child, received))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
    code = _wait_for(child)
    signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)  # the child they would be forwarded to is gone
    _clear(scratch)
    return code


def _new_scratch() -> Path:
    """Short, because the path of a Unix socket is at most 107 bytes and Ray adds up to 70."""
    temp = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="fg-", dir=temp if len(temp) <= _TEMP_LENGTH else "/tmp"))  # noqa: S108


def _supervise(supervise: Callable[[Path], int], scratch: Path, keeper: int) -> None:
    def keeper_gone(*_: object) -> None:
        _clear(scratch)
        os._exit(1)

    code = 1
    try:
        adopt_orphans()
        signal.signal(KEEPER_GONE, keeper_gone)
        signal_me_when_parent_ends(KEEPER_GONE)
        if os.getppid() == keeper:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {KEEPER_GONE, *_FORWARDED})
            code = supervise(scratch)
    except Exception:  # noqa: BLE001 - the last frame of this process: it is shown, and the exit code is 1
        traceback.print_exc()
    finally:
        _clear(scratch)
        os._exit(code)  # no atexit and no thread may hold it up: everything has been flushed


def _clear(scratch: Path) -> None:
    end_descendants()
    shutil.rmtree(scratch, ignore_errors=True)


def _wait_for(child: int) -> int:
    """Reap whatever ends below, until it is the supervisor."""
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
