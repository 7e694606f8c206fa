"""Axes as users write them: keys split into node and parameter, values encoded, both kept as the user gave them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import JsonValue

from flaregate.errors import Refused
from flaregate.pipelines import NodeRef
from flaregate.values import Stage, encode_value
from flaregate_wire.definitions import Axis, JoinNode, ModelNode, Node, PipelineDefinition
from flaregate_wire.digests import canonical
from flaregate_wire.planning.checks import suggestion
from flaregate_wire.problems import Fault

Grid = Mapping[Any, Any]
"""From a key, `node__parameter` or (node, parameter), to a list of values or a distribution."""
Axes = Grid | Sequence[Grid]
Place = tuple[str, str]
"""A node and a parameter of it."""
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


OwnAxes = Mapping[Place, OwnAxis]


@dataclass(slots=True)
class MadeAxis:
    """An axis while its values come in. Equal values have one place where they are asked for by `place`."""

    node: str
    param: str
    key: Any
    stage: Stage
    wire: list[JsonValue] = field(default_factory=list)
    own: dict[bytes, Any] = field(default_factory=dict)
    _places: dict[bytes, int] = field(default_factory=dict)

    def add(self, value: Any) -> int:
        """One more value; gives its place."""
        encoded = encode_value(value, self.stage)
        found = canonical(encoded)
        self.own.setdefault(found, value)
        self.wire.append(encoded)
        return self._places.setdefault(found, len(self.wire) - 1)

    def place(self, value: Any) -> int:
        """The place of a value, which is added where it is new."""
        found = canonical(encode_value(value, self.stage))
        return self._places[found] if found in self._places else self.add(value)

    def axis(self) -> Axis:
        """The axis on the wire."""
        own = self.key if isinstance(self.key, str) and self.key != f"{self.node}__{self.param}" else None
        return Axis(node=self.node, param=self.param, values=tuple(self.wire), key=own)


def split_key(key: Any, pipeline: PipelineDefinition, *, bare: bool = False) -> Place:
    """The node and parameter that a key names.

    A string is split at the longest node name that fits; a name fits best where its node has the parameter. If two
    nodes have what the key says, it is refused and the tuple form asked for. With `bare`, as in a sweep, the
    parameter alone is a key too.
    """
    if isinstance(key, tuple):
        if len(key) != _PAIR or not isinstance(key[1], str) or not isinstance(key[0], NodeRef | str):
            raise refused(f"the axis {key!r} is no key; write 'node__parameter' or (node, 'parameter')")
        return (key[0].name if isinstance(key[0], NodeRef) else key[0]), key[1]
    if not isinstance(key, str):
        raise refused(f"the axis {key!r} is no key; write 'node__parameter' or (node, 'parameter')")
    fits = [
        (node, key[len(node.name) + 2 :])
        for node in sorted(pipeline.nodes, key=lambda node: -len(node.name))
        if key.startswith(f"{node.name}__") and len(key) > len(node.name) + 2
    ]
    if bare and not fits:
        fits = [(node, key) for node in pipeline.nodes]
    having = [(node.name, param) for node, param in fits if _has(node, param)]
    if len(having) > 1:
        forms = " or ".join(f"({name!r}, {param!r})" for name, param in having)
        raise refused(f"the axis {key!r} fits several nodes; write {forms}")
    if having:
        return having[0]
    if fits:
        return fits[0][0].name, fits[0][1]
    names = [node.name for node in pipeline.nodes]
    raise refused(f"the axis {key!r} names no node{suggestion(key.partition('__')[0], names)}", "unknown_node")


def _has(node: Node, param: str) -> bool:
    if isinstance(node, JoinNode | ModelNode):
        return False
    return node.signature is None or node.signature.open or param in node.signature.params


def own_axes(made: Mapping[Place, MadeAxis]) -> OwnAxes:
    """The user's own keys and values, to give back with each outcome."""
    return {place: OwnAxis(axis.key, axis.own) for place, axis in made.items()}


def is_drawn(given: Any) -> bool:
    """Whether values are drawn from it: a distribution, as scipy.stats has them."""
    return hasattr(given, "rvs")


def listed(key: Any, given: Any) -> Sequence[Any]:
    """The values of an axis; raises Refused for what is no list of values."""
    if isinstance(given, str | bytes | Mapping) or not hasattr(given, "__iter__"):
        raise refused(f"the axis {key!r} needs a list of values, not {type(given).__name__}")
    values = list(given)
    if not values:
        raise refused(f"the axis {key!r} has no values")
    return values


def refused(message: str, rule: str = "axis") -> Refused:
    """The error of an axis."""
    return Refused(message, errors=[Fault(pointer="/axes", rule=rule, message=message)])
