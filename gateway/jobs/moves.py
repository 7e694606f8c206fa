"""Every change that a job can go through: pure functions from records to a Move, which the repository writes whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import zip_longest

from flaregate_wire.attempts import CommittedArtifact, HeadAddress, Manifest
from flaregate_wire.events import AttemptEvent, AttemptPhase, ConditionEvent, EndEvent, Event, StateEvent, UsageEvent
from flaregate_wire.jobs import Condition, Usage
from flaregate_wire.references import RemoteFile
from flaregate_wire.states import RETRIED, Reason, State, may_move
from gateway.jobs import replacing
from gateway.jobs.errors import AttemptOver
from gateway.jobs.prices import priced
from gateway.jobs.records import AttemptRecord, Instance, JobRecord, Segment, Verdict
from gateway.launchers.base import InstanceSighting, Price

GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Move:
    """Records and events that belong together; written in one transaction or not at all."""

    job: JobRecord
    attempt: AttemptRecord | None = None
    events: tuple[Event, ...] = ()
    segments: tuple[Segment, ...] = ()
    artifacts: tuple[CommittedArtifact, ...] = ()


class ImpossibleMove(Exception):
    """The transition table does not allow it: a fault of the gateway."""


def _enter(
    job: JobRecord, state: State, now: datetime, reason: Reason | None = None, message: str | None = None
) -> tuple[JobRecord, StateEvent]:
    if not may_move(job.state, state):
        raise ImpossibleMove(f"{job.id}: {job.state} to {state}")
    event = StateEvent(time=now, attempt=job.attempts, state=state, reason=reason, message=message)
    return replace(job, state=state, since=now, reason=reason, message=message), event


def _phase(
    attempt: AttemptRecord, phase: AttemptPhase, now: datetime
) -> tuple[AttemptRecord, tuple[AttemptEvent, ...]]:
    """The first time that an attempt reaches a phase is in its timeline."""
    if phase in attempt.timeline:
        return attempt, ()
    attempt = replace(attempt, timeline={**attempt.timeline, phase: now})
    return attempt, (AttemptEvent(time=now, attempt=attempt.number, phase=phase),)


def queued(job: JobRecord) -> Move:
    """The job's first event."""
    return Move(job, events=(StateEvent(time=job.created, state=State.QUEUED),))


def begin(job: JobRecord, last: AttemptRecord | None, now: datetime) -> Move | None:
    """Write down the intention to launch, before the platform hears of it."""
    if State.LAUNCHING not in _next(job) or (last is not None and last.gone is None):
        return None
    number = job.attempts + 1
    attempt = AttemptRecord(f"{job.id}-{number}", job.tenant, job.id, number, now)
    job = replace(job, attempts=number, started=job.started or now)
    job, event = _enter(job, State.LAUNCHING, now)
    return Move(job, attempt, (event,))


def _next(job: JobRecord) -> frozenset[State]:
    return frozenset(state for state in State if may_move(job.state, state))


def present(job: JobRecord, attempt: AttemptRecord | None) -> AttemptRecord:
    """The attempt, if it is the job's own and not gone. Raises AttemptOver."""
    if attempt is None or attempt.number != job.attempts or attempt.gone is not None or job.state.terminal:
        raise AttemptOver
    return attempt


def resolved(job: JobRecord, files: Mapping[str, tuple[RemoteFile, ...]]) -> Move | None:
    """What the files of a job's references are. The first answer stands, for all attempts."""
    return None if job.resolved or job.state.terminal else Move(replace(job, references=dict(files)))


def unreadable(job: JobRecord, verdict: Verdict) -> Move | None:
    """The files of a job's references cannot be had: it ends, and nothing was launched."""
    return None if job.resolved or job.state.terminal else close(job, verdict, verdict.at)


def live(job: JobRecord, attempt: AttemptRecord | None) -> AttemptRecord:
    """The attempt, if it is the job's own and neither gone nor fenced. Raises AttemptOver."""
    attempt = present(job, attempt)
    verdict = attempt.verdict
    asked = verdict is not None and verdict.state in (State.CANCELLED, State.TIMED_OUT)
    if verdict is not None and not verdict.committed and not asked:
        raise AttemptOver
    return attempt


def launched(job: JobRecord, attempt: AttemptRecord, now: datetime) -> Move | None:
    """The platform took the order."""
    if attempt.launched is not None or attempt.gone is not None:
        return None
    attempt, events = _phase(replace(attempt, launched=now), "launched", now)
    return Move(job, attempt, events)


