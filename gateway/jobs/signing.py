"""What the nodes can do that a definition names by import path, with the estimators in them, and what these lack.

The one module that reads the catalogue. Nothing is imported for it; what the catalogue does not know the head checks.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from itertools import chain
from typing import Any

from pydantic import JsonValue

from flaregate_wire.catalogue import Row
from flaregate_wire.definitions import Ability, EstimatorNode, JobDefinition, JoinNode, ModelNode, Node, Signature
from flaregate_wire.planning.checks import suggestion
from flaregate_wire.planning.naming import is_known_code
from flaregate_wire.problems import Fault
from flaregate_wire.values import tag_of

_STEPS, _ESTIMATOR, _NODE = "steps", "estimator", "$node"
_LISTED = {_STEPS: 2, "estimators": 2, "transformer_list": 2, "transformers": 3}
"""Required parameters that list estimators, and how many entries each has: its name, itself, the columns."""
_WRITTEN = '{"$node": {"import": "module:Class", "params": {…}}}'
_PASSING = Signature(params=(), abilities=(Ability.TRANSFORM,))
"""Of the step `passthrough`."""

Params = Mapping[str, JsonValue]


@cache
def catalogue() -> dict[str, Row]:
    """What the workers can import by name."""
    return {path: Row.model_validate(row) for path, row in _document()["estimators"].items()}


@cache
def _document() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(files("gateway.jobs").joinpath("catalogue.json").read_text())
    return document


def signed(definition: JobDefinition) -> JobDefinition:
    """With what nodes do that are named by import path only."""
    nodes = tuple(_signed(node) for node in definition.pipeline.nodes)
    return definition.model_copy(update={"pipeline": definition.pipeline.model_copy(update={"nodes": nodes})})


def _signed(node: Node) -> Node:
    if isinstance(node, JoinNode | ModelNode) or node.signature is not None or node.import_ is None:
        return node
    if node.import_ not in catalogue():
        return node
    known = _signature(node.import_, node.params)
    whole = all(map(is_known_code, node.params.values()))
    code = node.code or (f"scikit-learn=={_document()['scikit-learn']}" if whole else None)
    return node.model_copy(update={"signature": known, "code": code})


def _signature(path: str, params: Params) -> Signature | None:
    """As an object of these parameters would have it; None where that is not known."""
    row = catalogue().get(path)
    if row is None:
        return None
    steps = _pairs(params.get(_STEPS)) if row.follows == _STEPS else []
    held = {name: _signature_of(value) for name, value in chain(params.items(), steps) if _is_node(value)}
    held |= {name: _PASSING for name, value in steps if not _is_node(value)}
    lead = held.get(steps[-1][0] if steps else row.follows or "")
    if row.follows is not None and lead is None:
        return None
    known = {name: one for name, one in held.items() if one is not None}
    nested = (f"{name}__{param}" for name, one in known.items() for param in one.params)
    unknown = len(known) < len(held)
    seeded = isinstance(params.get("random_state"), int)
    return Signature(
        params=(*row.params, *(name for name, _ in steps), *nested),
        abilities=tuple(one for one in row.abilities if lead is None or one not in row.lent or one in lead.abilities),
        type=row.type if lead is None else lead.type,
        draws=(row.draws and not seeded) or unknown or any(one.draws for one in known.values()),
        open=row.open or unknown or any(one.open for one in known.values()),
    )


def _is_node(value: JsonValue) -> bool:
    return tag_of(value) == _NODE


def _signature_of(value: JsonValue) -> Signature | None:
    return _signature(*_code(value))


def _code(value: JsonValue) -> tuple[str, Params]:
    """The import path and parameters of a nested estimator."""
    body: Any = value[_NODE] if isinstance(value, dict) else {}
    return body["import"], body.get("params", {})


def _items(value: JsonValue) -> Sequence[JsonValue] | None:
    """Those of a list or tuple."""
    body = value["$tuple"] if isinstance(value, dict) and tag_of(value) == "$tuple" else value
    return body if isinstance(body, list) else None


def _pairs(value: JsonValue) -> list[tuple[str, JsonValue]]:
    """The steps of a Pipeline, as far as they are pairs of a name and something."""
    pairs = (_items(item) or () for item in _items(value) or ())
    return [(pair[0], pair[1]) for pair in pairs if len(pair) == _LISTED[_STEPS] and isinstance(pair[0], str)]


def lacking(definition: JobDefinition) -> Iterator[Fault]:
    """What estimators that are written by hand lack, nested ones too: what their classes say of them."""
    by_hand = set()
    for place, node in enumerate(definition.pipeline.nodes):
        if isinstance(node, EstimatorNode) and node.signature is None and node.import_ is not None:
            by_hand.add(node.name)
            yield from _of_class(f"/pipeline/nodes/{place}", f"node {node.name!r}", node.import_, node.params)
    for place, axis in enumerate(definition.axes):
        if axis.node in by_hand:
            who = f"the axis {axis.node!r}, {axis.param!r}"
            yield from _of_value(f"/axes/{place}/values", who, [*axis.values])


def _of_class(pointer: str, who: str, path: str, params: Params) -> Iterator[Fault]:
    row = catalogue().get(path)
    for name in () if row is None else row.required:
        if name not in params:
            message = f"{who}: {path} needs the parameter {name!r}; give it in 'params'{_as(name)}"
            yield Fault(pointer=f"{pointer}/params", rule="missing_param", message=message)
        else:
            yield from _required(f"{pointer}/params/{name}", who, name, params[name])
    for name, value in params.items():
        yield from _of_value(f"{pointer}/params/{name}", who, value)


def _as(name: str) -> str:
    """How a parameter is written that holds estimators."""
    if name == _ESTIMATOR:
        return f" as {_WRITTEN}"
    if name not in _LISTED:
        return ""
    return f' as [["name", {_WRITTEN}{", columns" * (_LISTED[name] - 2)}], …]'


def _required(pointer: str, who: str, name: str, value: JsonValue) -> Iterator[Fault]:
    """What is wrong with a parameter that holds an estimator, or a list of named ones."""
    if name == _ESTIMATOR and tag_of(value) not in (_NODE, "$payload"):
        message = f"{who}: {name!r} is {str(value)[:80]!r}, which is no estimator; write it{_as(name)}"
        yield Fault(pointer=pointer, rule="no_estimator", message=message)
    if name not in _LISTED or tag_of(value) == "$payload":
        return
    entries = [_items(item) for item in _items(value) or ()]
    if not entries or any(one is None or len(one) != _LISTED[name] or type(one[0]) is not str for one in entries):
        message = f"{who}: {name!r} is {str(value)[:80]!r}, which lists no named estimators; write it{_as(name)}"
        yield Fault(pointer=pointer, rule="no_estimator", message=message)
    elif name == _STEPS:
        yield from _steps(pointer, who, _pairs(value))


def _steps(pointer: str, who: str, steps: Sequence[tuple[str, JsonValue]]) -> Iterator[Fault]:
    """Names twice, and steps that nothing can follow."""
    for place, (name, value) in enumerate(steps):
        if name in (other for other, _ in steps[:place]):
            message = f"{who}: two steps are called {name!r}; give each a name of its own"
            yield Fault(pointer=f"{pointer}/{place}/0", rule="duplicate_step", message=message)
        known = _signature_of(value) if _is_node(value) and place < len(steps) - 1 else None
        if known is not None and Ability.TRANSFORM not in known.abilities:
            message = f"{who}: the step {name!r} cannot transform, so no step can follow it; put it last"
            yield Fault(pointer=f"{pointer}/{place}/1", rule="nothing_to_pass_on", message=message)


def _of_value(pointer: str, who: str, value: JsonValue) -> Iterator[Fault]:
    """Of the estimators in a value, however deep."""
    if isinstance(value, list):
        for place, item in enumerate(value):
            yield from _of_value(f"{pointer}/{place}", who, item)
    elif _is_node(value):
        path, params = _code(value)
        known = _signature(path, params)
        for name in params:
            if known is not None and not known.open and name not in known.params:
                message = f"{who}: {path} has no parameter {name!r}{suggestion(name, known.params)}"
                yield Fault(pointer=f"{pointer}/{_NODE}/params/{name}", rule="unknown_param", message=message)
        yield from _of_class(f"{pointer}/{_NODE}", who, path, params)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _of_value(f"{pointer}/{name}", who, item)
