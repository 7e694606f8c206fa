"""The states of a job, the one table of transitions, and the closed list of reasons."""

from enum import StrEnum


class State(StrEnum):
    """Where a job is. Cancelling is a wish on the job, not a state."""

    QUEUED = "queued"
    LAUNCHING = "launching"
    RUNNING = "running"
    RETRYING = "retrying"
    FINISHING = "finishing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"

    @property
    def terminal(self) -> bool:
        """Whether the job has ended; a terminal state never changes."""
        return not TRANSITIONS[self]


_ENDS = frozenset({State.FAILED, State.CANCELLED, State.TIMED_OUT})

TRANSITIONS: dict[State, frozenset[State]] = {
    State.QUEUED: _ENDS | {State.LAUNCHING},
    State.LAUNCHING: _ENDS | {State.RUNNING, State.FINISHING, State.RETRYING},
    State.RUNNING: _ENDS | {State.FINISHING, State.RETRYING},
    State.RETRYING: _ENDS | {State.LAUNCHING},
    State.FINISHING: _ENDS | {State.SUCCEEDED, State.RETRYING},
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
    State.TIMED_OUT: frozenset(),
}

MEANING: dict[State, str] = {
    State.QUEUED: "accepted and stored; nothing has been launched",
    State.LAUNCHING: "the platform has been asked for a head and workers; the head has not reported yet",
    State.RUNNING: "the head has reported; tasks run",
    State.RETRYING: "an attempt was lost to the infrastructure; its remains are removed before the next one",
    State.FINISHING: "the results are committed, or the job is being ended; its containers are going",
    State.SUCCEEDED: "the results are committed and every container is gone",
    State.FAILED: "it ended without its results; the reason says why",
    State.CANCELLED: "it was ended on request and every container is gone",
    State.TIMED_OUT: "it reached its timeout and every container is gone",
}


class Reason(StrEnum):
    """Why a job is in its state."""

    USER_ERROR = "user_error"
    SOME_CANDIDATES_FAILED = "some_candidates_failed"
    OOM_KILLED = "oom_killed"
    OUT_OF_DISK = "out_of_disk"
    HEAD_LOST = "head_lost"
    WORKERS_NOT_JOINED = "workers_not_joined"
    LAUNCH_TIMEOUT = "launch_timeout"
    IMAGE_PULL_FAILED = "image_pull_failed"
    STAGE_IN_FAILED = "stage_in_failed"
    COMMIT_FAILED = "commit_failed"
    ENVIRONMENT_MISMATCH = "environment_mismatch"
    PLATFORM_ERROR = "platform_error"
    CANCELLED_BY_USER = "cancelled_by_user"
    CLIENT_GONE = "client_gone"
    COST_CAP = "cost_cap"
    TIMEOUT = "timeout"


RETRIED = frozenset(
    {
        Reason.HEAD_LOST,
        Reason.WORKERS_NOT_JOINED,
        Reason.LAUNCH_TIMEOUT,
        Reason.IMAGE_PULL_FAILED,
        Reason.PLATFORM_ERROR,
    }
)
"""Reasons after which a new attempt is made while `limits.retries` allows."""

HINTS: dict[Reason, str] = {
    Reason.USER_ERROR: "the pipeline's own code raised; read the first traceback and the last log lines",
    Reason.SOME_CANDIDATES_FAILED: "the other candidates' results are complete; each failed outcome has its traceback",
    Reason.OOM_KILLED: "a container ran out of memory; ask for more with resources.memory",
    Reason.OUT_OF_DISK: "a container's disk was full; write less, or raise resources.memory if that sizes it",
    Reason.HEAD_LOST: "the head's process ended without a word; submit again, or allow retries with limits.retries",
    Reason.WORKERS_NOT_JOINED: "fewer workers than min_workers joined in time; lower min_workers or submit again",
    Reason.LAUNCH_TIMEOUT: "the platform accepted the launch and the head never reported; see the gateway's log",
    Reason.IMAGE_PULL_FAILED: "the platform could not fetch the worker's image; see the message and its registry",
    Reason.STAGE_IN_FAILED: "an input could not be read or was not what its digest says; stage it again",
    Reason.COMMIT_FAILED: "the results could not be written to the store; see the last log lines",
    Reason.ENVIRONMENT_MISMATCH: "a node's module is missing from the worker's environment",
    Reason.PLATFORM_ERROR: "the platform refused or broke; see the message and the gateway's log",
    Reason.CANCELLED_BY_USER: "someone asked for it",
    Reason.CLIENT_GONE: "the program that opened the embedded gateway ended; 'flaregate up' keeps one for longer",
    Reason.COST_CAP: "it reached limits.max_cost; raise it, or ask for less: what is done already is in the cache",
    Reason.TIMEOUT: "raise limits.timeout, or give the job more workers",
}


def may_move(old: State, new: State) -> bool:
    """Whether the table allows this move."""
    return new in TRANSITIONS[old]
