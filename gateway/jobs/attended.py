"""Whether containers will call for what is left to do. Where nobody will, a gateway must not be let go. No I/O."""

from collections.abc import Collection, Iterable

from gateway.jobs.records import AttemptRecord, JobRecord


def attended(jobs: Iterable[tuple[JobRecord, AttemptRecord | None]], waiting: Collection[str]) -> bool:
    """Say whether a gateway that is ended now will be called again in time.

    A head that has reported renews its lease, and so wakes the gateway. Nobody calls for a job that is being launched
    or ended, nor for one in the queue, except that one which waits for room can do so until a running one gives it.

    Args:
        jobs: Those that are held and have not ended, each with its last attempt.
        waiting: Ids of jobs that wait for room on the platform.
    """
    running, rest = 0, []
    for job, attempt in jobs:
        if attempt is not None and attempt.gone is None and attempt.verdict is None and 0 in attempt.boots:
            running += 1
        else:
            rest.append((job, attempt))
    return all(_queued(attempt) and job.id in waiting and running for job, attempt in rest)


def _queued(attempt: AttemptRecord | None) -> bool:
    return attempt is None or attempt.gone is not None