def lose(
    job: JobRecord, attempt: AttemptRecord, lost: Sequence[InstanceSighting], by: Sequence[int], now: datetime
) -> Move | None:
    """Workers are lost, and those numbered `by` shall take their place: the intention, before the platform hears of it.

    One that the head has let go meanwhile is not lost, and then nobody takes anyone's place any more.
    """
    new = [one for one in lost if one.index not in (*attempt.released, *attempt.lost)]
    if attempt.gone is not None or attempt.verdict is not None or not new:
        return None
    others = [] if attempt.released else [index for index in by if index not in attempt.replacements][: len(new)]
    instances, number = dict(attempt.instances), attempt.number
    stand_ins = dict(attempt.stand_ins)
    events: list[Event] = []
    for one, other in zip_longest(new, others):
        known = instances.get(one.index)
        if known is not None and known.ended is None:
            instances[one.index] = replace(known, ended=one.ended or now)
        told = {"exit_code": one.exit_code, "trouble": one.trouble, "story": one.story}
        detail = {name: value for name, value in told.items() if value not in (None, "")}
        events.append(AttemptEvent(time=now, attempt=number, phase="lost", index=one.index, detail=detail))
        if other is not None:
            stand_ins[other] = found = replacing.stand_in(attempt, one.index, now)
            pause = (found.due - now).total_seconds()
            detail = {"replaces": one.index} | ({"pause": pause} if pause else {})
            events.append(AttemptEvent(time=now, attempt=number, phase="launched", index=other, detail=detail))
    attempt = replace(
        attempt,
        lost=(*attempt.lost, *(one.index for one in new)),
        replacements=(*attempt.replacements, *others),
        stand_ins=stand_ins,
        instances=instances,
        timeline={"lost": now, **attempt.timeline},
    )
    return Move(job, attempt, tuple(events))


def boot(job: JobRecord, attempt: AttemptRecord | None, index: int, boot_id: str, now: datetime) -> Move | None:
    """A container asks for its order: the first boot of each index has it, and keeps it.

    Another boot of the head means that the first one is lost, and what it knew with it.
    """
    attempt = live(job, attempt)
    first = attempt.boots.get(index)
    if first == boot_id:
        return None
    if first is not None:
        message = "the head's container started a second time"
        return rule(job, attempt, Verdict(State.FAILED, now, Reason.HEAD_LOST, message)) if index == 0 else None
    attempt = replace(attempt, boots={**attempt.boots, index: boot_id}, renewed=now)
    if index != 0 or job.state is not State.LAUNCHING:
        return Move(job, attempt)
    job, event = _enter(job, State.RUNNING, now)
    return Move(job, attempt, (event,))


def register(job: JobRecord, attempt: AttemptRecord | None, head: HeadAddress) -> Move | None:
    """The head says where it listens."""
    attempt = live(job, attempt)
    return None if attempt.head == head else Move(job, replace(attempt, head=head))


def commit(job: JobRecord, attempt: AttemptRecord | None, manifest: Manifest, now: datetime) -> Move:
    """The head's word on how the attempt ended. The first verdict stands; a late one adds its last log lines."""
    attempt = live(job, attempt)
    if attempt.verdict is not None:
        if attempt.verdict.committed:
            raise AttemptOver
        verdict = replace(attempt.verdict, committed=True)
        return Move(replace(job, log_tail=manifest.log_tail), replace(attempt, verdict=verdict))
    attempt, events = _phase(attempt, "committed", now)
    job = replace(job, log_tail=manifest.log_tail, timeline={**job.timeline, "done": now})
    if manifest.succeeded:
        job = replace(job, result=manifest.result)
    ruled = rule(job, attempt, judged(job, manifest, now))
    if ruled is None:
        raise AttemptOver
    artifacts = manifest.artifacts if manifest.succeeded else ()
    return replace(ruled, events=(*events, *ruled.events), artifacts=artifacts)


def judged(job: JobRecord, manifest: Manifest, now: datetime) -> Verdict:
    """What a manifest means for the job."""
    reason = manifest.reason
    if manifest.succeeded:
        state = State.SUCCEEDED
    elif job.wish is not None:
        state, reason = State.CANCELLED, job.wish
    elif reason is Reason.TIMEOUT:
        state = State.TIMED_OUT
    elif reason in (Reason.CANCELLED_BY_USER, Reason.CLIENT_GONE):
        state = State.CANCELLED
    else:
        state = State.FAILED
    return Verdict(state, now, reason, manifest.message, committed=True)


