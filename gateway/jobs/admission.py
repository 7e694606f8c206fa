"""From the body of a submission to a job's first record, or a refusal that says what to do. Pure but for the clock."""

import json
import secrets
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from importlib.resources import files

from pydantic import ValidationError

from flaregate_wire.definitions import JobDefinition, JoinNode, ModelNode, Signature
from flaregate_wire.jobs import PlanView, Progress
from flaregate_wire.planning import faults, plan
from flaregate_wire.problems import Fault
from flaregate_wire.states import State
from gateway.jobs.errors import EnvironmentMismatch, InvalidDefinition, PriceUnknown
from gateway.jobs.records import JobRecord
from gateway.jobs.sizing import choose
from gateway.launchers.base import Capabilities

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_EXACT = frozenset({"ray", "cloudpickle"})
"""A payload of one version of these need not load in another; of the others, the same major and minor will do."""


@cache
def catalogue() -> dict[str, Signature]:
    """Signatures of what the workers can import by name."""
    document = json.loads(files("gateway.jobs").joinpath("catalogue.json").read_text())
    return {path: Signature.model_validate(row) for path, row in document["estimators"].items()}


def new_id(now: datetime) -> str:
    """`job-` and 26 characters: 48 bits of milliseconds, 80 random bits; later ids sort later."""
    number = int(now.timestamp() * 1000) << 80 | secrets.randbits(80)
    digits = [_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5)]
    return "job-" + "".join(digits)


def parse(body: bytes) -> JobDefinition:
    """A definition without faults, its signatures filled in. Raises InvalidDefinition with every place."""
    try:
        definition = JobDefinition.model_validate_json(body)
    except ValidationError as error:
        found = tuple(
            Fault(pointer="/" + "/".join(map(str, item["loc"])), rule=item["type"], message=item["msg"])
            for item in error.errors(include_url=False)
        )
        raise InvalidDefinition("; ".join(f"{item.pointer}: {item.message}" for item in found[:5]), found) from error
    definition = _signed(definition)
    wrong = faults(definition)
    if wrong:
        raise InvalidDefinition("; ".join(item.message for item in wrong), wrong)
    return definition


def _signed(definition: JobDefinition) -> JobDefinition:
    """Fill in the signatures of nodes that are named by import path only; what is unknown the head checks."""
    nodes = tuple(
        node
        if isinstance(node, JoinNode | ModelNode) or node.signature is not None or node.import_ is None
        else node.model_copy(update={"signature": catalogue().get(node.import_)})
        for node in definition.pipeline.nodes
    )
    return definition.model_copy(update={"pipeline": definition.pipeline.model_copy(update={"nodes": nodes})})


def check_environment(needed: Mapping[str, str], has: Mapping[str, str]) -> None:
    """Raise EnvironmentMismatch with each difference between what the payloads need and what the workers have."""
    wrong = []
    for name, version in needed.items():
        found = has.get(name)
        if found is None or _series(name, version) != _series(name, found):
            message = f"{name}: the payloads need {version}, the workers have {found or 'none'}"
            wrong.append(Fault(pointer=f"/environment/{name}", rule="environment", message=message))
    if wrong:
        raise EnvironmentMismatch("; ".join(item.message for item in wrong), tuple(wrong))


def _series(name: str, version: str) -> str:
    return version if name in _EXACT else ".".join(version.split(".")[:2])


def admit(definition: JobDefinition, platform: Capabilities, tenant: str, now: datetime) -> JobRecord:
    """The record of a new job. Raises InvalidDefinition or PriceUnknown."""
    if definition.limits.max_cost is not None:
        message = f"max_cost needs a price, and {platform.name!r} has none; leave max_cost out"
        raise PriceUnknown(message, (Fault(pointer="/limits/max_cost", rule="price_unknown", message=message),))
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
        cache=definition.cache,
        progress=Progress(total=counts.tasks),
        timeline={"queued": now},
    )


def planned(definition: JobDefinition, platform: Capabilities) -> PlanView:
    """What a definition amounts to."""
    made = plan(definition)
    counts = made.counts()
    lengths = (len(path.nodes) * many for path, many in zip(made.paths, made.sizes, strict=True))
    return PlanView(
        candidates=counts.candidates,
        folds=counts.folds,
        tasks=counts.tasks,
        tasks_unshared=None if counts.folds is None else counts.folds * sum(lengths),
        steps=counts.steps,
        cluster=choose(definition.resources, counts, platform),
    )
