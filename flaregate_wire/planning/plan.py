"""A plan: candidates and steps of a job, made one by one when they are asked for."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from pydantic import JsonValue

from flaregate_wire.definitions import Axis, EstimatorNode, JobDefinition, Sample
from flaregate_wire.digests import canonical, digest
from flaregate_wire.planning.folds import fold_count
from flaregate_wire.planning.graph import Path, links, paths
from flaregate_wire.planning.identity import node_identity
from flaregate_wire.values import identity


@dataclass(frozen=True, slots=True)
class Setting:
    """One value of one axis."""

    node: str
    param: str
    value: JsonValue


@dataclass(frozen=True, slots=True)
class Step:
    """One node in one setting on one upstream; with a fold it is a task."""

    digest: str
    node: str
    settings: tuple[Setting, ...]
    """The axes' values on this node alone."""
    inputs: tuple[str, ...]
    """Digests of the steps that feed it, in column order; none for a root."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A path with one value for each axis that touches it."""

    index: int
    path: Path
    settings: tuple[Setting, ...]
    """In the order of the axes: by node, then by parameter."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What a job amounts to."""

    candidates: int
    folds: int | None
    steps: dict[str, int]
    """Distinct settings of each node, with all that is upstream of it."""
    sources: int = 1
    """Source objects, each of which goes through all of it."""

    @property
    def tasks(self) -> int | None:
        """Distinct tasks, prefixes shared."""
        return None if self.folds is None else self.sources * self.folds * sum(self.steps.values())


@dataclass(slots=True)
class Plan:
    """All candidates of a job in their order; nothing is listed before it is asked for.

    Memory grows with the distinct steps above the leaves, not with candidates × folds.
    """

    definition: JobDefinition
    paths: tuple[Path, ...]
    folds: int | None
    _axes: dict[str, tuple[Axis, ...]]
    _nodes: dict[str, str]
    _starts: tuple[int, ...]
    samples: tuple[Sample, ...] | None = None
    """The candidates one by one, where they are not every combination."""
    _shared: dict[tuple[object, ...], Step] = field(default_factory=dict)

    def __len__(self) -> int:
        return self._starts[-1] if self.samples is None else len(self.samples)

    def __iter__(self) -> Iterator[Candidate]:
        return (self.candidate(index) for index in range(len(self)))

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many candidates each path has."""
        if self.samples is not None:
            counted = Counter(sample[0] for sample in self.samples)
            return tuple(counted[number] for number in range(len(self.paths)))
        return tuple(stop - start for start, stop in pairwise(self._starts))

    def node_digest(self, name: str) -> str:
        """Digest of what a node does with its own parameters, the axes left out."""
        return self._nodes[name]

    def axes_of(self, path: Path) -> tuple[Axis, ...]:
        """The axes that touch a path, by node and then by parameter."""
        return tuple(axis for name in path.nodes for axis in self._axes.get(name, ()))

    def candidate(self, index: int) -> Candidate:
        """The candidate at a place in the order: the last axis runs fastest, as in ParameterGrid."""
        if not 0 <= index < len(self):
            msg = f"there is no candidate {index}; there are {len(self)}"
            raise IndexError(msg)
        if self.samples is not None:
            return self._sampled(index, self.samples[index])
        which = next(number for number in range(len(self.paths)) if index < self._starts[number + 1])
        rest = index - self._starts[which]
        settings: list[Setting] = []
        for axis in reversed(self.axes_of(self.paths[which])):
            rest, place = divmod(rest, len(axis.values))
            settings.append(Setting(axis.node, axis.param, axis.values[place]))
        return Candidate(index, self.paths[which], tuple(reversed(settings)))

    def sample(self, index: int) -> Sample:
        """The candidate by place: its path, and the number of its value on each axis of the definition."""
        if self.samples is not None:
            return self.samples[index]
        candidate = self.candidate(index)
        rest = index - self._starts[self.paths.index(candidate.path)]
        places: dict[tuple[str, str], int] = {}
        for axis in reversed(self.axes_of(candidate.path)):
            rest, places[axis.node, axis.param] = divmod(rest, len(axis.values))
        every = ((axis.node, axis.param) for axis in self.definition.axes)
        return (self.paths.index(candidate.path), *(places.get(one) for one in every))

    def _sampled(self, index: int, sample: Sample) -> Candidate:
        path = self.paths[sample[0] or 0]
        places = dict(zip(((axis.node, axis.param) for axis in self.definition.axes), sample[1:], strict=True))
        settings = tuple(
            Setting(axis.node, axis.param, axis.values[place])
            for axis in self.axes_of(path)
            if (place := places[axis.node, axis.param]) is not None
        )
        return Candidate(index, path, settings)

    def steps(self, candidate: Candidate) -> tuple[Step, ...]:
        """The candidate's steps, predecessors first; the last is its leaf. Equal steps have equal digests."""
        made: dict[str, Step] = {}
        for name in candidate.path.nodes:
            own = tuple(setting for setting in candidate.settings if setting.node == name)
            inputs = tuple(made[source].digest for source in candidate.path.inputs[name])
            if name == candidate.path.leaf:
                made[name] = self._step(name, own, inputs)
                continue
            key = (name, inputs, canonical([[setting.param, setting.value] for setting in own]))
            if key not in self._shared:
                self._shared[key] = self._step(name, own, inputs)
            made[name] = self._shared[key]
        return tuple(made.values())

    def leaf(self, index: int, like: Step) -> Step:
        """The leaf of a candidate whose steps above it are those of the leaf `like`. Cheaper than `steps`."""
        settings = tuple(setting for setting in self.candidate(index).settings if setting.node == like.node)
        return self._step(like.node, settings, like.inputs)

    def _step(self, name: str, settings: tuple[Setting, ...], inputs: tuple[str, ...]) -> Step:
        axes = [[setting.param, identity(setting.value)] for setting in settings]
        return Step(digest([self._nodes[name], axes, list(inputs)]), name, settings, inputs)

    def counts(self) -> Counts:
        """Candidates and distinct steps, by arithmetic: only candidates that are listed are gone through."""
        objects = max(1, len(self.definition.objects))
        if self.samples is not None:
            distinct = {(step.node, step.digest) for candidate in self for step in self.steps(candidate)}
            return Counts(len(self), self.folds, dict(Counter(node for node, _ in distinct)), objects)
        steps: Counter[str] = Counter()
        seen: set[object] = set()
        for path in self.paths:
            above: dict[str, frozenset[str]] = {}
            for name in path.nodes:
                sources = path.inputs[name]
                above[name] = frozenset({name}).union(*(above[source] for source in sources))
                way = frozenset((inner, path.inputs[inner]) for inner in above[name])
                if way in seen:
                    continue
                seen.add(way)
                steps[name] += math.prod(
                    len({canonical(identity(value)) for value in axis.values})
                    for inner in above[name]
                    for axis in self._axes.get(inner, ())
                )
        return Counts(len(self), self.folds, dict(steps), objects)


