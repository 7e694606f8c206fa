"""W4: a graph with a join of stacked estimators, as StackingClassifier has it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier, StackingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

import flaregate as fg
from benchmarks.searches import folds_of, means, scored, transformed
from benchmarks.work import JOBS, Answer, Crew, Submitted


@dataclass(frozen=True)
class Stack(Submitted):
    """Five estimators behind a scaler; their out-of-fold predictions are joined for a last one, in several settings."""

    data: tuple[Any, Any]
    branches: dict[str, BaseEstimator]
    last: BaseEstimator
    values: list[float]
    """Of the last one's C."""
    folds: int

    def job(self) -> tuple[fg.Pipeline, dict[str, Any]]:
        pipe = fg.Pipeline("stack")
        scale = pipe.node("scale", StandardScaler())
        branches = [pipe.node(name, estimator, after=scale) for name, estimator in self.branches.items()]
        pipe.node("last", self.last, after=pipe.join("joined", branches))
        X, y = self.data
        return pipe, {"X": X, "y": y, "axes": {"last__C": self.values}, "cv": self.folds, "refit": False}

    def numbers(self, outcomes: Iterable[Any]) -> Answer:
        return {one.axes["last__C"]: one.mean for one in outcomes}

    def peer(self) -> Answer:
        return self.grid_search(GridSearchCV)

    def grid_search(self, kind: Any, **more: Any) -> Answer:
        """By a GridSearchCV over StackingClassifier."""
        stack = StackingClassifier(list(self.branches.items()), self.last)
        pipe = Pipeline([("scale", StandardScaler()), ("stack", stack)])
        grid = {"stack__final_estimator__C": self.values}
        search = kind(pipe, grid, cv=self.folds, n_jobs=JOBS, refit=False, **more).fit(*self.data)
        return dict(zip(self.values, search.cv_results_["mean_test_score"], strict=True))

    def plan(self, crew: Crew) -> Answer:
        parts = []
        for fold in folds_of(self.data, self.folds, crew):
            rows = crew.call(transformed, fold, {"scale": StandardScaler()}, {})
            branches = [crew.call(stacked, fold, rows, estimator) for estimator in self.branches.values()]
            joined = crew.call(side_by_side, *branches)
            parts.append((self.values, crew.call(scored, fold, joined, self.last, [{"C": one} for one in self.values])))
        return means(crew, parts)

    def prefix_fits(self) -> dict[str, int]:
        """Once for each fold; the fits inside cross_val_predict are counted apart."""
        return dict.fromkeys(("scale", *self.branches), self.folds)


def stacked(fold: Any, rows: Any, estimator: BaseEstimator) -> Any:
    """What StackingClassifier passes on of one estimator: out-of-fold for training rows."""
    (train, test), (_, y, _, _) = rows, fold
    unseen = cross_val_predict(clone(estimator), train, y, cv=StratifiedKFold(5), method="predict_proba")
    return unseen, clone(estimator).fit(train, y).predict_proba(test)


def side_by_side(*branches: Any) -> Any:
    """The join: columns of all branches."""
    return tuple(np.hstack(columns) for columns in zip(*branches, strict=True))


def w4() -> Stack:
    """A graph of five branches with a join and stacking."""
    return Stack(
        make_classification(2_000, 30, n_informative=12, n_classes=3, random_state=0),
        {
            "logistic": LogisticRegression(max_iter=1000),
            "bayes": GaussianNB(),
            "neighbours": KNeighborsClassifier(),
            "tree": DecisionTreeClassifier(max_depth=8, random_state=0),
            "forest": RandomForestClassifier(20, random_state=0),
        },
        LogisticRegression(max_iter=1000),
        [0.0001, 0.001, 0.01, 0.1],
        folds=5,
    )
