"""Hypothesis strategies for cases: random DAGs of nodes, alternatives and joins, with axes, folds, scorers and data.

All is seeded: the same draw gives the same numbers in every process.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin, is_classifier, is_regressor
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.feature_selection import SelectKBest, VarianceThreshold, f_regression
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, Normalizer, PolynomialFeatures, StandardScaler
from sklearn.svm import SVC, SVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from flaregate.testing.case import AxisKey, Case, Part, Sketch

NODES = 6
AXES = 3
_ROWS = (48, 72)


class Moody(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Passes its rows on, or fails where its mood says so."""

    def __init__(self, mood: str = "good") -> None:
        self.mood = mood

    def fit(self, X: Any, y: Any = None) -> "Moody":
        """Learn nothing."""
        if self.mood == "bad":
            raise ArithmeticError("in a bad mood")
        self.fitted_ = True
        return self

    def transform(self, X: Any) -> Any:
        """The same rows."""
        if self.mood == "moody":
            raise LookupError("not today")
        return X


def scaled(X: Any, factor: float = 2.0) -> Any:
    """Rows times a number."""
    return X * factor


def magnitudes(X: Any) -> Any:
    """Absolute values."""
    return abs(X)


def hits(estimator: Any, X: Any, y: Any) -> float:
    """A scorer of one's own: how many predictions are within 0.5."""
    return float(np.sum(np.abs(estimator.predict(X) - np.asarray(y)) < 0.5))


@dataclass(frozen=True, slots=True)
class Kind:
    """Something that a node can be, and parameters that an axis can have."""

    make: Callable[[], Any]
    values: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    sparse: bool = True
    """Whether it takes sparse rows."""


