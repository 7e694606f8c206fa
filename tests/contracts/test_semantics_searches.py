"""Strategies and refits of a search, against scikit-learn's searches in the same process."""

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    cross_val_score,
)
from sklearn.pipeline import Pipeline as Chain
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

import flaregate as fg
from flaregate.testing.submitting import chain
from tests.contracts.semantics import same

# Strategies


def test_a_random_search_equals_randomized_search_cv(client, iris):
    X, y = iris
    nodes = [("pca", PCA(random_state=0)), ("svc", SVC())]
    space = {"pca__n_components": [1, 2, 3, 4], "svc__C": stats.loguniform(0.01, 100)}
    options = {"n_iter": 12, "random_state": 7, "cv": 3}
    result = client.submit(chain(*nodes), X=X, y=y, axes=space, strategy="random", **options).result()
    oracle = RandomizedSearchCV(Chain(nodes), space, **options).fit(X, y)
    assert [outcome.axes for outcome in result.outcomes] == oracle.cv_results_["params"]
    same([outcome.mean for outcome in result.outcomes], oracle.cv_results_["mean_test_score"])
    assert result.best.axes == oracle.best_params_
    np.testing.assert_array_equal(result.best.pipeline().predict(X), oracle.predict(X))


def test_a_random_search_over_alternatives_is_seeded(client, iris):
    X, y = iris
    pipe = fg.Pipeline()
    pipe.node("svc", SVC())
    pipe.node("tree", DecisionTreeClassifier(random_state=0))
    space = {"svc__C": stats.loguniform(0.01, 100), "tree__max_depth": [1, 2, 3]}
    options = {"axes": space, "strategy": "random", "n_iter": 6, "random_state": 0, "cv": 3, "refit": False}
    first, again = (client.submit(pipe, X=X, y=y, **options).result().outcomes for _ in "12")
    assert len(first) == 6
    assert [(outcome.path, outcome.axes) for outcome in first] == [(outcome.path, outcome.axes) for outcome in again]
    for outcome in first:
        values = {key.partition("__")[2]: value for key, value in outcome.axes.items()}
        leaf = SVC(**values) if outcome.path == ("svc",) else DecisionTreeClassifier(random_state=0, **values)
        same(outcome.scores["score"], cross_val_score(leaf, X, y, cv=3))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"factor": 2, "min_resources": "smallest"},
        {"factor": 2, "min_resources": 20, "max_resources": 80, "aggressive_elimination": True},
        {"resource": "forest__n_estimators", "max_resources": 16, "factor": 2, "min_resources": 2},
    ],
    ids=["default", "smallest", "aggressive", "parameter"],
)
def test_a_halving_search_equals_halving_grid_search_cv(client, options):
    X, y = load_breast_cancer(return_X_y=True)
    forest = RandomForestClassifier(5, random_state=0)
    grid = {"forest__max_depth": [1, 2, 3, None], "forest__max_features": [2, 5]}
    chosen = {"cv": 3, "random_state": 3, **options}
    result = client.submit(chain(("forest", forest)), X=X, y=y, axes=grid, strategy="halving", **chosen).result()
    oracle = HalvingGridSearchCV(Chain([("forest", forest)]), grid, **chosen).fit(X, y)
    table = oracle.cv_results_
    assert [outcome.iteration for outcome in result.outcomes] == list(table["iter"])
    assert [outcome.resources for outcome in result.outcomes] == list(table["n_resources"])
    grown = options.get("resource")
    expected = [{key: value for key, value in params.items() if key != grown} for params in table["params"]]
    assert [{k: v for k, v in outcome.axes.items() if k != grown} for outcome in result.outcomes] == expected
    same([outcome.mean for outcome in result.outcomes], table["mean_test_score"])
    assert result.outcomes.index(result.best) == oracle.best_index_
    np.testing.assert_array_equal(result.best.pipeline().predict(X), oracle.predict(X))


def test_a_plan_counts_shared_prefixes_once_and_runs_nothing(client, iris):
    X, y = iris
    pipe = chain(("pca", PCA()), ("svc", SVC()))
    counted = client.plan(pipe, X=X, y=y, axes={"pca__n_components": [1, 2], "svc__C": [0.1, 1.0, 10.0]}, cv=4)
    assert (counted.candidates, counted.folds, counted.tasks) == (6, 4, 4 * (2 + 6))
    assert counted.steps == {"pca": 2, "svc": 6}


# Refit


def cheapest_of_the_good(table):
    """The smallest depth within one deviation of the best, as a callable `refit` of GridSearchCV."""
    means = np.asarray(table["mean_test_score"])
    best = np.argmax(means)
    enough = means[best] - np.asarray(table["std_test_score"])[best]
    good = [place for place, mean in enumerate(means) if mean >= enough]
    return min(good, key=lambda place: table["params"][place]["tree__max_depth"])


def test_refit_by_a_callable(client, iris):
    X, y = iris
    grid = {"tree__max_depth": [4, 3, 2, 1]}
    tree = DecisionTreeClassifier(random_state=0)
    result = client.submit(chain(("tree", tree)), X=X, y=y, axes=grid, cv=5, refit=cheapest_of_the_good).result()
    oracle = GridSearchCV(Chain([("tree", tree)]), grid, cv=5, refit=cheapest_of_the_good).fit(X, y)
    assert result.best.candidate == oracle.best_index_
    np.testing.assert_array_equal(result.best.pipeline().predict(X), oracle.predict(X))
