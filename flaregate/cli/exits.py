"""The exit codes of the command line."""

from enum import IntEnum
from typing import assert_never

from flaregate_wire.jobs import JobView
from flaregate_wire.states import Reason, State


class Exit(IntEnum):
    """What a program that called the command line learns without reading its output."""

    SUCCEEDED = 0
    FAILED = 1
    USAGE = 2
    CANCELLED = 3
    TIMED_OUT = 4
    PLATFORM = 5
    COST_CAP = 6
    TRY_AGAIN = 75


_PLATFORM = frozenset(
    {
        Reason.HEAD_LOST,
        Reason.WORKERS_NOT_JOINED,
        Reason.LAUNCH_TIMEOUT,
        Reason.IMAGE_PULL_FAILED,
        Reason.PLATFORM_ERROR,
        Reason.COMMIT_FAILED,
    }
)


def exit_of(job: JobView) -> Exit:
    """The exit code for a job; one that has not ended is `TRY_AGAIN`."""
    match job.state:
        case State.SUCCEEDED:
            return Exit.FAILED if job.reason is Reason.SOME_CANDIDATES_FAILED else Exit.SUCCEEDED
        case State.FAILED:
            return Exit.PLATFORM if job.reason in _PLATFORM else Exit.FAILED
        case State.CANCELLED:
            return Exit.COST_CAP if job.reason is Reason.COST_CAP else Exit.CANCELLED
        case State.TIMED_OUT:
            return Exit.TIMED_OUT
        case State.QUEUED | State.LAUNCHING | State.RUNNING | State.RETRYING | State.FINISHING:
            return Exit.TRY_AGAIN
        case _:
            assert_never(job.state)
