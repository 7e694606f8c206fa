"""Takes in what containers report: each event once and in order, whatever is repeated or comes late. Pure."""

import re
from dataclasses import replace
from datetime import datetime

from flaregate_wire.attempts import CommittedArtifact, EventBatch
from flaregate_wire.events import (
    EVENT_BYTES,
    ArtifactEvent,
    AttemptEvent,
    Event,
    LogEvent,
    OutcomeEvent,
    ProgressEvent,
    encode,
)
from flaregate_wire.jobs import Progress
from gateway.jobs.errors import InvalidRequest, SequenceGap, TooLarge
from gateway.jobs.moves import Move, live, present
from gateway.jobs.records import AttemptRecord, JobRecord, Segment

_CACHED = re.compile(r"cache/([0-9a-f]{64})")


def prefix(job: JobRecord, attempt: AttemptRecord) -> str:
    """Under which the attempt's objects lie in the store; they go with the job."""
    return f"tenants/{job.tenant}/jobs/{job.id}/attempts/{attempt.number}/"


def cache_prefix(job: JobRecord, attempt: AttemptRecord) -> str:
    """Under which lies what the attempt has put into the cache; it outlives the job."""
    return f"tenants/{job.tenant}/cache/{job.project}/{attempt.id}/"


def place(job: JobRecord, attempt: AttemptRecord, name: str) -> tuple[str, str | None]:
    """The key of an object that the attempt wants to write, and the sum that it must have; it may write nowhere else.

    An object of the cache is named by its sum, `cache/` and 64 hexadecimal digits, so that no other bytes can be there.
    """
    if not name.startswith("cache/"):
        return prefix(job, attempt) + name, None
    check_keeps(job)
    named = _CACHED.fullmatch(name)
    if named is None:
        raise InvalidRequest(f"{name!r} is not `cache/` and the 64 hexadecimal digits of a sha256")
    return cache_prefix(job, attempt) + named[1], f"sha256:{named[1]}"


def check_keeps(job: JobRecord) -> None:
    """Raise InvalidRequest if the job may put nothing into the cache."""
    if job.cache != "on":
        raise InvalidRequest(f"this job's cache is {job.cache!r}: it keeps nothing")


def check_own(item: ArtifactEvent | CommittedArtifact, start: str) -> None:
    """Raise InvalidRequest for an artifact that is not under the attempt's own prefix."""
    if not item.key.startswith(start):
        raise InvalidRequest(f"the artifact {item.name!r} is not under the attempt's own prefix")


def take_in(job: JobRecord, attempt: AttemptRecord | None, index: int, batch: EventBatch, now: datetime | None) -> Move:
    """Append the events that are new and renew the lease.

    `now` is None for a batch that was found in the store: it is no sign of life, and an attempt that is judged and not
    gone may still have it. Raises SequenceGap where events are missing, AttemptOver for an attempt that is over.
    """
    attempt = live(job, attempt) if now is not None else present(job, attempt)
    expected = attempt.expected.get(index, 0)
    if batch.first > expected:
        raise SequenceGap(
            f"events {expected} to {batch.first - 1} of container {index} are missing; send from {expected}"
        )
    new = batch.events[expected - batch.first :]
    renewed = now or attempt.renewed
    attempt = replace(attempt, renewed=renewed, expected={**attempt.expected, index: expected + len(new)})
    events: list[Event] = []
    segments: list[Segment] = []
    artifacts: dict[str, CommittedArtifact] = {}
    for number, reported in enumerate(new, start=expected):
        event = reported.model_copy(update={"id": None, "attempt": attempt.number})
        if len(encode(event)) > EVENT_BYTES:
            raise TooLarge(f"event {number} is longer than {EVENT_BYTES} bytes; cut its traceback in the middle")
        job, attempt = _follow(job, attempt, event)
        if isinstance(event, AttemptEvent) and event.phase == "released" and index == 0 and event.index:
            attempt = replace(attempt, released=(*attempt.released, event.index))
        if isinstance(event, LogEvent):
            segments.append(_segment(job, attempt, event))
        elif isinstance(event, ArtifactEvent):
            check_own(event, prefix(job, attempt))
            artifacts[event.name] = CommittedArtifact.model_validate(event.model_dump())
        events.append(event)
    return Move(job, attempt, tuple(events), tuple(segments), tuple(artifacts.values()))


def _follow(job: JobRecord, attempt: AttemptRecord, event: Event) -> tuple[JobRecord, AttemptRecord]:
    """What an event changes in the records."""
    match event:
        case ProgressEvent():
            seen = event.model_dump(include={"done", "total", "cached", "failed", "eta"})
            return replace(job, progress=Progress(**seen)), attempt
        case OutcomeEvent() if "first_outcome" not in job.timeline:
            return replace(job, timeline={**job.timeline, "first_outcome": event.time}), attempt
        case AttemptEvent() if event.phase not in attempt.timeline:
            return job, replace(attempt, timeline={**attempt.timeline, event.phase: event.time})
        case _:
            return job, attempt


def _segment(job: JobRecord, attempt: AttemptRecord, event: LogEvent) -> Segment:
    if not event.key.startswith(prefix(job, attempt)):
        raise InvalidRequest(f"the log segment {event.key!r} is not under the attempt's own prefix")
    return Segment(attempt.number, event.index, event.start, event.size, event.key)
