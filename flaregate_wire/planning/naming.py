"""What results are called in the cache: the same names for the worker that keeps and the gateway that counts.

A result is named by what made it: the step, the bytes of the rows, the rows of the fold. Which rows the folds have is
known to the worker alone, once it has made them; it leaves their digests under a name that follows from the definition,
where another run would make the same folds. So a name that is wrong there can make a plan wrong, never a result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from flaregate_wire.definitions import (
    FOLDED,
    Action,
    Blob,
    Code,
    Dataset,
    EstimatorNode,
    FunctionNode,
    Input,
    JobDefinition,
    Splits,
)
from flaregate_wire.digests import digest
from flaregate_wire.planning.folds import splitter_name
from flaregate_wire.planning.graph import paths
from flaregate_wire.planning.identity import code_identity, scoring_identity
from flaregate_wire.planning.plan import Plan, Step
from flaregate_wire.values import identity, imports_of

FOLDS = "folds"
"""The key of an entry on the shelf of a source's folds; its report has their digests under the same word."""
ALL = "all"
"""The name of the "fold" that trains on all rows."""
_BUNDLED = frozenset(
    f"sklearn.datasets:load_{name}" for name in ("breast_cancer", "diabetes", "digits", "iris", "linnerud", "wine")
)
"""Loaders of data that is part of scikit-learn's distribution."""
_WITH_SCIKIT_LEARN = frozenset({"sklearn", "numpy", "scipy", "builtins", "math", "operator"})
_OF_ROWS = ("X", "y", "sample_weight")
_NEVER_DRAW = frozenset(
    {"TimeSeriesSplit", "LeaveOneOut", "LeavePOut", "LeaveOneGroupOut", "LeavePGroupsOut", "PredefinedSplit"}
)
_MAY_SHUFFLE = frozenset({"KFold", "StratifiedKFold", "GroupKFold", "StratifiedGroupKFold"})
_DRAW = frozenset(
    {"ShuffleSplit", "StratifiedShuffleSplit", "GroupShuffleSplit", "RepeatedKFold", "RepeatedStratifiedKFold"}
)


@dataclass(frozen=True, slots=True)
class RowNames:
    """How one source object and its folds are called."""

    plain: str
    """Its X and y."""
    weighted: str
    """The same with `sample_weight`."""
    folds: tuple[str, ...] = ()
    """Digests of the rows of each fold."""


def row_names(contents: Mapping[str, JsonValue], scikit_learn: str, folds: Sequence[str] = ()) -> RowNames:
    """The names of a source by the contents of its inputs; one that it has not is None.

    The version of scikit-learn is in them: it scores, stacks and cuts rows, whatever the nodes are made of.
    """
    given = [contents.get(name) for name in _OF_ROWS]
    return RowNames(digest([scikit_learn, *given[:2]]), digest([scikit_learn, *given]), tuple(folds))


def content(media_type: str, sha256: str) -> JsonValue:
    """What an input is, by its bytes and how they are read."""
    return [media_type, sha256]


def known_content(given: Input, scikit_learn: str) -> JsonValue:
    """What an input is, where that follows from the definition: its bytes are staged, or come with scikit-learn.

    None for what a worker must look at.
    """
    if isinstance(given, Blob):
        return content(given.media_type, given.blob)
    if isinstance(given, Dataset) and given.dataset in _BUNDLED:
        return [f"scikit-learn=={scikit_learn}", given.dataset, identity(given.params), given.part]
    return None


def inputs_of(definition: JobDefinition, source: int) -> dict[str, Input]:
    """The inputs of a source object."""
    if not definition.objects:
        return {str(name): given for name, given in definition.inputs.items()}
    one = definition.objects[source]
    return {"X": one.X} if one.y is None else {"X": one.X, "y": one.y}


def known_contents(definition: JobDefinition, source: int, scikit_learn: str) -> dict[str, JsonValue] | None:
    """The contents of a source's inputs; None if a worker must look at one of them."""
    found = {name: known_content(given, scikit_learn) for name, given in inputs_of(definition, source).items()}
    return None if None in found.values() else found


def folds_shelf(definition: JobDefinition, source: int, scikit_learn: str) -> str | None:
    """Where the digests of a source's folds are; None unless every run of this definition makes the same ones.

    Args:
        definition: The job.
        source: Number of the source object.
        scikit_learn: The version in the worker.
    """
    if definition.action not in FOLDED or definition.halving is not None:
        return None
    contents, splitter = known_contents(definition, source, scikit_learn), _splitter(definition)
    if contents is None or splitter is None:
        return None
    rows = [contents.get(name) for name in ("X", "y", "groups")]
    return digest([FOLDS, splitter, rows, scikit_learn])


