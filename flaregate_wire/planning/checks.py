"""What is refused at submission, each with the node's name, the rule and what to do."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches

from flaregate_wire.definitions import (
    APPLIES,
    FOLDED,
    Ability,
    Action,
    Axis,
    Dataset,
    EstimatorNode,
    FunctionNode,
    JobDefinition,
    JoinNode,
    ModelNode,
    PipelineDefinition,
    Sample,
    Signature,
)
from flaregate_wire.limits import CANDIDATES, NODES
from flaregate_wire.planning.folds import NEED_GROUPS, NEED_Y, splitter_name
from flaregate_wire.planning.graph import TooManyPaths, cycle, links, paths
from flaregate_wire.problems import Fault
from flaregate_wire.values import number_of

_PREDICTS = frozenset({Ability.PREDICT, Ability.PREDICT_PROBA, Ability.DECISION_FUNCTION})


def suggestion(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` where something close is known, else what is known."""
    names = sorted(known)
    close = get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there are {', '.join(repr(name) for name in names[:12])}" if names else ""


def faults(definition: JobDefinition) -> tuple[Fault, ...]:
    """Every rule that the definition breaks; none if it can be planned.

    Names come first: where nodes or edges are wrong, what follows from them is not judged.
    """
    structure = tuple(_structure(definition.pipeline))
    if structure:
        return structure
    try:
        leaves = {path.leaf for path in paths(definition.pipeline)}
    except TooManyPaths as error:
        return (Fault(pointer="/pipeline/edges", rule="too_many_paths", message=f"{error}; use axes or fewer joins"),)
    return (
        *_kinds(definition),
        *_params(definition),
        *_axes(definition),
        *_samples(definition),
        *_fit_params(definition),
        *_middles(definition),
        *_inputs(definition),
        *_scoring(definition, leaves),
        *_error_score(definition),
    )


def _structure(pipeline: PipelineDefinition) -> Iterator[Fault]:
    names = [node.name for node in pipeline.nodes]
    if len(names) > NODES:
        yield Fault(
            pointer="/pipeline/nodes", rule="too_many_nodes", message=f"{len(names)} nodes; the limit is {NODES}"
        )
    for name, count in Counter(names).items():
        if count > 1:
            place = len(names) - 1 - names[::-1].index(name)
            message = f"{count} nodes are called {name!r}; give each a name of its own"
            yield Fault(pointer=f"/pipeline/nodes/{place}/name", rule="duplicate_node", message=message)
    unknown = [*_unknown_edges(pipeline, names), *_unknown_parts(pipeline, names)]
    yield from unknown
    yield from _double_edges(pipeline)
    if unknown or len(set(names)) < len(names):
        return
    ring = cycle(pipeline)
    if ring:
        message = f"the nodes {' → '.join(repr(name) for name in ring)} form a cycle; remove one of these edges"
        yield Fault(pointer="/pipeline/edges", rule="cycle", message=message)
        yield from _beyond(pipeline, ring)


def _unknown_edges(pipeline: PipelineDefinition, names: list[str]) -> Iterator[Fault]:
    for place, edge in enumerate(pipeline.edges):
        for end, name in enumerate(edge):
            if name not in names:
                message = (
                    f"the edge {edge[0]!r} → {edge[1]!r} names {name!r}, which is no node{suggestion(name, names)}"
                )
                yield Fault(pointer=f"/pipeline/edges/{place}/{end}", rule="unknown_node", message=message)


def _unknown_parts(pipeline: PipelineDefinition, names: list[str]) -> Iterator[Fault]:
    for place, node in enumerate(pipeline.nodes):
        if not isinstance(node, JoinNode):
            continue
        for part, name in enumerate(node.of):
            pointer = f"/pipeline/nodes/{place}/of/{part}"
            if name not in names:
                message = f"the join {node.name!r} names {name!r}, which is no node{suggestion(name, names)}"
                yield Fault(pointer=pointer, rule="unknown_node", message=message)
            elif name in node.of[:part]:
                message = f"the join {node.name!r} names {name!r} twice; name it once"
                yield Fault(pointer=pointer, rule="duplicate_edge", message=message)


def _double_edges(pipeline: PipelineDefinition) -> Iterator[Fault]:
    joins = {node.name: node for node in pipeline.nodes if isinstance(node, JoinNode)}
    for place, edge in enumerate(pipeline.edges):
        source, target = edge
        if edge in pipeline.edges[:place]:
            message = f"the edge {source!r} → {target!r} stands twice; write it once"
            yield Fault(pointer=f"/pipeline/edges/{place}", rule="duplicate_edge", message=message)
        if target in joins and source not in joins[target].of:
            message = f"the edge {source!r} → {target!r} ends at a join that does not name {source!r}; add it to 'of'"
            yield Fault(pointer=f"/pipeline/edges/{place}", rule="join_edge", message=message)


