"""Takes in what containers report: each event once and in order, whatever is repeated or comes late. Pure."""

from dataclasses import replace
from datetime import datetime

from flaregate_wire.attempts import EventBatch
from flaregate_wire.events import EVENT_BYTES, AttemptEvent, Event, LogEvent, OutcomeEvent, ProgressEvent, encode
from flaregate_wire.jobs import Progress
from gateway.jobs.errors import InvalidRequest, SequenceGap, TooLarge
from gateway.jobs.moves import Move, live
from gateway.jobs.records import AttemptRecord, JobRecord, Segment


def prefix(job: JobRecord, attempt: AttemptRecord) -> str:
    """Under which the attempt's objects lie in the store; it may write nowhere else."""
    return f"tenants/{job.tenant}/jobs/{job.id}/attempts/{attempt.number}/"


def take_in(job: JobRecord, attempt: AttemptRecord | None, index: int, batch: EventBatch, now: datetime) -> Move:
    """Append the events that are new and renew the lease.

    Raises SequenceGap where events are missing, AttemptOver for an attempt that is over or fenced.
    """
    attempt = live(job, attempt)
    expected = attempt.expected.get(index, 0)
    if batch.first > expected:
        raise SequenceGap(
            f"events {expected} to {batch.first - 1} of container {index} are missing; send from {expected}"
        )
    new = batch.events[expected - batch.first :]
    attempt = replace(attempt, renewed=now, expected={**attempt.expected, index: expected + len(new)})
    events: list[Event] = []
    segments: list[Segment] = []
    for number, reported in enumerate(new, start=expected):
        event = reported.model_copy(update={"id": None, "attempt": attempt.number})
        if len(encode(event)) > EVENT_BYTES:
            raise TooLarge(f"event {number} is longer than {EVENT_BYTES} bytes; cut its traceback in the middle")
        job, attempt = _follow(job, attempt, event)
        if isinstance(event, LogEvent):
            segments.append(_segment(job, attempt, event))
        events.append(event)
    return Move(job, attempt, tuple(events), tuple(segments))


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
