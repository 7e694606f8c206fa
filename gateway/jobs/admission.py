"""From the body of a submission to a job's first record, or a refusal that says what to do. Pure but for the clock."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from pydantic import ValidationError

from flaregate_wire.definitions import Action, Code, JobDefinition, JoinNode
from flaregate_wire.jobs import PlanView, Progress, Usage
from flaregate_wire.planning import faults, plan
from flaregate_wire.problems import Fault, faults_of
from flaregate_wire.states import State
from gateway.jobs.errors import EnvironmentMismatch, InvalidDefinition, PriceUnknown
from gateway.jobs.ids import new_id
from gateway.jobs.prices import UNKNOWN, amount_of, money, priced, rate
from gateway.jobs.records import JobRecord
from gateway.jobs.references import unresolved
from gateway.jobs.signing import lacking, signed
from gateway.jobs.sizing import choose
from gateway.launchers.base import Capabilities

_EXACT = frozenset({"ray", "cloudpickle"})
"""A payload of one version of these need not load in another; of the others, the same major and minor will do."""


def parse(body: bytes) -> JobDefinition:
    """A definition without faults, its signatures filled in. Raises InvalidDefinition with every place."""
    try:
        definition = JobDefinition.model_validate_json(body)
    except ValidationError as error:
        found = faults_of(error)
        raise InvalidDefinition("; ".join(item.message for item in found[:5]), found) from error
    lacks = tuple(lacking(definition))
    definition = signed(definition)
    wrong = (*lacks, *faults(definition))
    if wrong:
        raise InvalidDefinition("; ".join(item.message for item in wrong), wrong)
    return definition


def check_travels(definition: JobDefinition, platform: Capabilities) -> None:
    """Raise InvalidDefinition for code that imports what only the submitting machine has, unless that comes along."""
    if platform.name == "local" or definition.code is not None:
        return
    found = tuple(
        Fault(pointer="/pipeline", rule="only_here", message=_stays(name, code.only_here, platform.name))
        for name, code in _code(definition)
        if code.only_here
    )
    if found:
        raise InvalidDefinition("; ".join(item.message for item in found), found)


def _stays(name: str, modules: Sequence[str], platform: str) -> str:
    return (
        f"{name} imports {', '.join(modules)} when it runs, which {platform!r} does not have; install it there, or "
        "import it at the top of its file, so that it goes with the job"
    )


def _code(definition: JobDefinition) -> Iterator[tuple[str, Code]]:
    """Every piece of code that the job brings, and what it is called."""
    named: list[tuple[str, object]] = []
    for node in definition.pipeline.nodes:
        inner = node.combine if isinstance(node, JoinNode) else getattr(node, "stack_cv", None)
        named += [(f"node {node.name!r}", node), (f"node {node.name!r}", inner)]
    scoring = definition.scoring if isinstance(definition.scoring, dict) else {"scoring": definition.scoring}
    named += [*scoring.items(), ("cv", definition.cv), ("refit", definition.refit)]
    return ((name, code) for name, code in named if isinstance(code, Code))


def check_environment(definition: JobDefinition, has: Mapping[str, str]) -> None:
    """Raise EnvironmentMismatch with each difference between what a job needs and what its workers will have.

    Its requirements add to what they have, and may not be other versions of that.
    """
    wrong = []
    brings = {} if definition.requirements is None else definition.requirements.versions()
    for name, version in brings.items():
        if name in has and has[name].partition("+")[0] != version.partition("+")[0]:
            message = f"{name}: the requirements have {version}, the workers {has[name]}; leave it out"
            wrong.append(Fault(pointer="/requirements", rule="requirements", message=message))
    for name, version in definition.environment.items():
        found = has.get(name, brings.get(name))
        if found is None or _series(name, version) != _series(name, found):
            message = f"{name}: the payloads need {version}, the workers have {found or 'none'}"
            wrong.append(Fault(pointer=f"/environment/{name}", rule="environment", message=message))
    if wrong:
        raise EnvironmentMismatch("; ".join(item.message for item in wrong), tuple(wrong))


def _series(name: str, version: str) -> str:
    return version if name in _EXACT else ".".join(version.split(".")[:2])


def admit(definition: JobDefinition, platform: Capabilities, tenant: str, now: datetime) -> JobRecord:
    """The record of a new job. Raises InvalidDefinition or PriceUnknown."""
    check_travels(definition, platform)
    if definition.limits.max_cost is not None:
        _check_currency(definition.limits.max_cost, platform)
    counts = plan(definition).counts()
    return JobRecord(
        id=new_id(now),
        tenant=tenant,
        name=definition.pipeline.name,
        action=definition.action,
        project=definition.project,
        labels=dict(definition.labels),
        state=State.QUEUED,
        since=now,
        created=now,
        cluster=choose(definition.resources, counts, platform),
        timeout=definition.limits.timeout,
        retries=definition.limits.retries,
        max_cost=definition.limits.max_cost,
        usage=priced(Usage(), platform.price),
        cache=definition.cache,
        references=unresolved(definition),
        progress=Progress(total=counts.tasks),
        timeline={"queued": now},
    )


def _check_currency(cap: str, platform: Capabilities) -> None:
    price, (_, currency) = platform.price, amount_of(cap)
    if price is not None and price.currency == currency:
        return
    why = f"{platform.name!r} has none" if price is None else f"that of {platform.name!r} is in {price.currency}"
    message = f"max_cost needs a price, and {why}; leave max_cost out" + (
        "" if price is None else " or change its currency"
    )
    raise PriceUnknown(message, (Fault(pointer="/limits/max_cost", rule="price_unknown", message=message),))


def planned(definition: JobDefinition, platform: Capabilities) -> PlanView:
    """What a definition amounts to. Raises InvalidDefinition."""
    check_travels(definition, platform)
    made = plan(definition)
    counts = made.counts()
    cluster = choose(definition.resources, counts, platform)
    second = None if platform.price is None else rate(cluster, platform.price)
    lengths = (len(path.nodes) * many for path, many in zip(made.paths, made.sizes, strict=True))
    unshared = None if counts.folds is None else counts.sources * counts.folds * sum(lengths)
    maps = definition.action is Action.MAP
    return PlanView(
        candidates=counts.candidates,
        folds=counts.folds,
        tasks=definition.blocks if maps else counts.tasks,
        tasks_unshared=definition.blocks if maps else unshared,
        steps=counts.steps,
        cluster=cluster,
        cost=_money(second, definition.limits.timeout, platform),
        cost_hour=_money(second, 3600, platform),
    )


def _money(second: Decimal | None, seconds: float, platform: Capabilities) -> str:
    return UNKNOWN if second is None or platform.price is None else money(second * Decimal(seconds), platform.price)