def _beyond(pipeline: PipelineDefinition, ring: tuple[str, ...]) -> Iterator[Fault]:
    """Nodes that only a cycle feeds."""
    feeding = links(pipeline)
    reached: set[str] = set()
    grew = True
    while grew:
        new = {name for name, sources in feeding.items() if name not in reached and reached.issuperset(sources)}
        reached |= new
        grew = bool(new)
    for place, node in enumerate(pipeline.nodes):
        if node.name not in reached and node.name not in ring:
            message = f"the node {node.name!r} cannot be reached: it hangs on the cycle"
            yield Fault(pointer=f"/pipeline/nodes/{place}", rule="unreachable", message=message)


def _kinds(definition: JobDefinition) -> Iterator[Fault]:
    """Which kinds of nodes an action takes."""
    action, nodes = definition.action, definition.pipeline.nodes
    for place, node in enumerate(nodes):
        pointer = f"/pipeline/nodes/{place}"
        if action in APPLIES and not isinstance(node, ModelNode):
            message = (
                f"{action.value!r} needs a fitted pipeline, and {node.name!r} is not fitted: give an outcome of a "
                "'fit' or 'search', a job, or flaregate.ref('job:ID/artifact')"
            )
            yield Fault(pointer=pointer, rule="not_fitted", message=message)
        elif isinstance(node, ModelNode) and action not in (*APPLIES, Action.MAP):
            message = f"{node.name!r} is fitted; {action.value!r} takes nodes that are not"
            yield Fault(pointer=pointer, rule="fitted", message=message)
        elif isinstance(node, ModelNode) and len(nodes) > 1:
            message = f"the fitted pipeline {node.name!r} is a pipeline by itself; leave the other nodes out"
            yield Fault(pointer=pointer, rule="fitted", message=message)
        elif action is Action.SWEEP and not isinstance(node, FunctionNode | JoinNode):
            message = f"{node.name!r} is no function; a sweep calls functions with the values of its axes"
            yield Fault(pointer=pointer, rule="no_function", message=message)
        elif action is Action.MAP and isinstance(node, EstimatorNode | JoinNode):
            message = f"{node.name!r} is neither a function nor a fitted pipeline; 'map' calls one with blocks of rows"
            yield Fault(pointer=pointer, rule="no_function", message=message)
    if action is Action.MAP:
        yield from _mapped(definition)


def _mapped(definition: JobDefinition) -> Iterator[Fault]:
    nodes = definition.pipeline.nodes
    if len(nodes) > 1:
        message = f"'map' has one function or fitted pipeline, here are {len(nodes)} nodes"
        yield Fault(pointer="/pipeline/nodes", rule="map_nodes", message=message)
    if isinstance(nodes[0], ModelNode) and definition.method is None:
        message = "which method of the fitted pipeline is mapped? give 'method', e.g. 'predict'"
        yield Fault(pointer="/method", rule="missing_method", message=message)


def _samples(definition: JobDefinition) -> Iterator[Fault]:
    if definition.strategy == "random" and definition.samples is None:
        message = "strategy 'random' needs its candidates in 'samples': they are drawn where the job is submitted"
        yield Fault(pointer="/samples", rule="missing_samples", message=message)
    if (definition.strategy == "halving") != (definition.halving is not None):
        message = "strategy 'halving' and the settings in 'halving' go together"
        yield Fault(pointer="/halving", rule="halving", message=message)
    if definition.strategy != "grid" and definition.action is not Action.SEARCH:
        message = f"strategy {definition.strategy!r} is for action 'search', not {definition.action.value!r}"
        yield Fault(pointer="/strategy", rule="strategy", message=message)
    yield from _halving(definition)
    count = len(paths(definition.pipeline))
    for place, sample in enumerate(definition.samples or ()):
        wrong = _wrong_sample(sample, count, definition.axes)
        if wrong:
            yield Fault(pointer=f"/samples/{place}", rule="sample", message=f"sample {place} {wrong}")
            return


def _halving(definition: JobDefinition) -> Iterator[Fault]:
    halving = definition.halving
    if halving is None:
        return
    if len(definition.objects) > 1:
        message = "strategy 'halving' ranks candidates on one source; submit a job for each of the objects"
        yield Fault(pointer="/objects", rule="halving", message=message)
    if any((axis.node, axis.param) == (halving.resource_node, halving.resource_param) for axis in definition.axes):
        message = f"{halving.resource!r} is the resource of 'halving', and an axis; leave one of them out"
        yield Fault(pointer="/halving/resource", rule="halving", message=message)


