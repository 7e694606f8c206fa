"""Every process below this one: found because it is their subreaper, and ended."""

import contextlib
import ctypes
import signal
import sys
import time

import psutil

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LINUX = sys.platform == "linux"


def adopt_orphans() -> None:
    """Make this process the parent of every descendant whose own parent ends, so that none gets out of sight."""
    if _LINUX:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def signal_me_when_parent_ends(number: int = signal.SIGKILL) -> None:
    """Ask the kernel for a signal when the thread that forked this process ends. Runs between fork and exec."""
    if _LINUX:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)


def end_descendants(patience: float = 5.0) -> bool:
    """SIGKILL every descendant until none is left. Says whether it succeeded within `patience` seconds."""
    me = psutil.Process()
    end = time.monotonic() + patience
    while time.monotonic() < end:
        living = [child for child in me.children(recursive=True) if _alive(child)]
        if not living:
            return True
        for child in living:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        time.sleep(0.005)
    return False


def _alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
