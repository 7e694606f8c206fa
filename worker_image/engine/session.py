"""What a process needs to run tasks of a job: its nodes as objects, and its rows, read-only. User code loads here."""

import io
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sklearn import config_context
from sklearn.base import BaseEstimator
from sklearn.metrics import check_scoring
from sklearn.utils.validation import _check_method_params

from flaregate.encoding import build, decode_value
from flaregate.fitted import FittedPipeline
from flaregate.fitted_file import read
from flaregate_wire.definitions import (
    Action,
    Blob,
    Code,
    EstimatorNode,
    FunctionNode,
    JobDefinition,
    JoinNode,
    ModelNode,
    Node,
)
from flaregate_wire.planning import Setting
from worker_image.engine.making import Maker
from worker_image.engine.references import Files
from worker_image.engine.rows import Rows, Source
from worker_image.engine.tasks import ALL_ROWS, Cut

CUTS_KEPT = 64
"""Cuts of which targets and row numbers are kept; of X only the last one's."""


@dataclass(frozen=True, slots=True)
class Data:
    """The source objects of a job."""

    sources: tuple[Source, ...]
    whole: bool = False
    """Whether scorers want to see the whole fitted pipeline, not its last node."""
    seed: int | None = None
    """Of the rows that successive halving draws."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a job's tasks share beside its rows: the definition, and the bytes of what its code refers to."""

    definition: JobDefinition
    blobs: Mapping[str, bytes]
    references: Files = field(default_factory=dict)
    code: tuple[str, ...] = ()
    """Folders that processes of user code import from first."""


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


def _own_score(estimator: Any, *rows: Any, **params: Any) -> Any:
    """What scores where `scoring` is None."""
    return estimator.score(*rows, **params)


@dataclass(slots=True)
class Session:
    """The nodes and rows of one job in this process."""

    context: Context
    data: Data
    _nodes: dict[str, Node] = field(default_factory=dict)
    _built: dict[str, Any] = field(default_factory=dict)
    _makers: dict[str, Maker] = field(default_factory=dict)
    _scoring: list[Any] = field(default_factory=list)
    _scorers: dict[type, Any] = field(default_factory=dict)
    _fit_params: dict[str, dict[str, Any]] = field(default_factory=dict)
    _cuts: "OrderedDict[Cut, Rows]" = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self._nodes = {node.name: node for node in self.context.definition.pipeline.nodes}

    @contextmanager
    def configured(self) -> Iterator[None]:
        """scikit-learn as it was configured where the job was submitted."""
        config = self.context.definition.config
        if not config:
            yield
            return
        with config_context(**{name: self.value(value) for name, value in config.items()}):
            yield

    def node(self, name: str) -> Node:
        """The definition of a node."""
        return self._nodes[name]

    def value(self, typed: Any) -> Any:
        """The object of a typed value."""
        return decode_value(typed, self._blob) if isinstance(typed, dict | list) else typed

    def estimator(self, name: str, settings: Sequence[Setting] = ()) -> Any:
        """A fresh, unfitted object of an estimator node with these settings; a function as FunctionEstimator."""
        if isinstance(self._nodes[name], FunctionNode):
            return FunctionEstimator(self.function(name, settings))
        if name not in self._makers:
            self._makers[name] = Maker(self.prototype(name))
        return self._makers[name].make({one.param: self.value(one.value) for one in settings})

    def function(self, name: str, settings: Sequence[Setting] = ()) -> Any:
        """A function node with these settings bound."""
        values = {setting.param: self.value(setting.value) for setting in settings}
        return partial(self.prototype(name), **values) if values else self.prototype(name)

    def prototype(self, name: str) -> Any:
        """The object of a node, or what combines a join's parts, built once. Raises what the user's code raises."""
        if name not in self._built:
            self._built[name] = self._build(self._nodes[name])
        return self._built[name]

    def _build(self, node: Node) -> Any:
        if isinstance(node, ModelNode):
            assert isinstance(node.source, Blob)  # noqa: S101 - the gateway has resolved what it was
            return FittedPipeline(read(io.BytesIO(self._blob(node.source.blob)), trust=True))
        code: Code | None = node.combine if isinstance(node, JoinNode) else node
        return None if code is None else build(code, self._blob)

    def stacking(self, name: str) -> tuple[Any, str]:
        """The folds and the method of an estimator in the middle: None, a number, a splitter or `prefit`."""
        node = self._nodes[name]
        if not isinstance(node, EstimatorNode):
            return None, "auto"
        given = node.stack_cv
        return (build(given, self._blob) if isinstance(given, Code) else given), node.stack_method

    def fit_params(self, name: str, rows: Rows) -> dict[str, Any]:
        """What the fit of a node gets beside X and y, cut to the training rows."""
        given = self.context.definition.fit_params.get(name)
        if not given:
            return {}
        if name not in self._fit_params:
            self._fit_params[name] = {param: self.value(value) for param, value in given.items()}
        train, _ = rows.numbers
        source = self.data.sources[rows.cut.source]
        return dict(_check_method_params(source.X, self._fit_params[name], indices=train))

    def scoring(self) -> Any:
        """`scoring` as scikit-learn takes it, built once."""
        if not self._scoring:
            self._scoring.append(self._build_scoring())
        return self._scoring[0]

    def scorer(self, estimator: Any) -> Any:
        """What scores this kind of estimator, made once. Raises ValueError where it cannot be scored."""
        if self.scoring() is None and hasattr(estimator, "score"):
            return _own_score
        kind = type(estimator)
        if kind not in self._scorers:
            self._scorers[kind] = check_scoring(estimator, scoring=self.scoring(), raise_exc=False)
        return self._scorers[kind]

    def _build_scoring(self) -> Any:
        given = self.context.definition.scoring
        if isinstance(given, Code):
            return build(given, self._blob)
        if isinstance(given, dict):
            return {name: build(item, self._blob) if isinstance(item, Code) else item for name, item in given.items()}
        return given

    def choice(self) -> Any:
        """`refit` where it is a function of the table of results."""
        given = self.context.definition.refit
        assert isinstance(given, Code)  # noqa: S101 - asked for only then
        return build(given, self._blob)

    def scores_training(self, cut: Cut) -> bool:
        """Whether training rows are scored too: of a search's folds, not where its best candidate is fitted again."""
        definition = self.context.definition
        return definition.return_train_score and (cut.fold != ALL_ROWS or definition.action is Action.FIT)

    def rows(self, cut: Cut) -> Rows:
        """The rows of a cut."""
        rows = self._cuts.pop(cut, None) or Rows(self.data.sources[cut.source], cut, self.data.seed)
        for other in self._cuts.values():
            vars(other).pop("X", None)  # large, and read by the first nodes alone
        self._cuts[cut] = rows
        if len(self._cuts) > CUTS_KEPT:
            self._cuts.popitem(last=False)
        return rows

    def _blob(self, sha256: str) -> bytes:
        return self.context.blobs[sha256]