def _wrong_sample(sample: Sample, ways: int, axes: Sequence[Axis]) -> str | None:
    if len(sample) != 1 + len(axes):
        return f"has {len(sample)} entries; there are a path and {len(axes)} axes"
    if sample[0] is None or not 0 <= sample[0] < ways:
        return f"is on path {sample[0]}; there are {ways}"
    for axis, at in zip(axes, sample[1:], strict=True):
        if at is not None and not 0 <= at < len(axis.values):
            return f"takes value {at} of {axis.node!r}, {axis.param!r}, which has {len(axis.values)}"
    return None


def _fit_params(definition: JobDefinition) -> Iterator[Fault]:
    nodes = {node.name: node for node in definition.pipeline.nodes}
    for name in definition.fit_params:
        if name not in nodes:
            message = f"fit_params names {name!r}, which is no node{suggestion(name, nodes)}"
            yield Fault(pointer=f"/fit_params/{name}", rule="unknown_node", message=message)
        elif not isinstance(nodes[name], EstimatorNode):
            message = f"fit_params names {name!r}, which is a {nodes[name].kind} and is not fitted"
            yield Fault(pointer=f"/fit_params/{name}", rule="no_estimator", message=message)


def _accepts(signature: Signature, param: str) -> bool:
    return signature.open or param in signature.params


def _params(definition: JobDefinition) -> Iterator[Fault]:
    for place, node in enumerate(definition.pipeline.nodes):
        if isinstance(node, JoinNode | ModelNode) or node.signature is None:
            continue
        for param in node.params:
            if not _accepts(node.signature, param):
                message = f"node {node.name!r} has no parameter {param!r}{suggestion(param, node.signature.params)}"
                yield Fault(pointer=f"/pipeline/nodes/{place}/params/{param}", rule="unknown_param", message=message)


def _axes(definition: JobDefinition) -> Iterator[Fault]:
    nodes = {node.name: node for node in definition.pipeline.nodes}
    seen: set[tuple[str, str]] = set()
    for place, axis in enumerate(definition.axes):
        pointer = f"/axes/{place}"
        node = nodes.get(axis.node)
        if node is None:
            message = f"the axis {axis.node!r}, {axis.param!r} names no node{suggestion(axis.node, nodes)}"
            yield Fault(pointer=f"{pointer}/node", rule="unknown_node", message=message)
        elif isinstance(node, JoinNode | ModelNode):
            where = f"the {node.kind} {axis.node!r}"
            message = f"the axis {axis.param!r} is on {where}, which has no parameters; it is on no path"
            yield Fault(pointer=pointer, rule="axis_on_no_path", message=message)
        elif node.signature is not None and not _accepts(node.signature, axis.param):
            message = (
                f"node {axis.node!r} has no parameter {axis.param!r}{suggestion(axis.param, node.signature.params)}"
            )
            yield Fault(pointer=f"{pointer}/param", rule="unknown_param", message=message)
        if (axis.node, axis.param) in seen:
            message = f"two axes are on {axis.node!r}, {axis.param!r}; write their values into one"
            yield Fault(pointer=pointer, rule="duplicate_axis", message=message)
        seen.add((axis.node, axis.param))
    if definition.axes and definition.action is Action.FIT:
        message = "'fit' takes no axes: it gives one fitted pipeline for each path; use 'search' to compare values"
        yield Fault(pointer="/axes", rule="axes_without_search", message=message)
    yield from _too_many(definition)


def _too_many(definition: JobDefinition) -> Iterator[Fault]:
    sizes: dict[str, list[Axis]] = {}
    for axis in definition.axes:
        sizes.setdefault(axis.node, []).append(axis)
    count = sum(
        math.prod(len(axis.values) for name in path.nodes for axis in sizes.get(name, ()))
        for path in paths(definition.pipeline)
    )
    if definition.samples is not None:
        count = len(definition.samples)
    if count > CANDIDATES:
        message = f"{count} candidates; the limit is {CANDIDATES}"
        yield Fault(pointer="/axes", rule="too_many_candidates", message=message)


def _middles(definition: JobDefinition) -> Iterator[Fault]:
    feeding = {source for sources in links(definition.pipeline).values() for source in sources}
    for place, node in enumerate(definition.pipeline.nodes):
        if node.name not in feeding or not isinstance(node, EstimatorNode) or node.signature is None:
            continue
        if not {Ability.TRANSFORM, *_PREDICTS} & set(node.signature.abilities):
            message = f"node {node.name!r} can neither transform nor predict, so nothing can follow it"
            yield Fault(pointer=f"/pipeline/nodes/{place}", rule="nothing_to_pass_on", message=message)


def _inputs(definition: JobDefinition) -> Iterator[Fault]:
    inputs, objects = definition.inputs, definition.objects
    yield from _objects(definition)
    if "X" not in inputs and not objects and definition.action is not Action.SWEEP:
        message = f"the input 'X' is missing; action {definition.action.value!r} needs it"
        yield Fault(pointer="/inputs", rule="missing_input", message=message)
    for name, given in inputs.items():
        if isinstance(given, Dataset) and not given.part:
            yield Fault(pointer=f"/inputs/{name}/part", rule="missing_input", message=f"input {name!r}: name a part")
    if definition.action in FOLDED:
        yield from _fold_inputs(definition)