def rule(job: JobRecord, attempt: AttemptRecord | None, verdict: Verdict) -> Move | None:
    """Decide how the live attempt ends; its containers are removed next. The first verdict stands."""
    if attempt is None or attempt.number != job.attempts or attempt.verdict is not None or job.state.terminal:
        return None
    again = verdict.reason in RETRIED and job.attempts <= job.retries and job.wish is None
    if again and job.started is not None and verdict.at < job.started + timedelta(seconds=job.timeout):
        verdict = replace(verdict, state=State.RETRYING)
    state = State.RETRYING if verdict.state is State.RETRYING else State.FINISHING
    job, event = _enter(job, state, verdict.at, verdict.reason, verdict.message)
    return Move(job, replace(attempt, verdict=verdict), (event,))


def stopped(job: JobRecord, attempt: AttemptRecord, now: datetime, *, force: bool) -> Move:
    """The platform was asked to end the containers."""
    return Move(job, replace(attempt, stopped=now, forced=attempt.forced or force))


def sighted(job: JobRecord, attempt: AttemptRecord, instances: Mapping[int, Instance]) -> Move | None:
    """The platform said when containers started and ended; this is what is metered."""
    together = {**attempt.instances, **instances}
    if attempt.gone is not None or attempt.instances == together:
        return None
    return Move(job, replace(attempt, instances=together))


def used(job: JobRecord, attempt: AttemptRecord | None, until: datetime) -> Usage:
    """What the job has used: the attempts that are gone, and the live one until now."""
    if attempt is None or attempt.gone is not None:
        return job.usage
    seconds = sum(
        max(0.0, ((instance.ended or until) - instance.started).total_seconds())
        for instance in attempt.instances.values()
    )
    return Usage(
        vcpu_seconds=job.usage.vcpu_seconds + seconds * job.cluster.cpus,
        gib_seconds=job.usage.gib_seconds + seconds * job.cluster.memory / GIB,
    )


def leave(
    job: JobRecord, attempt: AttemptRecord, now: datetime, *, lease: float, price: Price | None = None
) -> Move | None:
    """The platform says that nothing of the attempt is left: close the job, or make way for the next attempt.

    Where the platform forgot when a container ended, its dead-man switch says by when it must have.
    """
    if attempt.gone is not None or attempt.verdict is None or job.state.terminal:
        return None
    last = min(now, max(attempt.renewed or attempt.created, attempt.created) + timedelta(seconds=lease))
    job = replace(job, usage=priced(used(job, attempt, last), price))
    attempt, events = _phase(replace(attempt, gone=now), "gone", now)
    if attempt.verdict is None or attempt.verdict.state is State.RETRYING:
        return Move(job, attempt, events)
    closed = close(job, attempt.verdict, now)
    return replace(closed, attempt=attempt, events=(*events, *closed.events))


def close(job: JobRecord, verdict: Verdict, now: datetime) -> Move:
    """The end: state, usage and `end`, in this order and never again anything after them."""
    job, event = _enter(job, verdict.state, now, verdict.reason, verdict.message)
    usage = UsageEvent(time=now, attempt=job.attempts, **job.usage.model_dump())
    end = EndEvent(time=now, attempt=job.attempts, state=verdict.state, reason=verdict.reason, message=verdict.message)
    timeline = {"done": now, **job.timeline, "gone": now}
    expires = None if job.keep is None else now + timedelta(seconds=job.keep)
    job = replace(job, ended=now, expires=expires, conditions=(), timeline=timeline)
    return Move(job, events=(event, usage, end))


def wish(job: JobRecord, reason: Reason) -> Move | None:
    """Someone wants the job cancelled; the reconciler works it off. The first reason stays."""
    return None if job.wish is not None or job.state.terminal else Move(replace(job, wish=reason))


def barred(job: JobRecord, attempt: AttemptRecord | None, name: str, now: datetime, message: str | None) -> Move | None:
    """The platform lets the gateway in no more, or again: the deadline of a launch counts from then."""
    move = condition(job, name, now, message)
    if move is None or attempt is None or attempt.launched is not None or attempt.gone is not None:
        return move
    return replace(move, attempt=replace(attempt, created=now))


def condition(job: JobRecord, name: str, now: datetime, message: str | None) -> Move | None:
    """Something is the case beside the state (`message`), or no longer (None)."""
    known = any(found.name == name for found in job.conditions)
    if job.state.terminal or known == (message is not None):
        return None
    others = tuple(found for found in job.conditions if found.name != name)
    added = () if message is None else (Condition(name=name, since=now, message=message),)
    event = ConditionEvent(time=now, attempt=job.attempts, name=name, active=message is not None, message=message)
    return Move(replace(job, conditions=(*others, *added)), events=(event,))
