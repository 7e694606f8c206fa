"""Pipelines evaluated by scikit-learn alone, one candidate after the other: no planner, no sharing, no cleverness.

What this gives is right by construction: each candidate becomes one scikit-learn estimator (a Pipeline of the path, a
FeatureUnion where paths meet) that is cloned, fitted and scored anew on every fold.
"""

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, clone, is_classifier
from sklearn.metrics import check_scoring
from sklearn.model_selection import check_cv, cross_val_predict
from sklearn.pipeline import FeatureUnion
from sklearn.pipeline import Pipeline as Chain
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import _safe_indexing as rows_of
from threadpoolctl import threadpool_limits

from flaregate.testing.case import Case, Expected, Sketch, Values, Way

LAST = "last"
_BINARY = 2


class Stacked(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """An estimator in the middle, as one of StackingClassifier(cv=None, passthrough=False)."""

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def _column(self, made: Any) -> Any:
        if made.ndim == 1:
            return made.reshape(-1, 1)
        return made[:, 1:] if self.method_ == "predict_proba" and made.shape[1] == _BINARY else made

    def fit_transform(self, X: Any, y: Any) -> Any:
        """Predictions for each row by a clone that has not seen it."""
        methods = ("predict_proba", "decision_function", "predict")
        self.method_ = next(method for method in methods if hasattr(self.estimator, method))
        self.fitted_ = clone(self.estimator).fit(X, y)
        folds = check_cv(None, y, classifier=is_classifier(self.estimator))
        return self._column(cross_val_predict(self.estimator, X, y, cv=folds, method=self.method_))

    def fit(self, X: Any, y: Any) -> "Stacked":
        """Fit on all rows."""
        self.fit_transform(X, y)
        return self

    def transform(self, X: Any) -> Any:
        """Predictions for new rows."""
        return self._column(getattr(self.fitted_, self.method_)(X))


def ways(sketch: Sketch) -> list[Way]:
    """Every path, in the order of the nodes' definition."""
    feeding = {source for part in sketch.parts for source in part.sources}
    leaves = [part for part in sketch.parts if part.name not in feeding]
    found = [way for leaf in leaves for way in _ways(sketch, leaf.name)]

    def rank(way: Way) -> tuple[list[int], list[list[int]]]:
        return [sketch.place(name) for name in way], [[sketch.place(source) for source in way[name]] for name in way]

    return sorted(found, key=rank)


def _ways(sketch: Sketch, leaf: str) -> Iterator[Way]:
    choosing = [part for part in sketch.parts if not part.join and len(part.sources) > 1]
    seen: set[tuple[str, ...]] = set()
    for choice in product(*(part.sources for part in choosing)):
        chosen = {part.name: (source,) for part, source in zip(choosing, choice, strict=True)}
        reached = {leaf}
        for part in reversed(sketch.parts):
            if part.name in reached:
                reached.update(chosen.get(part.name, part.sources))
        way = {part.name: chosen.get(part.name, part.sources) for part in sketch.parts if part.name in reached}
        mark = tuple(str(item) for item in way.items())
        if mark not in seen:
            seen.add(mark)
            yield way


def settings(case: Case, way: Way) -> Iterator[Values]:
    """ParameterGrid's order, with keys by node and then by name."""
    keys = sorted((key for key in case.axes if key[0] in way), key=lambda key: (case.sketch.place(key[0]), key[1]))
    for values in product(*(case.axes[key] for key in keys)):
        yield dict(zip(keys, values, strict=True))


def model(sketch: Sketch, way: Way, values: Values) -> Chain:
    """The path as one scikit-learn estimator whose last step is called `last`."""
    leaf = list(way)[-1]
    return Chain([*_above(sketch, way, values, leaf), (LAST, _own(sketch, values, leaf))])


def _own(sketch: Sketch, values: Values, name: str) -> Any:
    obj = sketch.part(name).obj
    own = {param: value for (node, param), value in values.items() if node == name}
    if hasattr(obj, "get_params"):
        return clone(obj).set_params(**own)
    return FunctionTransformer(obj, kw_args=own)


def _above(sketch: Sketch, way: Way, values: Values, name: str) -> list[tuple[str, Any]]:
    """The steps before a node."""
    part = sketch.part(name)
    if part.join:
        branches = [(_step(sketch, source), Chain(_through(sketch, way, values, source))) for source in way[name]]
        return [(_step(sketch, name), FeatureUnion(branches))]
    return _through(sketch, way, values, way[name][0]) if way[name] else []


def _through(sketch: Sketch, way: Way, values: Values, name: str) -> list[tuple[str, Any]]:
    """The steps up to a node and with it."""
    above = _above(sketch, way, values, name)
    if sketch.part(name).join:
        return above
    own = _own(sketch, values, name)
    return [*above, (_step(sketch, name), own if hasattr(own, "transform") else Stacked(own))]


def _step(sketch: Sketch, name: str) -> str:
    """A name that scikit-learn takes: ours may have `__`."""
    return f"node {sketch.place(name)}"


def evaluate(case: Case) -> list[Expected]:
    """What must come out, in candidate order; source object after source object."""
    found = []
    with _as_in_a_task():
        for name, (X, y) in case.objects.items():
            classifies = all(is_classifier(case.sketch.part(list(way)[-1]).obj) for way in ways(case.sketch))
            folds = list(check_cv(case.cv, y, classifier=classifies).split(X, y, case.groups))
            for way in ways(case.sketch):
                found += [_evaluated(case, name, way, values, folds) for values in settings(case, way)]
    return found


def fit_counts(case: Case) -> dict[str, int]:
    """How often each node is fitted where every (fold, prefix) is computed once. No two nodes may be equal."""
    seen: set[tuple[Any, ...]] = set()
    for object_name, way in product(case.objects, ways(case.sketch)):
        for values in settings(case, way):
            made: dict[str, tuple[Any, ...]] = {}
            for name, sources in way.items():
                own = tuple((key, repr(value)) for key, value in values.items() if key[0] == name)
                made[name] = (object_name, name, own, *(made[source] for source in sources))
            seen.update(made.values())
    nodes = Counter(node for _, node, *_ in seen if hasattr(case.sketch.part(node).obj, "fit"))
    return {name: count * _folds(case) for name, count in nodes.items()}


def _folds(case: Case) -> int:
    X, y = next(iter(case.objects.values()))
    return int(check_cv(case.cv, y).get_n_splits(X, y, case.groups))


def fitted(case: Case) -> list[tuple[tuple[str, ...], Chain | None, str | None]]:
    """Each path fitted on all rows of the only source object, every node as it was given; or the class of its error."""
    with _as_in_a_task():
        return [(tuple(way), *_fitted(case, model(case.sketch, way, {}))) for way in ways(case.sketch)]


def _fitted(case: Case, chain: Chain) -> tuple[Chain | None, str | None]:
    X, y = case.objects[None]
    try:
        return chain.fit(X, y, **_weights(case, slice(None))), None
    except Exception as caught:  # noqa: BLE001 - whatever user code raises is an outcome
        return None, type(caught).__name__


@contextmanager
def _as_in_a_task() -> Iterator[None]:
    """One thread, and warnings are no errors."""
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _evaluated(case: Case, name: str | None, way: Way, values: Values, folds: Sequence[Any]) -> Expected:
    X, y = case.objects[name]
    test: list[dict[str, float]] = []
    train: list[dict[str, float]] = []
    error, message = None, ""
    for fold in folds:
        try:
            given, seen = _fold(case, model(case.sketch, way, values), X, y, fold)
        except Exception as caught:  # noqa: BLE001 - whatever user code raises is an outcome
            error, message = (error, message) if error else (type(caught).__name__, str(caught))
            given = seen = dict.fromkeys(_names(case.scoring), case.error_score)
        test.append(given)
        train.append(seen)
    seen_scores = _by_scorer(train) if case.return_train_score else None
    return Expected(name, tuple(way), values, _by_scorer(test), seen_scores, error, message)


def _fold(case: Case, chain: Chain, X: Any, y: Any, fold: Any) -> tuple[dict[str, float], dict[str, float]]:
    train, test = fold
    chain.fit(rows_of(X, train), y[train], **_weights(case, train))
    scorer = check_scoring(chain, case.scoring)
    given, seen = (_named(scorer(chain, rows_of(X, rows), y[rows])) for rows in (test, train))
    return given, seen


def _weights(case: Case, rows: Any) -> dict[str, Any]:
    """To the last node alone."""
    return {} if case.sample_weight is None else {f"{LAST}__sample_weight": case.sample_weight[rows]}


def _names(scoring: Any) -> list[str]:
    return list(scoring) if isinstance(scoring, list | tuple | dict) else ["score"]


def _named(score: Any) -> dict[str, float]:
    return score if isinstance(score, dict) else {"score": float(score)}


def _by_scorer(folds: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    return {name: np.asarray([fold[name] for fold in folds], dtype=float) for name in folds[0]}