_ABOVE = (
    Kind(StandardScaler, {"with_std": [True, False]}, sparse=False),
    Kind(MaxAbsScaler),
    Kind(MinMaxScaler, {"feature_range": [(0, 1), (-1, 1)]}, sparse=False),
    Kind(Normalizer, {"norm": ["l1", "l2", "max"]}),
    Kind(lambda: PCA(1, random_state=0), {"n_components": [1, 2], "whiten": [False, True]}, sparse=False),
    Kind(lambda: TruncatedSVD(1, random_state=0), {"n_components": [1, 2]}),
    Kind(VarianceThreshold, {"threshold": [0.0, 0.1]}),
    Kind(lambda: PolynomialFeatures(2, include_bias=False), {"interaction_only": [False, True]}, sparse=False),
    Kind(lambda: KMeans(2, n_init=1, random_state=0), {"n_clusters": [2, 3]}, sparse=False),
    Kind(lambda: scaled, {"factor": [0.5, 3.0]}),
    Kind(lambda: magnitudes),
    Kind(lambda: lambda X: X * 0.25),
)
_FAILING = Kind(Moody, {"mood": ["bad", "good", "moody"]})
_KINDS = {
    "classification": (
        Kind(lambda: SelectKBest(k=1), {"k": [1, 2, "all"]}),
        Kind(LinearDiscriminantAnalysis, sparse=False),
    ),
    "regression": (Kind(lambda: SelectKBest(f_regression, k=1), {"k": [1, 2, "all"]}),),
}
_PREDICTING = {
    "classification": (
        Kind(lambda: LogisticRegression(max_iter=50), {"C": [0.1, 1.0, 10.0]}),
        Kind(lambda: DecisionTreeClassifier(max_depth=3, random_state=0), {"max_depth": [1, 2, None]}),
        Kind(lambda: KNeighborsClassifier(3), {"n_neighbors": [1, 5]}),
        Kind(SVC, {"C": [0.5, 2.0], "kernel": ["rbf", "linear"]}),
        Kind(RidgeClassifier, {"alpha": [0.1, 1.0]}),
        Kind(GaussianNB, {"var_smoothing": [1e-9, 1e-2]}, sparse=False),
        Kind(lambda: RandomForestClassifier(3, max_depth=3, random_state=0), {"n_estimators": [2, 4]}),
    ),
    "regression": (
        Kind(Ridge, {"alpha": [0.1, 1.0], "fit_intercept": [True, False]}),
        Kind(lambda: DecisionTreeRegressor(max_depth=3, random_state=0), {"max_depth": [1, 2, None]}),
        Kind(lambda: KNeighborsRegressor(3), {"n_neighbors": [1, 5]}),
        Kind(SVR, {"C": [0.5, 2.0]}),
        Kind(lambda: RandomForestRegressor(3, max_depth=3, random_state=0), {"n_estimators": [2, 4]}),
    ),
}
_UNWEIGHTED = (KNeighborsClassifier, KNeighborsRegressor, LinearDiscriminantAnalysis)
"""Their `fit` takes no sample_weight."""
_SCORERS: Mapping[str, Sequence[Any]] = {
    "classification": (None, "accuracy", hits, ["accuracy", "f1_macro"]),
    "regression": (None, "r2", hits, ["r2", "neg_mean_squared_error"]),
}


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A pipeline of 1 to 6 nodes, its data, and what is asked of it."""
    task = draw(st.sampled_from(sorted(_SCORERS)))
    form = draw(st.sampled_from(["dense", "dense", "sparse", "frame"]))
    several = draw(st.integers(0, 4)) == 0
    names: list[str | None] = ["a", "b"] if several else [None]
    objects = {name: draw(data(task, form)) for name in names}
    sketch, values = draw(sketches(task, sparse=form == "sparse"))
    axes = draw(axes_of(values))
    _, y = next(iter(objects.values()))
    groups = None if several else draw(st.sampled_from([None, None, np.arange(len(y)) % 7]))
    weighted = not several and draw(st.booleans()) and _weighable(sketch)
    return Case(
        sketch,
        objects,
        axes,
        cv=draw(splitters(task, len(y), grouped=groups is not None, several=several)),
        scoring=draw(st.sampled_from(_SCORERS[task])),
        sample_weight=np.random.RandomState(len(y)).uniform(0.5, 2.0, len(y)) if weighted else None,
        groups=groups,
        return_train_score=draw(st.booleans()),
        error_score=draw(st.sampled_from([float("nan"), -1.0])),
    )


@st.composite
def data(draw: st.DrawFn, task: str, form: str) -> tuple[Any, Any]:
    """Rows and targets: dense, sparse or a frame."""
    rng = np.random.RandomState(draw(st.integers(0, 10_000)))
    rows, columns = rng.randint(*_ROWS), draw(st.integers(3, 5))
    X = rng.normal(size=(rows, columns))
    if task == "classification":
        y = rng.permutation(np.arange(rows) % draw(st.integers(2, 3)))
        X[:, 0] += y
    else:
        y = X @ rng.normal(size=columns) + 0.1 * rng.normal(size=rows)
    if form == "sparse":
        return sparse.csr_matrix(np.where(rng.rand(rows, columns) < 0.7, X, 0.0)), y
    if form == "frame":
        import pandas as pd  # noqa: PLC0415 - only where frames are drawn

        return pd.DataFrame(X, columns=[f"column {number}" for number in range(columns)]), y
    return X, y


@st.composite
def sketches(draw: st.DrawFn, task: str, *, sparse: bool) -> tuple[Sketch, dict[AxisKey, Sequence[Any]]]:
    """A DAG whose leaves all predict, and the values that axes can take; no two nodes are of one kind."""
    usable = [kind for kind in (*_ABOVE, *_KINDS[task], *_PREDICTING[task]) if kind.sparse or not sparse]
    count = draw(st.sampled_from([4, 3, 5, 2, 1, 0]))
    kinds = draw(st.lists(st.sampled_from(usable), min_size=count, max_size=count, unique_by=id))
    if draw(st.sampled_from([False, False, False, True])):
        kinds.insert(draw(st.integers(0, len(kinds))), _FAILING)
    parts: list[Part] = []
    values: dict[AxisKey, Sequence[Any]] = {}

    def add(kind: Kind, sources: tuple[str, ...]) -> None:
        name = f"n{len(parts)}__{len(parts)}" if len(parts) % 2 else f"n{len(parts)}"
        parts.append(Part(name, kind.make(), sources))
        values.update({(name, param): listed for param, listed in kind.values.items()})

    def join_some() -> None:
        known = [part.name for part in parts]
        if len(known) > 1 and len(known) < NODES - 1 and draw(st.sampled_from([True, True, False])):
            parts.append(Part(f"join{len(parts)}", None, tuple(draw(_some(known, 2, 3)))))

    for kind in kinds:
        if len(parts) < NODES - 1:
            add(kind, tuple(draw(_some([part.name for part in parts], 0, 2))))
            join_some()
    last = draw(
        st.sampled_from([kind for kind in _PREDICTING[task] if kind not in kinds and (kind.sparse or not sparse)])
    )
    feeding = {source for part in parts for source in part.sources}
    loose = [part.name for part in parts if part.name not in feeding and not _predicts(part.obj)]
    add(last, tuple(loose))
    return Sketch(tuple(parts)), values


def _predicts(obj: Any) -> bool:
    return hasattr(obj, "get_params") and (is_classifier(obj) or is_regressor(obj))


def _some(known: Sequence[str], least: int, most: int) -> st.SearchStrategy[list[str]]:
    """A few different nodes that are there already, in any order."""
    if not known:
        return st.just([])
    return st.lists(st.sampled_from(known), min_size=least, max_size=most, unique=True)


@st.composite
def axes_of(draw: st.DrawFn, values: Mapping[AxisKey, Sequence[Any]]) -> dict[AxisKey, Sequence[Any]]:
    """Up to three axes of up to three values."""
    if not values:
        return {}
    moods = [key for key in values if key[1] == "mood"]
    keys = [*moods, *draw(st.lists(st.sampled_from(sorted(values)), max_size=AXES - len(moods), unique=True))]
    return {key: values[key][: draw(st.integers(1, 3))] for key in keys}


@st.composite
def splitters(draw: st.DrawFn, task: str, rows: int, *, grouped: bool, several: bool) -> Any:
    """Two to four folds."""
    folds = draw(st.integers(2, 4))
    if grouped:
        return GroupKFold(folds)
    kinds = [KFold(folds), KFold(folds, shuffle=True, random_state=folds), folds]
    if task == "classification":
        kinds.append(StratifiedKFold(folds))
    if not several:
        kinds.append([(np.delete(np.arange(rows), part), part) for part in np.array_split(np.arange(rows), folds)])
    return draw(st.sampled_from(kinds))


def _weighable(sketch: Sketch) -> bool:
    feeding = {source for part in sketch.parts for source in part.sources}
    return not any(isinstance(part.obj, _UNWEIGHTED) for part in sketch.parts if part.name not in feeding)
