"""What to do next for a job: one pure function on what is recorded and what the platform says. No I/O."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from flaregate_wire.states import Reason, State
from gateway.jobs import prices, replacing, starting
from gateway.jobs.moves import used
from gateway.jobs.records import AttemptRecord, JobRecord, Verdict
from gateway.jobs.sizing import GB, larger
from gateway.launchers.base import InstanceSighting, Phase, Price, Sighting, Trouble

FORCE_AGAIN = 5.0
"""Seconds after which a forced stop that had no effect is repeated."""
UNREAD = "references_unread"
"""The condition of a job whose references could not be looked at yet."""
UNLAUNCHED = "launch_failed"
"""The condition of a job whose launch the platform did not take yet."""
BARRED = "platform_barred"
"""The condition of a job that waits until the platform lets the gateway in."""
UNLISTED = 30.0
"""Seconds after a launch in which a platform may not show the run yet."""
_KILLED = -9
"""How a container ends that outgrows its memory, on platforms that do not say why too."""
SILENT_LEASES = 2
"""A container ends itself after one lease without an answer; a head that is said to run after two of them is stuck."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The deadlines, in seconds."""

    launch_timeout: float
    grace: float
    linger: float
    lease: float
    since: datetime
    """When this gateway began to answer; silence before it is no container's fault."""
    price: Price | None = None
    """The platform's; None where it is not known."""
    sizes: tuple[tuple[float, int], ...] = ()
    """The (vCPU, bytes of memory) that a container of the platform may have, smallest first; empty: any."""
    max_memory: int = 0
    """Bytes that the containers of a run may have together; 0: not known."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do."""


@dataclass(frozen=True, slots=True)
class Resolve:
    """Find out what the files of its references are."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Write down the next attempt."""


@dataclass(frozen=True, slots=True)
class Launch:
    """Ask the platform for the attempt's containers that it has not been asked for yet."""


@dataclass(frozen=True, slots=True)
class Lose:
    """Write down that workers are lost, and which ones shall take their place."""

    lost: tuple[InstanceSighting, ...]
    by: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """Decide how the attempt ends."""

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Stop:
    """Ask the platform to end the containers, or to end them at once."""

    force: bool


@dataclass(frozen=True, slots=True)
class Leave:
    """Nothing of the attempt is left."""


@dataclass(frozen=True, slots=True)
class Close:
    """End a job that has no attempt."""

    verdict: Verdict


Action = Wait | Resolve | Begin | Launch | Lose | Rule | Stop | Leave | Close


def decide(
    job: JobRecord,
    attempt: AttemptRecord | None,
    sighting: Sighting | None,
    now: datetime,
    rules: Rules,
    *,
    let_in: bool = True,
) -> Action:
    """The next step towards the job's end.

    Args:
        job: The job.
        attempt: Its last attempt.
        sighting: What the platform says of it; None where that was not, or could not be, seen.
        now: The time.
        rules: The deadlines.
        let_in: Whether the platform has room for another attempt of it.
    """
    if job.state.terminal:
        return Wait()
    ending = _unwanted(job, attempt, now, rules)
    if attempt is None or attempt.gone is not None:
        return _next(job, now, rules, let_in=let_in) if ending is None else Close(ending)
    if attempt.verdict is not None:
        return _end(attempt, attempt.verdict, sighting, now, rules)
    if ending is None and attempt.launched is None and any(one.name == BARRED for one in job.conditions):
        return Wait()
    verdict = ending or _lost(job, attempt, sighting, now, rules)
    if verdict is not None:
        return Rule(verdict)
    return Launch() if attempt.launched is None else _replaced(job, attempt, sighting, now)


def _replaced(job: JobRecord, attempt: AttemptRecord, sighting: Sighting | None, now: datetime) -> Action:
    """A lost worker ends nothing: the head goes on, and another worker joins it, unless that one could not start."""
    if sighting is None:
        return Wait()
    missing = tuple(one for one in starting.never(job, attempt, sighting, now) if one.index not in attempt.released)
    ended = tuple(one for one in replacing.lost_workers(job, attempt, sighting) if one not in missing)
    if ended or missing:
        return Lose((*ended, *missing), replacing.replacements(job, attempt, len(ended)))
    return Launch() if replacing.unlaunched(job, attempt, sighting, now) else Wait()


def _next(job: JobRecord, now: datetime, rules: Rules, *, let_in: bool) -> Action:
    """An attempt, when there is room; but nothing is launched before it is known what it is to read."""
    if job.resolved:
        return Begin() if let_in else Wait()
    if now < max(job.created, rules.since) + timedelta(seconds=rules.launch_timeout):
        return Resolve()
    why = "; ".join(one.message or "" for one in job.conditions if one.name == UNREAD) or "the gateway could not ask"
    message = f"the references could not be looked at in {rules.launch_timeout:g} seconds: {why}"
    return Close(Verdict(State.FAILED, now, Reason.STAGE_IN_FAILED, message))


def _unwanted(job: JobRecord, attempt: AttemptRecord | None, now: datetime, rules: Rules) -> Verdict | None:
    if job.wish is not None:
        return Verdict(State.CANCELLED, now, job.wish)
    if job.started is not None and now >= job.started + timedelta(seconds=job.timeout):
        return Verdict(State.TIMED_OUT, now, Reason.TIMEOUT, f"not done {job.timeout:g} seconds after its first launch")
    return None if job.max_cost is None or rules.price is None else _too_dear(job, attempt, now, rules, rules.price)


