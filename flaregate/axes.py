"""Axes as users write them: keys split into node and parameter, values encoded, both kept as the user gave them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from flaregate.errors import Refused
from flaregate.pipelines import NodeRef
from flaregate.values import Stage, encode_value
from flaregate_wire.definitions import Axis, JoinNode, PipelineDefinition
from flaregate_wire.digests import canonical
from flaregate_wire.planning.checks import suggestion
from flaregate_wire.problems import Fault

Key = str | tuple[NodeRef | str, str]
Axes = Mapping[Any, Any]
"""From a Key to the list of values."""
_PAIR = 2


@dataclass(frozen=True, slots=True)
class OwnAxis:
    """An axis in the user's own words."""

    key: Any
    values: Mapping[bytes, Any]
    """The user's objects, by the canonical JSON of their typed values."""

    def value(self, wire: JsonValue) -> Any:
        """The user's object for a typed value; raises KeyError."""
        return self.values[canonical(wire)]


OwnAxes = Mapping[tuple[str, str], OwnAxis]


def split_key(key: Any, pipeline: PipelineDefinition) -> tuple[str, str]:
    """The node and parameter that a key names.

    A string is split at the longest node name that fits; a name fits best where its node has the parameter. If two
    nodes have what the key says, it is refused and the tuple form asked for.
    """
    if isinstance(key, tuple):
        if len(key) != _PAIR or not isinstance(key[1], str) or not isinstance(key[0], NodeRef | str):
            raise _refused(f"the axis {key!r} is no key; write 'node__parameter' or (node, 'parameter')")
        return (key[0].name if isinstance(key[0], NodeRef) else key[0]), key[1]
    if not isinstance(key, str):
        raise _refused(f"the axis {key!r} is no key; write 'node__parameter' or (node, 'parameter')")
    fits = [
        (node, key[len(node.name) + 2 :])
        for node in sorted(pipeline.nodes, key=lambda node: -len(node.name))
        if key.startswith(f"{node.name}__") and len(key) > len(node.name) + 2
    ]
    having = [
        (node.name, param)
        for node, param in fits
        if not isinstance(node, JoinNode)
        and (node.signature is None or node.signature.open or param in node.signature.params)
    ]
    if len(having) > 1:
        forms = " or ".join(f"({name!r}, {param!r})" for name, param in having)
        raise _refused(f"the axis {key!r} fits several nodes; write {forms}")
    if having:
        return having[0]
    if fits:
        return fits[0][0].name, fits[0][1]
    names = [node.name for node in pipeline.nodes]
    raise _refused(f"the axis {key!r} names no node{suggestion(key.partition('__')[0], names)}", "unknown_node")


def resolve_axes(axes: Axes | None, pipeline: PipelineDefinition, stage: Stage) -> tuple[tuple[Axis, ...], OwnAxes]:
    """The axes on the wire, and the user's own keys and values to give back with each outcome."""
    wire: list[Axis] = []
    own: dict[tuple[str, str], OwnAxis] = {}
    for key, given in (axes or {}).items():
        node, param = split_key(key, pipeline)
        values = _values(key, given)
        encoded = [encode_value(value, stage) for value in values]
        own_key = key if isinstance(key, str) and key != f"{node}__{param}" else None
        wire.append(Axis(node=node, param=param, values=tuple(encoded), key=own_key))
        own[node, param] = OwnAxis(key, {canonical(item): value for item, value in zip(encoded, values, strict=True)})
    return tuple(wire), own


def _values(key: Any, given: Any) -> Sequence[Any]:
    if isinstance(given, str | bytes | Mapping) or not hasattr(given, "__iter__"):
        raise _refused(f"the axis {key!r} needs a list of values, not {type(given).__name__}")
    values = list(given)
    if not values:
        raise _refused(f"the axis {key!r} has no values")
    return values


def _refused(message: str, rule: str = "axis") -> Refused:
    return Refused(message, errors=[Fault(pointer="/axes", rule=rule, message=message)])
