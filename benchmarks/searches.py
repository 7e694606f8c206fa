"""W1 to W3: searches over leaves behind one prefix."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import load_digits, load_iris, make_classification
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_selection import SelectKBest
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV, ParameterGrid, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

import flaregate as fg
from benchmarks.work import JOBS, Answer, Crew, Submitted

BATCHES = 5
"""Into so many tasks the plan by hand cuts the settings of one leaf on one fold."""


@dataclass(frozen=True)
class Search(Submitted):
    """Leaves behind one shared prefix, with axes on any of them."""

    data: tuple[Any, Any]
    prefix: dict[str, BaseEstimator]
    leaves: dict[str, BaseEstimator]
    axes: dict[str, list[Any]]
    folds: int

    def job(self) -> tuple[fg.Pipeline, dict[str, Any]]:
        pipe = fg.Pipeline("search")
        last = None
        for name, estimator in self.prefix.items():
            last = pipe.node(name, estimator, after=last)
        for name, estimator in self.leaves.items():
            pipe.node(name, estimator, after=last)
        X, y = self.data
        return pipe, {"X": X, "y": y, "axes": self.axes, "cv": self.folds, "refit": False}

    def numbers(self, outcomes: Iterable[Any]) -> Answer:
        return {key_of(one.path[-1], one.axes): one.mean for one in outcomes}

    def peer(self) -> Answer:
        return self.grid_search(GridSearchCV)

    def grid_search(self, kind: Any, **more: Any) -> Answer:
        """By a GridSearchCV, scikit-learn's or another's, with arguments of its own."""
        lone = next(iter(self.leaves)) if len(self.leaves) == 1 else None
        grids = [
            ({} if lone else {"leaf": [estimator]})
            | self._axes_of(*self.prefix)
            | {key.replace(f"{name}__", "leaf__", 1): values for key, values in self._axes_of(name).items()}
            for name, estimator in self.leaves.items()
        ]
        pipe = Pipeline([*self.prefix.items(), ("leaf", next(iter(self.leaves.values())))])
        search = kind(pipe, grids, cv=self.folds, n_jobs=JOBS, refit=False, **more).fit(*self.data)
        return dict(
            zip(map(self._named, search.cv_results_["params"]), search.cv_results_["mean_test_score"], strict=True)
        )

    def _named(self, params: dict[str, Any]) -> Any:
        settings = dict(params)
        kind = type(settings.pop("leaf", next(iter(self.leaves.values()))))
        (name,) = (name for name, estimator in self.leaves.items() if type(estimator) is kind)
        return key_of(name, {key.replace("leaf__", f"{name}__", 1): value for key, value in settings.items()})

    def plan(self, crew: Crew) -> Answer:
        parts = []
        for fold in folds_of(self.data, self.folds, crew):
            for above in ParameterGrid(self._axes_of(*self.prefix)):
                rows = crew.call(transformed, fold, self.prefix, above)
                for name, leaf in self.leaves.items():
                    for batch in _batches(list(ParameterGrid(self._axes_of(name)))):
                        own = [{key.removeprefix(f"{name}__"): value for key, value in one.items()} for one in batch]
                        keys = [key_of(name, above | one) for one in batch]
                        parts.append((keys, crew.call(scored, fold, rows, leaf, own)))
        return means(crew, parts)

    def prefix_fits(self) -> dict[str, int]:
        """How often each node of the prefix must be fitted: once for each fold and setting of what leads to it."""
        names = list(self.prefix)
        return {
            name: self.folds * math.prod(len(values) for values in self._axes_of(*names[: place + 1]).values())
            for place, name in enumerate(names)
        }

    def _axes_of(self, *nodes: str) -> dict[str, list[Any]]:
        return {key: values for key, values in self.axes.items() if key.partition("__")[0] in nodes}


def key_of(leaf: str, settings: dict[str, Any]) -> Any:
    return (leaf, *sorted(settings.items()))


def folds_of(data: tuple[Any, Any], folds: int, crew: Crew) -> Iterator[Any]:
    X, y = data
    for train, test in StratifiedKFold(folds).split(X, y):
        yield crew.put((X[train], y[train], X[test], y[test]))


def _batches(settings: list[Any]) -> Iterator[list[Any]]:
    size = math.ceil(len(settings) / BATCHES)
    return (settings[start : start + size] for start in range(0, len(settings), size))


def means(crew: Crew, parts: Sequence[tuple[Sequence[Any], Any]]) -> Answer:
    scores = defaultdict(list)
    for keys, handle in parts:
        for key, score in zip(keys, crew.get(handle), strict=True):
            scores[key].append(score)
    return {key: float(np.mean(each)) for key, each in scores.items()}


def transformed(fold: Any, prefix: dict[str, BaseEstimator], settings: dict[str, Any]) -> Any:
    """Training and test rows of a fold behind a prefix."""
    train, y, test, _ = fold
    for name, estimator in prefix.items():
        own = {key.removeprefix(f"{name}__"): value for key, value in settings.items() if key.startswith(f"{name}__")}
        step = clone(estimator).set_params(**own)
        train, test = step.fit_transform(train, y), step.transform(test)
    return train, test


def scored(fold: Any, rows: Any, leaf: BaseEstimator, settings: Sequence[dict[str, Any]]) -> list[float]:
    """The test scores of a leaf in several settings."""
    (train, test), (_, y, _, y_test) = rows, fold
    return [clone(leaf).set_params(**own).fit(train, y).score(test, y_test) for own in settings]


def w1() -> Search:
    """Digits: little to share."""
    return Search(
        load_digits(return_X_y=True),
        {"scale": StandardScaler(), "pca": PCA()},
        {
            "logistic": LogisticRegression(max_iter=1000),
            "svc": SVC(),
            "forest": RandomForestClassifier(random_state=0),
        },
        {
            "pca__n_components": [20, 40],
            "logistic__C": [0.01, 0.1, 1.0, 10.0],
            "svc__C": [0.1, 1.0, 10.0],
            "forest__max_depth": [5, 10, None],
        },
        folds=5,
    )


def w2(alphas: int = 20) -> Search:
    """An expensive prefix before twenty cheap classifiers."""
    values = [*np.logspace(-6, -1, 20), 1.0][:alphas]
    return Search(
        make_classification(20_000, 200, n_informative=20, random_state=0),
        {"scale": StandardScaler(), "nystroem": Nystroem(n_components=500, random_state=0)},
        {"sgd": SGDClassifier(max_iter=3, tol=None, random_state=0)},
        {"sgd__alpha": [float(value) for value in values]},
        folds=3,
    )


def w3() -> Search:
    """Five thousand fits of about a millisecond."""
    return Search(
        load_iris(return_X_y=True),
        {"scale": StandardScaler(), "kbest": SelectKBest()},
        {"tree": DecisionTreeClassifier(random_state=0)},
        {
            "kbest__k": [1, 2, 3, 4],
            "tree__max_depth": list(range(1, 11)),
            "tree__min_samples_leaf": [1, 2, 3, 4, 5],
            "tree__min_samples_split": [2, 3, 4, 5, 6],
        },
        folds=5,
    )