def _too_dear(
    job: JobRecord, attempt: AttemptRecord | None, now: datetime, rules: Rules, price: Price
) -> Verdict | None:
    """Whether the cap is reached, or would be while the containers end."""
    cap, _ = prices.amount_of(job.max_cost or "")
    spent = prices.cost(used(job, attempt, now), price)
    ending = prices.rate(job.cluster, price) * Decimal(rules.grace)
    if spent + ending < cap:
        return None
    told = f"it has cost {prices.money(spent, price)}, and its cap is {job.max_cost}"
    return Verdict(State.CANCELLED, now, Reason.COST_CAP, told)


def _lost(
    job: JobRecord, attempt: AttemptRecord, sighting: Sighting | None, now: datetime, rules: Rules
) -> Verdict | None:
    """Only a positive sighting of the end or a visible deadline ends an attempt."""
    if attempt.launched is not None and sighting is not None:
        seen = _sighted(job, attempt, sighting, now, rules)
        if seen is not None:
            return seen
    if 0 not in attempt.boots:
        if now >= max(attempt.launched or attempt.created, rules.since) + timedelta(seconds=rules.launch_timeout):
            return Verdict(State.FAILED, now, Reason.LAUNCH_TIMEOUT, _unreported(job, attempt, sighting, rules))
        return None
    silence = now - max(attempt.renewed or attempt.created, rules.since)
    if silence >= timedelta(seconds=SILENT_LEASES * rules.lease):
        message = f"the head has been silent for {silence.total_seconds():.0f} seconds"
        return Verdict(State.FAILED, now, Reason.HEAD_LOST, message)
    return None


def _unreported(job: JobRecord, attempt: AttemptRecord, sighting: Sighting | None, rules: Rules) -> str:
    """What is known of a launch that came to nothing."""
    why = [one.message for one in job.conditions if one.name == UNLAUNCHED]
    if attempt.launched is None and why:
        return f"the platform did not take the launch in {rules.launch_timeout:g} seconds: {why[0]}"
    head = None if sighting is None else sighting.head
    story = f" ({head.story})" if head is not None and head.story else ""
    told = "" if head is None else f"; it is {head.phase}, says the platform{story}"
    return f"the head did not report in {rules.launch_timeout:g} seconds{told}"


def _sighted(job: JobRecord, attempt: AttemptRecord, sighting: Sighting, now: datetime, rules: Rules) -> Verdict | None:
    """What the platform's word on the head means. A run that was just launched may not be listed yet."""
    head = sighting.head
    if head is None:
        new = attempt.launched is not None and now < attempt.launched + timedelta(seconds=UNLISTED)
        if new and 0 not in attempt.boots:
            return None
        return Verdict(State.FAILED, now, Reason.HEAD_LOST, "the head is gone, and had not committed")
    story = f" ({head.story})" if head.story else ""
    missing = starting.never(job, attempt, sighting, now)
    not_begun = starting.head_verdict(head, now) if head in missing or head.phase is Phase.ENDED else None
    if not_begun is not None or head.phase is not Phase.ENDED:
        return not_begun or starting.too_few(job, attempt, missing, now)
    if head.trouble is not None:
        return _starved(head.trouble, f"{story}: {_had(job, rules)}", now)
    code = "" if head.exit_code is None else f" with exit code {head.exit_code}"
    killed = f"; want of memory ends a container so: {_had(job, rules)}" if head.exit_code == _KILLED else ""
    return Verdict(
        State.FAILED, now, Reason.HEAD_LOST, f"the head's process ended{code} before it had committed{story}{killed}"
    )


def _starved(trouble: Trouble, story: str, now: datetime) -> Verdict:
    if trouble is Trouble.OUT_OF_MEMORY:
        return Verdict(State.FAILED, now, Reason.OOM_KILLED, f"the head ran out of memory{story}")
    return Verdict(State.FAILED, now, Reason.OUT_OF_DISK, f"the head's disk was full{story}")


def _had(job: JobRecord, rules: Rules) -> str:
    """What the head had, and what it could have had."""
    cluster = job.cluster
    had = f"it had {cluster.memory / GB:g} GB with {cluster.cpus:g} vCPU"
    return had + larger(cluster, rules.sizes, rules.max_memory)


def _end(attempt: AttemptRecord, verdict: Verdict, sighting: Sighting | None, now: datetime, rules: Rules) -> Action:
    """Remove what is left: politely where the head may still have something to say, then by force."""
    if sighting is not None and sighting.gone and (attempt.stopped is not None or sighting.instances):
        return Leave()
    if attempt.forced and attempt.stopped is not None:
        again = now >= attempt.stopped + timedelta(seconds=FORCE_AGAIN)
        return Stop(force=True) if again else Wait()
    headless = sighting is not None and (sighting.head is None or sighting.head.phase is Phase.ENDED)
    if headless or now >= verdict.at + timedelta(seconds=_patience(verdict, rules)):
        return Stop(force=True)
    asked = verdict.committed or attempt.stopped is not None
    return Wait() if asked else Stop(force=False)


def _patience(verdict: Verdict, rules: Rules) -> float:
    if verdict.committed:
        return rules.linger
    return rules.grace if verdict.state in (State.CANCELLED, State.TIMED_OUT) else 0.0
