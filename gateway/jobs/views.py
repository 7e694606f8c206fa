"""From records to what users see. Pure."""

from datetime import datetime

from flaregate_wire.definitions import JobDefinition
from flaregate_wire.jobs import AttemptView, JobView, Place
from flaregate_wire.states import HINTS, State
from gateway.jobs.moves import used
from gateway.jobs.prices import priced
from gateway.jobs.records import AttemptRecord, JobRecord
from gateway.launchers.base import Price


def job_view(
    job: JobRecord,
    attempts: tuple[AttemptRecord, ...],
    now: datetime,
    definition: JobDefinition | None = None,
    *,
    price: Price | None = None,
    place: Place | None = None,
) -> JobView:
    """A job with its attempts; the timeline is the job's own and its last attempt's."""
    last = attempts[-1] if attempts else None
    reason = job.reason
    return JobView(
        id=job.id,
        name=job.name,
        action=job.action,
        project=job.project,
        labels=job.labels,
        state=job.state,
        reason=reason,
        message=job.message,
        hint=HINTS[reason] if reason is not None else None,
        wish="cancel" if job.wish is not None else None,
        created=job.created,
        ended=job.ended,
        expires=job.expires,
        conditions=job.conditions,
        attempts=tuple(
            AttemptView(
                id=attempt.id,
                number=attempt.number,
                timeline=attempt.timeline,
                reason=attempt.verdict.reason if attempt.verdict else None,
            )
            for attempt in attempts
        ),
        timeline={**(last.timeline if last else {}), **job.timeline},
        cluster=job.cluster,
        progress=job.progress,
        usage=job.usage if job.state.terminal else priced(used(job, last, now), price),
        place=place,
        result=job.result,
        log_tail=job.log_tail if job.state in (State.FAILED, State.TIMED_OUT) else (),
        definition=definition,
        version=job.version,
    )