def _splitter(definition: JobDefinition) -> JsonValue:
    """What cuts the folds; None where it may draw, or is not known to be repeatable."""
    cv = definition.cv
    if isinstance(cv, Splits):
        return {"splits": cv.blob}
    if isinstance(cv, Code):
        return dict(code_identity(cv)) if _repeatable(splitter_name(definition), cv) else None
    kinds = _kinds(definition)
    return None if kinds is None else {"folds": cv, "of": kinds}


def _repeatable(name: str | None, cv: Code) -> bool:
    if name in _NEVER_DRAW or (name in _MAY_SHUFFLE and not cv.params.get("shuffle", False)):
        return True
    return name in _MAY_SHUFFLE | _DRAW and type(cv.params.get("random_state")) is int


def _kinds(definition: JobDefinition) -> JsonValue:
    """What the paths end in, which decides how a number of folds is cut; None where a signature is not known."""
    nodes = {node.name: node for node in definition.pipeline.nodes}
    found: set[str] = set()
    for leaf in {path.leaf for path in paths(definition.pipeline)}:
        node = nodes[leaf]
        if isinstance(node, EstimatorNode) and node.signature is None:
            return None
        signature = node.signature if isinstance(node, EstimatorNode) else None
        found.add("other" if signature is None else signature.type)
    return [*sorted(found)]


def purpose(definition: JobDefinition) -> str:
    """What is done with a leaf beside fitting it."""
    if definition.action in FOLDED:
        return digest([scoring_identity(definition.scoring), definition.return_train_score])
    if definition.action is Action.FIT:
        return Action.FIT.value
    return f"{definition.action.value}.{definition.method or ''}"


def ending(fold: str, what: str, drawn: str = "") -> str:
    """How a key ends.

    Args:
        fold: The digest of its rows, or `ALL`.
        what: The purpose; empty for what a step passes on.
        drawn: Which of the rows successive halving takes.
    """
    return f"{fold}/{drawn}/{what}"


def key(step: str, end: str) -> str:
    """The key of a step's result on its shelf."""
    return f"{step}/{end}"


@dataclass(slots=True)
class Shelves:
    """The shelves of one plan."""

    plan: Plan
    sources: Sequence[RowNames]
    secret: frozenset[str]
    """Nodes that draw, or are not to be shared: what they give, and all that is downstream, is the job's own."""
    owner: str
    """The job."""
    _private: dict[str, bool] = field(default_factory=dict)
    _leaves: dict[tuple[str, tuple[str, ...], int], str] = field(default_factory=dict)

    def learn(self, step: Step) -> None:
        """Take in a step above the leaves, after those that it reads."""
        self._private[step.digest] = self.private(step)

    def private(self, step: Step) -> bool:
        """Whether only attempts of this job may use what the step gives."""
        return step.node in self.secret or any(self._private.get(source, False) for source in step.inputs)

    def leaf(self, leaf: Step, source: int) -> str:
        """The shelf of a leaf: of all leaves of its node behind the same steps."""
        place = (leaf.node, leaf.inputs, source)
        if place not in self._leaves:
            node = self.plan.node_digest(leaf.node)
            named = ["leaf", node, list(leaf.inputs), self.sources[source].weighted, self._owner(leaf)]
            self._leaves[place] = digest(named)
        return self._leaves[place]

    def step(self, step: Step, source: int) -> str:
        """The shelf of what a step passes on. Weights reach a step only where scikit-learn's routing takes them."""
        rows = self.sources[source]
        routed = bool(self.plan.definition.config.get("enable_metadata_routing"))
        return digest(["step", step.digest, rows.weighted if routed else rows.plain, self._owner(step)])

    def _owner(self, step: Step) -> str:
        return self.owner if self.private(step) else ""


def uncached(definition: JobDefinition) -> frozenset[str]:
    """Nodes whose results other jobs may not use: the user says so, or nobody has said which code a name stands for.

    That is a node's own name without `code`, or one that a value of an axis has.
    """
    foreign = {axis.node for axis in definition.axes if any(not is_known_code(value) for value in axis.values)}
    return frozenset(
        node.name
        for node in definition.pipeline.nodes
        if isinstance(node, EstimatorNode | FunctionNode)
        if not node.cache or node.name in foreign or (node.import_ is not None and node.code is None)
    )


def is_known_code(value: JsonValue) -> bool:
    """Whether all that a value names is of libraries whose release goes with that of scikit-learn."""
    return all(path.partition(".")[0].partition(":")[0] in _WITH_SCIKIT_LEARN for path in imports_of(value))
