"""What a process needs to run tasks of a job: its nodes as objects, and its rows, read-only. User code loads here."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.utils import _safe_indexing

from flaregate.encoding import build, decode_value
from flaregate_wire.definitions import Code, EstimatorNode, FunctionNode, JobDefinition, JoinNode, Node
from flaregate_wire.planning import Setting
from worker_image.engine.rows import Parts, frozen
from worker_image.engine.tasks import ALL_ROWS


@dataclass(frozen=True, slots=True)
class Data:
    """The rows of a job and its folds."""

    X: Any
    y: Any
    folds: tuple[tuple[Any, Any], ...]
    """Row numbers to train on and to test on."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a job's tasks share beside its rows: the definition, and the bytes of what its code refers to."""

    definition: JobDefinition
    blobs: Mapping[str, bytes]


class FunctionEstimator(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A function as an estimator that has nothing to learn, so that scorers take it where it ends a path."""

    def __init__(self, function: Any = None) -> None:
        self.function = function

    def fit(self, X: Any, y: Any = None) -> "FunctionEstimator":  # noqa: N803
        return self

    def transform(self, X: Any) -> Any:  # noqa: N803
        return self.function(X)

    def predict(self, X: Any) -> Any:  # noqa: N803
        return self.function(X)

    def __sklearn_is_fitted__(self) -> bool:
        return True


@dataclass(slots=True)
class Session:
    """The nodes and rows of one job in this process."""

    context: Context
    data: Data
    _nodes: dict[str, Node] = field(default_factory=dict)
    _built: dict[str, Any] = field(default_factory=dict)
    _scoring: list[Any] = field(default_factory=list)
    _rows: tuple[int, tuple[Parts, Parts]] | None = None

    def __post_init__(self) -> None:
        self._nodes = {node.name: node for node in self.context.definition.pipeline.nodes}

    @contextmanager
    def configured(self) -> Iterator[None]:
        """scikit-learn as it was configured where the job was submitted."""
        config = self.context.definition.config
        with config_context(**{name: decode_value(value, self._blob) for name, value in config.items()}):
            yield

    def node(self, name: str) -> Node:
        """The definition of a node."""
        return self._nodes[name]

    def estimator(self, name: str, settings: Sequence[Setting] = ()) -> Any:
        """A fresh, unfitted object of an estimator node with these settings; a function as FunctionEstimator."""
        node = self._nodes[name]
        if isinstance(node, FunctionNode):
            return FunctionEstimator(self.function(name, settings))
        prototype = clone(self.prototype(name), safe=False)
        if settings:
            values = {setting.param: decode_value(setting.value, self._blob) for setting in settings}
            prototype.set_params(**{param: clone(value, safe=False) for param, value in values.items()})
        return prototype

    def function(self, name: str, settings: Sequence[Setting] = ()) -> Any:
        """A function node with these settings bound."""
        values = {setting.param: decode_value(setting.value, self._blob) for setting in settings}
        return partial(self.prototype(name), **values) if values else self.prototype(name)

    def prototype(self, name: str) -> Any:
        """The object of a node, or what combines a join's parts, built once. Raises what the user's code raises."""
        if name not in self._built:
            node = self._nodes[name]
            code: Code | EstimatorNode | FunctionNode | None = node.combine if isinstance(node, JoinNode) else node
            self._built[name] = None if code is None else build(code, self._blob)
        return self._built[name]

    def scoring(self) -> Any:
        """`scoring` as scikit-learn takes it, built once."""
        if not self._scoring:
            self._scoring.append(self._build_scoring())
        return self._scoring[0]

    def _build_scoring(self) -> Any:
        given = self.context.definition.scoring
        if isinstance(given, Code):
            return build(given, self._blob)
        if isinstance(given, dict):
            return {name: build(item, self._blob) if isinstance(item, Code) else item for name, item in given.items()}
        return given

    def rows(self, fold: int) -> tuple[Parts, Parts]:
        """X and y of a fold, each for training and testing. The last fold asked for is kept."""
        if self._rows is None or self._rows[0] != fold:
            self._rows = (fold, self._cut(fold))
        return self._rows[1]

    def _cut(self, fold: int) -> tuple[Parts, Parts]:
        if fold == ALL_ROWS:
            return Parts(frozen(self.data.X), None), Parts(frozen(self.data.y), None)
        train, test = self.data.folds[fold]
        X, y = (  # noqa: N806 - scikit-learn's names
            Parts(None, None)
            if rows is None
            else Parts(frozen(_safe_indexing(rows, train)), frozen(_safe_indexing(rows, test)))
            for rows in (self.data.X, self.data.y)
        )
        return X, y

    def _blob(self, sha256: str) -> bytes:
        return self.context.blobs[sha256]
