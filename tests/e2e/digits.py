"""A search over scikit-learn's digits that has work for three nodes, and its numbers by scikit-learn itself."""

import time

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

import flaregate as fg

X, Y = load_digits(return_X_y=True)
GRID = {"pca__n_components": [5, 15, 30], "logistic__C": [0.01, 0.1, 1.0, 10.0]}
SIZE = {"cpus": 0.6, "memory": 1_500_000_000}


def _patient(seconds):
    class Patient(LogisticRegression):
        """Takes its time, so that there is work for every node."""

        def fit(self, X, y, sample_weight=None):
            time.sleep(seconds)
            return super().fit(X, y, sample_weight)

    return Patient(max_iter=2000, tol=0.1, random_state=0)


def search(client, seconds=0.7, **options):
    pipe = fg.Pipeline("digits")
    pipe.node("logistic", _patient(seconds), after=pipe.node("pca", PCA(random_state=0)))
    more = {"cv": 5, "workers": 2, "min_workers": 2, **SIZE, **options}
    return client.submit(pipe, action="search", X=X, y=Y, axes=GRID, **more)


def assert_as_local(result):
    names = {"pca__n_components": GRID["pca__n_components"], "logisticregression__C": GRID["logistic__C"]}
    local = make_pipeline(PCA(random_state=0), LogisticRegression(max_iter=2000, tol=0.1))
    expected = GridSearchCV(local, names, cv=5).fit(X, Y).cv_results_
    wanted = {
        (params["pca__n_components"], params["logisticregression__C"]): mean
        for params, mean in zip(expected["params"], expected["mean_test_score"], strict=True)
    }
    found = {(one.axes["pca__n_components"], one.axes["logistic__C"]): one.mean for one in result.outcomes}
    assert found.keys() == wanted.keys()
    np.testing.assert_allclose([found[key] for key in wanted], list(wanted.values()), rtol=1e-10)
