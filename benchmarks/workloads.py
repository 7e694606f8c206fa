"""The seeded workloads, each as a flaregate pipeline and as scikit-learn's own search."""

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.datasets import load_digits, make_classification
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import flaregate as fg


class Workload:
    """Data, a pipeline with axes, and the same search for GridSearchCV."""

    def __init__(
        self, data: tuple[Any, Any], prefix: dict[str, BaseEstimator], leaves: dict[str, BaseEstimator]
    ) -> None:
        self.X, self.y = data
        self.prefix = prefix
        self.leaves = leaves
        self.axes: dict[str, list[Any]] = {}
        self.folds = 5

    def with_axes(self, folds: int, **axes: list[Any]) -> "Workload":
        """Set the folds and the axes, by `node__parameter`."""
        self.folds, self.axes = folds, axes
        return self

    def pipeline(self) -> fg.Pipeline:
        """The alternatives behind one shared prefix."""
        pipe = fg.Pipeline("benchmark")
        last = None
        for name, estimator in self.prefix.items():
            last = pipe.node(name, estimator, after=last)
        for name, estimator in self.leaves.items():
            pipe.node(name, estimator, after=last)
        return pipe

    def flaregate(self, client: fg.Client, **options: Any) -> Any:
        """Submit and wait."""
        job = client.submit(self.pipeline(), X=self.X, y=self.y, axes=self.axes, cv=self.folds, refit=False, **options)
        return job, job.result()

    def scikit_learn(self, n_jobs: int) -> GridSearchCV:
        """GridSearchCV over the same candidates."""
        grids = []
        for name, estimator in self.leaves.items():
            own = {key: values for key, values in self.axes.items() if key.partition("__")[0] in (name, *self.prefix)}
            renamed = {key.replace(f"{name}__", "leaf__"): values for key, values in own.items()}
            grids.append({"leaf": [estimator], **renamed})
        pipe = Pipeline([*self.prefix.items(), ("leaf", next(iter(self.leaves.values())))])
        return GridSearchCV(pipe, grids, cv=self.folds, n_jobs=n_jobs, refit=False).fit(self.X, self.y)

    def same(self, result: Any, search: GridSearchCV) -> None:
        """Stop the benchmark if the numbers differ: a fast wrong answer is no answer."""
        ours = np.sort([outcome.mean for outcome in result.outcomes])
        np.testing.assert_allclose(ours, np.sort(search.cv_results_["mean_test_score"]), rtol=1e-12)


def w1() -> Workload:
    """Digits: little to share."""
    return Workload(
        load_digits(return_X_y=True),
        {"scale": StandardScaler(), "pca": PCA()},
        {
            "logistic": LogisticRegression(max_iter=1000),
            "svc": SVC(),
            "forest": RandomForestClassifier(random_state=0),
        },
    ).with_axes(
        5,
        pca__n_components=[20, 40],
        logistic__C=[0.01, 0.1, 1.0, 10.0],
        svc__C=[0.1, 1.0, 10.0],
        forest__max_depth=[5, 10, None],
    )


def w2() -> Workload:
    """An expensive prefix before twenty cheap classifiers."""
    data = make_classification(20_000, 200, n_informative=20, random_state=0)
    return Workload(
        data,
        {"scale": StandardScaler(), "nystroem": Nystroem(n_components=500, random_state=0)},
        {"sgd": SGDClassifier(max_iter=3, tol=None, random_state=0)},
    ).with_axes(3, sgd__alpha=list(np.logspace(-6, -1, 20)))
