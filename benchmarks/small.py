"""A drop-in search of 10 fits on an open client: does it feel local?"""

from typing import Any

import numpy as np
from sklearn import model_selection
from sklearn.datasets import load_breast_cancer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from benchmarks import harness
from benchmarks.harness import Claim, Row, timed
from benchmarks.work import new_client
from flaregate import sklearn as drop_in

ABOUT = (
    "Wall seconds of fit() of GridSearchCV(make_pipeline(StandardScaler(), SVC()), two values of C, cv=5), refit "
    "included. First: on a client just opened, whose head must start. Repeated: the next search there, with other "
    "values. Again: the same values once more, from the cache. scikit-learn: n_jobs=2, its processes warm."
)


def search(kind: Any, values: list[float], **options: Any) -> Any:
    """The search, unfitted."""
    return kind(make_pipeline(StandardScaler(), SVC()), {"svc__C": values}, cv=5, **options)


def run(name: str, pairs: int = harness.PAIRS) -> None:
    """Measure pairs, each with a client of its own."""
    rows = [_pair(pair) for pair in range(-1, pairs)][1:]
    told = [
        Claim("first, times GridSearchCV(n_jobs=2)", "first", "scikit-learn", "at most"),
        Claim("repeated, times GridSearchCV(n_jobs=2)", "repeated", "scikit-learn", "at most"),
        Claim("repeated, seconds", "repeated", None, "at most"),
    ]
    harness.keep(name, rows, told, ABOUT)


def _pair(pair: int) -> Row:
    X, y = load_breast_cancer(return_X_y=True)
    first, other = [1.0, 10.0], [2.0 + pair, 20.0]
    peer, local = timed(search(model_selection.GridSearchCV, other, n_jobs=2).fit, X, y)
    row = {"scikit-learn": peer}
    with new_client() as client:
        for title, values in {"first": first, "repeated": other, "again": other}.items():
            row[title], found = timed(search(drop_in.GridSearchCV, values, client=client).fit, X, y)
    np.testing.assert_array_equal(found.cv_results_["mean_test_score"], local.cv_results_["mean_test_score"])
    return row
