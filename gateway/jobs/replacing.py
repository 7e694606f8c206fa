"""Which workers of a live attempt are lost, and how many others are asked for in their place, and when. Pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from gateway.jobs.records import AttemptRecord, JobRecord, StandIn
from gateway.launchers.base import InstanceSighting, Phase, Sighting

MOST_REPLACEMENTS = 2
"""For each worker of the cluster: what kills every worker shall not be paid for again and again."""
FIRST_PAUSE, LONGEST_PAUSE = 10.0, 300.0
"""Seconds between two replacements of one place; each pause is twice as long as the one before."""


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
    count = max(0, min(lost, room)) if _needed(job, attempt) else 0
    return tuple(range(first, first + count))


def stand_in(attempt: AttemptRecord, lost: int, now: datetime) -> StandIn:
    """Who takes the place of a lost worker: the first one at once, the next ones after pauses.

    A pause counts from when the one before was due, so what has lived for long is replaced at once.
    """
    known = attempt.stand_ins.get(lost)
    place = lost if known is None else known.place
    before = [one.due for one in attempt.stand_ins.values() if one.place == place]
    if not before:
        return StandIn(place, now)
    pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (len(before) - 1))
    return StandIn(place, max(now, max(before) + timedelta(seconds=pause)))


def asked_for(attempt: AttemptRecord, now: datetime) -> Sequence[int]:
    """Replacements that are due and are not lost in turn."""
    paused = {index for index, one in attempt.stand_ins.items() if one.due > now}
    return [index for index in attempt.replacements if index not in paused and index not in attempt.lost]


def unstarted(attempt: AttemptRecord, now: datetime) -> Sequence[int]:
    """Those of them that the platform has not shown as started."""
    return [index for index in asked_for(attempt, now) if index not in attempt.instances]


def unlaunched(job: JobRecord, attempt: AttemptRecord, sighting: Sighting, now: datetime) -> bool:
    """Whether the platform does not know of a replacement: it may never have been asked for it."""
    known = {one.index for one in sighting.instances}
    return _needed(job, attempt) and any(index not in known for index in unstarted(attempt, now))


def _needed(job: JobRecord, attempt: AttemptRecord) -> bool:
    """Whether another worker would find something to do."""
    left = None if job.progress.total is None else job.progress.total - job.progress.done
    return not attempt.released and (left is None or left > job.cluster.cpus)
