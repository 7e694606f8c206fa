"""Who may begin: what live attempts take of the platform's quota, and the queue of jobs that wait for room. Pure.

The next place is the tenant's that has least of the platform: of the resource that it has most of, by share (dominant
resource fairness, Ghodsi et al., NSDI 2011); within a tenant the oldest job's. A job is let in with all its containers
or not at all, and while the next one waits for room nobody overtakes it: small jobs never keep a large one out.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from flaregate_wire.jobs import Place
from gateway.jobs.records import AttemptRecord, JobRecord
from gateway.launchers.base import Quota

_UNITS = {"cpus": "vCPU", "memory": "bytes of memory", "instances": "containers", "runs": "runs"}


@dataclass(frozen=True, slots=True)
class Claim:
    """What one attempt takes, or would take."""

    job: str
    tenant: str
    cpus: float
    memory: int
    instances: int
    runs: int = 1


@dataclass(frozen=True, slots=True)
class Admission:
    """Who may begin now, and the others' places."""

    let_in: frozenset[str]
    places: Mapping[str, Place]


def claim_of(job: JobRecord, attempt: AttemptRecord | None = None) -> Claim:
    """What a job's next attempt would take, or its live one takes.

    A replacement has the room of the lost worker, and is a run of its own. A worker that has gone leaves its room.
    """
    cluster = job.cluster
    instances, runs = cluster.instances, 1
    if attempt is not None:
        over = [index for index in attempt.released if (one := attempt.instances.get(index)) and one.ended]
        instances += len(attempt.replacements) - len({*attempt.lost, *over})
        runs += len(attempt.replacements)
    return Claim(job.id, job.tenant, cluster.cpus * instances, cluster.memory * instances, instances, runs)


def bounded(quota: Quota) -> bool:
    """Whether the platform sets any limit."""
    return any(limit is not None for limit in _limits(quota).values())


def admit(quota: Quota, taken: Collection[Claim], queue: Iterable[Claim]) -> Admission:
    """Let in whom the quota has room for.

    Args:
        quota: What there is.
        taken: What live attempts have.
        queue: Jobs that want to begin; those of one tenant oldest first.
    """
    limits = {name: limit for name, limit in _limits(quota).items() if limit is not None}
    used = {name: sum(float(getattr(one, name)) for one in taken) for name in limits}
    held = defaultdict[str, dict[str, float]](lambda: dict.fromkeys(limits, 0.0))
    for one in taken:
        _add(held[one.tenant], one)
    waiting = defaultdict[str, list[Claim]](list)
    for one in queue:
        waiting[one.tenant].append(one)
    order = _fair(waiting, held, limits)
    let_in: list[str] = []
    for place, one in enumerate(order):
        lacking = _lacking(one, used, limits)
        if lacking:
            left = order[place:]
            return Admission(frozenset(let_in), _places(left, lacking))
        _add(used, one)
        let_in.append(one.job)
    return Admission(frozenset(let_in), {})


def _limits(quota: Quota) -> dict[str, float | None]:
    return {"cpus": quota.cpus, "memory": quota.memory, "instances": quota.instances, "runs": quota.runs}


def _add(sums: dict[str, float], one: Claim) -> None:
    for name in sums:
        sums[name] += float(getattr(one, name))


def _fair(
    waiting: Mapping[str, Sequence[Claim]], held: defaultdict[str, dict[str, float]], limits: Mapping[str, float]
) -> list[Claim]:
    """The queue as it would be served, if each had its place in turn."""
    nexts = dict.fromkeys(waiting, 0)
    order: list[Claim] = []

    def share(tenant: str) -> tuple[float, str]:
        return max((held[tenant][name] / limit for name, limit in limits.items()), default=0.0), _first(tenant).job

    def _first(tenant: str) -> Claim:
        return waiting[tenant][nexts[tenant]]

    while nexts:
        tenant = min(nexts, key=share)
        one = _first(tenant)
        order.append(one)
        _add(held[tenant], one)
        nexts[tenant] += 1
        if nexts[tenant] == len(waiting[tenant]):
            del nexts[tenant]
    return order


def _lacking(one: Claim, used: Mapping[str, float], limits: Mapping[str, float]) -> str:
    """What there is no room for, in words; empty if there is room."""
    parts = [
        f"{float(getattr(one, name)):g} {_UNITS[name]} ({used[name]:g} of {limit:g} are in use)"
        for name, limit in limits.items()
        if used[name] + float(getattr(one, name)) > limit
    ]
    return " and ".join(parts)


def _places(left: Sequence[Claim], lacking: str) -> dict[str, Place]:
    first = f"waits for {lacking}"
    behind = f"waits behind {left[0].job}, which {first}"
    return {
        one.job: Place(position=number, length=len(left), reason=first if number == 1 else behind)
        for number, one in enumerate(left, start=1)
    }