def _objects(definition: JobDefinition) -> Iterator[Fault]:
    inputs, objects = definition.inputs, definition.objects
    if objects and ("X" in inputs or "y" in inputs):
        message = "give either the inputs X and y or several 'objects', each with its own"
        yield Fault(pointer="/objects", rule="inputs_and_objects", message=message)
    if objects and ("groups" in inputs or "sample_weight" in inputs):
        message = "groups and sample_weight belong to one source; submit a job for each object that has them"
        yield Fault(pointer="/objects", rule="inputs_and_objects", message=message)
    for name, count in Counter(one.name for one in objects).items():
        if count > 1:
            yield Fault(pointer="/objects", rule="duplicate_object", message=f"{count} objects are called {name!r}")


def _fold_inputs(definition: JobDefinition) -> Iterator[Fault]:
    if isinstance(definition.cv, int) and definition.cv < 2:  # noqa: PLR2004
        yield Fault(pointer="/cv", rule="folds", message=f"cv={definition.cv}: a cross-validation has 2 folds at least")
    splitter = splitter_name(definition)
    lacking = [one.name for one in definition.objects if one.y is None]
    without_y = bool(lacking) if definition.objects else "y" not in definition.inputs
    if without_y and (splitter in NEED_Y or _needs_y(definition)):
        whose = f" of {lacking[0]!r}" if lacking else ""
        message = f"the input 'y'{whose} is missing; {splitter or 'a stratified split'} needs it to cut the folds"
        yield Fault(pointer="/inputs", rule="missing_input", message=message)
    if "groups" not in definition.inputs and splitter in NEED_GROUPS:
        message = f"the input 'groups' is missing; {splitter} needs it to cut the folds"
        yield Fault(pointer="/inputs", rule="missing_input", message=message)


def _leaf_types(definition: JobDefinition) -> dict[str, str]:
    feeding = {source for sources in links(definition.pipeline).values() for source in sources}
    return {
        node.name: node.signature.type
        for node in definition.pipeline.nodes
        if not isinstance(node, JoinNode | ModelNode) and node.signature is not None and node.name not in feeding
    }


def _needs_y(definition: JobDefinition) -> bool:
    """Stratified folds, which an int gives where a path ends in a classifier, are cut by y."""
    by_count = definition.cv is None or isinstance(definition.cv, int)
    return by_count and "classifier" in _leaf_types(definition).values()


def _error_score(definition: JobDefinition) -> Iterator[Fault]:
    if definition.error_score != "raise" and number_of(definition.error_score) is None:
        message = f"error_score is {definition.error_score!r}; give a number, or 'raise'"
        yield Fault(pointer="/error_score", rule="error_score", message=message)


def _scoring(definition: JobDefinition, leaves: set[str]) -> Iterator[Fault]:
    if definition.action not in FOLDED:
        return
    for place, node in enumerate(definition.pipeline.nodes):
        if node.name not in leaves or definition.scoring is not None or isinstance(node, ModelNode):
            continue
        if isinstance(node, JoinNode):
            known = True
            scored = False
        else:
            known = node.signature is not None
            scored = node.signature is not None and Ability.SCORE in node.signature.abilities
        if known and not scored:
            message = (
                f"a path ends in {node.name!r}, which has no score; give 'scoring' or end the path in an estimator"
            )
            yield Fault(pointer=f"/pipeline/nodes/{place}", rule="no_score", message=message)
    kinds = _leaf_types(definition)
    mixed = "classifier" in kinds.values() and len(set(kinds.values())) > 1
    if mixed and (definition.cv is None or isinstance(definition.cv, int)):
        listed = ", ".join(f"{name!r} is a {kind}" for name, kind in kinds.items())
        message = f"the folds of cv={definition.cv} depend on the kind of the last node, and {listed}; pass a splitter"
        yield Fault(pointer="/cv", rule="mixed_kinds", message=message)
    yield from _refit(definition)


def _refit(definition: JobDefinition) -> Iterator[Fault]:
    scoring, refit = definition.scoring, definition.refit
    names = list(scoring) if isinstance(scoring, tuple | dict) else []
    if definition.action is not Action.SEARCH or len(names) < 2:  # noqa: PLR2004
        return
    if refit is True:
        message = "with several scorers 'refit' must name the one that chooses the best candidate, or be false"
        yield Fault(pointer="/refit", rule="refit", message=message)
    elif isinstance(refit, str) and refit not in names:
        message = f"refit names {refit!r}, which is no scorer{suggestion(refit, names)}"
        yield Fault(pointer="/refit", rule="refit", message=message)