def _node_digests(definition: JobDefinition) -> dict[str, str]:
    """A digest for each node by what it does: its name is not part of it.

    Equal nodes that may draw are told apart by their order where the same nodes feed them: each draws for itself.
    """
    found = {}
    drawn: Counter[object] = Counter()
    feeding = links(definition.pipeline)
    for node in definition.pipeline.nodes:
        fit_params = identity(definition.fit_params.get(node.name, {}))
        content = [node_identity(node), definition.config, *([fit_params] if fit_params else [])]
        found[node.name] = digest(content)
        if isinstance(node, EstimatorNode) and node.signature is not None and node.signature.draws:
            like = (found[node.name], feeding[node.name])
            if drawn[like]:
                found[node.name] = digest([*content, drawn[like]])
            drawn[like] += 1
    return found


def plan(definition: JobDefinition) -> Plan:
    """The plan of a definition without faults (see `faults`). Pure and cheap: candidates are made when asked for."""
    ways = paths(definition.pipeline)
    by_node: dict[str, tuple[Axis, ...]] = {}
    for axis in sorted(definition.axes, key=lambda axis: axis.param):
        by_node[axis.node] = (*by_node.get(axis.node, ()), axis)
    starts = [0]
    for path in ways:
        sizes = (len(axis.values) for name in path.nodes for axis in by_node.get(name, ()))
        starts.append(starts[-1] + math.prod(sizes))
    digests = _node_digests(definition)
    return Plan(definition, ways, fold_count(definition), by_node, digests, tuple(starts), definition.samples)
