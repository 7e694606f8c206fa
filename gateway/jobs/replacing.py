"""Which workers of a live attempt are lost, and how many others are asked for in their place. Pure."""

from collections.abc import Sequence

from gateway.jobs.records import AttemptRecord, JobRecord
from gateway.launchers.base import InstanceSighting, Phase, Sighting

MOST_REPLACEMENTS = 2
"""For each worker of the cluster: what kills every worker shall not be paid for again and again."""


def lost_workers(job: JobRecord, attempt: AttemptRecord, sighting: Sighting) -> tuple[InstanceSighting, ...]:
    """Workers that ended although nobody had said that they are not needed, and that have not been told of yet.

    One that has started and that the platform shows no longer is lost with its machine.
    """
    seen = {one.index: one for one in sighting.instances}
    told = {*attempt.released, *attempt.lost}
    found = []
    for index in (*range(1, job.cluster.instances), *attempt.replacements):
        one = seen.get(index)
        if one is None and index in attempt.instances:
            one = InstanceSighting(index, Phase.ENDED, story="the platform shows it no longer")
        if one is not None and one.phase is Phase.ENDED and index not in told:
            found.append(one)
    return tuple(found)


def replacements(job: JobRecord, attempt: AttemptRecord, lost: int) -> tuple[int, ...]:
    """Numbers of the workers to be asked for in the place of so many.

    None where the head has begun to let workers go, or can do at once what is left.
    """
    room = MOST_REPLACEMENTS * job.cluster.workers - len(attempt.replacements)
    first = job.cluster.instances + len(attempt.replacements)
    count = 0 if attempt.released or _nearly_done(job) else max(0, min(lost, room))
    return tuple(range(first, first + count))


def unstarted(attempt: AttemptRecord) -> Sequence[int]:
    """Replacements that were asked for and that the platform has not shown as started."""
    return [index for index in attempt.replacements if index not in attempt.instances and index not in attempt.lost]


def unlaunched(attempt: AttemptRecord, sighting: Sighting) -> bool:
    """Whether the platform does not know of a replacement: it may never have been asked for it."""
    known = {one.index for one in sighting.instances}
    return any(index not in known for index in unstarted(attempt))


def _nearly_done(job: JobRecord) -> bool:
    progress = job.progress
    return progress.total is not None and progress.total - progress.done <= job.cluster.cpus
