"""Which containers of an attempt do not start, whether time may mend that, and what it means for the job. Pure."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from flaregate_wire.states import Reason, State
from gateway.jobs.records import AttemptRecord, JobRecord, Verdict
from gateway.launchers.base import InstanceSighting, Phase, Sighting, Trouble

NOT_STARTING = "not_starting"
"""The condition of a job while the platform goes on trying to start one of its containers."""
PATIENCE = 20.0
"""Seconds for which it may go on: a registry that was away for a moment ends nothing."""
_TROUBLES: Mapping[Trouble, tuple[Reason, str]] = {
    Trouble.IMAGE_PULL: (Reason.IMAGE_PULL_FAILED, "the image cannot be pulled"),
    Trouble.IMAGE_RETRIED: (Reason.IMAGE_PULL_FAILED, "the image cannot be pulled"),
    Trouble.MISCONFIGURED: (Reason.PLATFORM_ERROR, "the platform cannot start the container"),
}


def tried_again(attempt: AttemptRecord, sighting: Sighting) -> str | None:
    """What the platform has not managed to start so far, as the condition's message; None where there is no such."""
    found = [one for one in _pending(attempt, sighting) if one.trouble in _TROUBLES and attempt.verdict is None]
    return "; ".join(f"{_name(one)}: {one.story or one.trouble}" for one in found) or None


def never(job: JobRecord, attempt: AttemptRecord, sighting: Sighting, now: datetime) -> tuple[InstanceSighting, ...]:
    """Those that will not start: by the platform's word, or because it has tried for long enough."""
    since = next((one.since for one in job.conditions if one.name == NOT_STARTING), now)
    stood = now >= since + timedelta(seconds=PATIENCE)
    pending = [one for one in _pending(attempt, sighting) if one.trouble in _TROUBLES and stood]
    refused = [one for one in sighting.instances if one.trouble is Trouble.IMAGE_PULL and one.index not in attempt.lost]
    return tuple({one.index: one for one in (*pending, *refused)}.values())


def head_verdict(head: InstanceSighting, now: datetime) -> Verdict | None:
    """Of a head that will not start."""
    found = _TROUBLES.get(head.trouble) if head.trouble is not None else None
    return None if found is None else Verdict(State.FAILED, now, found[0], f"{found[1]}{_story(head)}")


def too_few(
    job: JobRecord, attempt: AttemptRecord, missing: tuple[InstanceSighting, ...], now: datetime
) -> Verdict | None:
    """Whether the workers that have come, or may come yet, are fewer than the job waits for."""
    gone = {*(one.index for one in missing), *attempt.lost} - attempt.instances.keys()
    workers = {*range(1, job.cluster.instances), *attempt.replacements} - gone
    if not missing or len(workers) >= job.cluster.min_workers:
        return None
    first = missing[0]
    reason, text = _TROUBLES[first.trouble or Trouble.MISCONFIGURED]
    told = f"{text}{_story(first)}: {_name(first)} does not start, and min_workers is {job.cluster.min_workers}"
    return Verdict(State.FAILED, now, reason, told)


def _pending(attempt: AttemptRecord, sighting: Sighting) -> list[InstanceSighting]:
    return [one for one in sighting.instances if one.phase is Phase.PENDING and one.index not in attempt.lost]


def _name(one: InstanceSighting) -> str:
    return "the head" if one.index == 0 else f"worker {one.index}"


def _story(one: InstanceSighting) -> str:
    return f" ({one.story})" if one.story else ""
