"""The DAG and the ways through it."""

from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from flaregate_wire.definitions import JoinNode, PipelineDefinition
from flaregate_wire.limits import PATHS


class TooManyPaths(ValueError):
    """The pipeline has more paths than the limit."""


@dataclass(frozen=True, slots=True)
class Graph:
    """Who feeds whom, in the order of the definition."""

    order: tuple[str, ...]
    """All nodes, predecessors first; the definition's order where that is free."""
    predecessors: dict[str, tuple[str, ...]]
    joins: frozenset[str]

    @property
    def leaves(self) -> tuple[str, ...]:
        """Nodes that feed none."""
        feeding = {name for names in self.predecessors.values() for name in names}
        return tuple(name for name in self.order if name not in feeding)


@dataclass(frozen=True, slots=True)
class Path:
    """One way through the DAG: its nodes, predecessors first, and what feeds each of them on this way."""

    nodes: tuple[str, ...]
    inputs: dict[str, tuple[str, ...]]

    @property
    def leaf(self) -> str:
        """The last node."""
        return self.nodes[-1]


def links(pipeline: PipelineDefinition) -> dict[str, tuple[str, ...]]:
    """The predecessors of each node: of a join in its own order, else in the order of the edges."""
    found: dict[str, list[str]] = {node.name: [] for node in pipeline.nodes}
    for node in pipeline.nodes:
        if isinstance(node, JoinNode):
            found[node.name].extend(node.of)
    joins = {node.name for node in pipeline.nodes if isinstance(node, JoinNode)}
    for source, target in pipeline.edges:
        if target in found and target not in joins:
            found[target].append(source)
    return {name: tuple(names) for name, names in found.items()}


def graph(pipeline: PipelineDefinition) -> Graph:
    """The DAG of a pipeline whose names are all known; raises graphlib.CycleError."""
    predecessors = links(pipeline)
    place = {node.name: number for number, node in enumerate(pipeline.nodes)}
    sorter = TopologicalSorter(predecessors)
    sorter.prepare()
    order: list[str] = []
    ready: list[str] = []
    while sorter.is_active():
        ready = sorted((*ready, *sorter.get_ready()), key=place.__getitem__)
        name = ready.pop(0)
        order.append(name)
        sorter.done(name)
    joins = frozenset(node.name for node in pipeline.nodes if isinstance(node, JoinNode))
    return Graph(tuple(order), predecessors, joins)


def cycle(pipeline: PipelineDefinition) -> tuple[str, ...]:
    """The nodes of one cycle, in order, or nothing."""
    try:
        graph(pipeline)
    except CycleError as error:
        return tuple(error.args[1])
    return ()


def _options(dag: Graph, name: str) -> Iterator[tuple[str, ...]]:
    feeding = dag.predecessors[name]
    if name in dag.joins or not feeding:
        yield feeding
    else:
        yield from ((source,) for source in feeding)


def _ways(dag: Graph, leaf: str) -> Iterator[dict[str, tuple[str, ...]]]:
    open_ways: list[tuple[tuple[str, ...], dict[str, tuple[str, ...]]]] = [((leaf,), {})]
    while open_ways:
        todo, chosen = open_ways.pop()
        while todo and todo[0] in chosen:
            todo = todo[1:]
        if not todo:
            yield chosen
            continue
        open_ways.extend((todo[1:] + feeding, {**chosen, todo[0]: feeding}) for feeding in _options(dag, todo[0]))


def paths(pipeline: PipelineDefinition) -> tuple[Path, ...]:
    """Every path, in the order of the nodes in the definition. Each node of a path appears once.

    Raises TooManyPaths above the limit, graphlib.CycleError on a cycle.
    """
    dag = graph(pipeline)
    place = {name: number for number, name in enumerate(dag.order)}
    found: list[Path] = []
    for leaf in dag.leaves:
        for chosen in _ways(dag, leaf):
            if len(found) == PATHS:
                msg = f"the pipeline has more than {PATHS} paths"
                raise TooManyPaths(msg)
            found.append(Path(tuple(sorted(chosen, key=place.__getitem__)), chosen))
    first = {node.name: number for number, node in enumerate(pipeline.nodes)}

    def rank(path: Path) -> tuple[list[int], list[list[int]]]:
        names = path.nodes
        return [first[name] for name in names], [[first[source] for source in path.inputs[name]] for name in names]

    return tuple(sorted(found, key=rank))
