"""Every action from the arguments of `submit` to its result, in this process: numbers equal scikit-learn's."""

import warnings

import numpy as np
import pytest
from scipy.stats import loguniform
from sklearn.datasets import load_iris
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    StratifiedKFold,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import flaregate as fg
from flaregate.testing import InProcessClient
from worker_image.in_process import in_process

X, Y = load_iris(return_X_y=True)
GRID = {"svc__C": [0.01, 0.1, 1, 10, 100]}


@pytest.fixture
def client():
    with InProcessClient(in_process) as client:
        yield client


def chain():
    pipe = fg.Pipeline("chain")
    pipe.node("svc", SVC(), after=pipe.node("scale", StandardScaler()))
    return pipe


def oracle():
    return Pipeline([("scale", StandardScaler()), ("svc", SVC())])


def same_search(result, search):
    table, theirs = result.table(), search.cv_results_
    assert list(table["params"]) == list(theirs["params"])
    np.testing.assert_array_equal(table["mean_test_score"], theirs["mean_test_score"])
    np.testing.assert_array_equal(table["rank_test_score"], theirs["rank_test_score"])
    assert result.best.axes == search.best_params_
    np.testing.assert_array_equal(result.best.pipeline().predict(X), search.predict(X))


def test_a_random_search(client):
    space = {"svc__C": loguniform(0.1, 10), "svc__gamma": loguniform(0.01, 1)}
    result = client.submit(chain(), X=X, y=Y, axes=space, strategy="random", n_iter=6, random_state=1).result()
    same_search(result, RandomizedSearchCV(oracle(), space, n_iter=6, random_state=1).fit(X, Y))


def test_several_grids(client):
    grids = [{"svc__C": [1, 10]}, {"svc__gamma": [0.1, 1], "svc__C": [2]}]
    same_search(client.submit(chain(), X=X, y=Y, axes=grids).result(), GridSearchCV(oracle(), grids).fit(X, Y))


def test_halving(client):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = HalvingGridSearchCV(oracle(), GRID, random_state=0, factor=2).fit(X, Y)
        result = client.submit(chain(), X=X, y=Y, axes=GRID, strategy="halving", random_state=0, factor=2).result()
    table = result.table()
    for name in ("iter", "n_resources"):
        assert table[name].tolist() == theirs.cv_results_[name].tolist()
    np.testing.assert_array_equal(np.sort(table["mean_test_score"]), np.sort(theirs.cv_results_["mean_test_score"]))
    assert result.best.axes == theirs.best_params_
    np.testing.assert_array_equal(result.best.pipeline().predict(X), theirs.predict(X))


def test_a_callable_chooses(client):
    result = client.submit(chain(), X=X, y=Y, axes=GRID, refit=lambda table: 2).result()
    assert result.best.axes == {"svc__C": 1}
    np.testing.assert_array_equal(result.best.pipeline().predict(X), oracle().set_params(svc__C=1).fit(X, Y).predict(X))


def test_weights_and_several_objects(client):
    weights = np.linspace(0.1, 2, len(Y))
    options = {"action": "cross_validate", "cv": 3, "return_train_score": True}
    (outcome,) = client.submit(chain(), X=X, y=Y, sample_weight=weights, **options).result().outcomes
    theirs = cross_validate(oracle(), X, Y, cv=3, params={"svc__sample_weight": weights}, return_train_score=True)
    np.testing.assert_array_equal(outcome.scores["score"], theirs["test_score"])
    np.testing.assert_array_equal(outcome.train_scores["score"], theirs["train_score"])
    by_node = client.submit(chain(), X=X, y=Y, fit_params={"svc": {"sample_weight": weights}}, **options).result()
    np.testing.assert_array_equal(by_node.outcomes[0].scores["score"], theirs["test_score"])
    objects = {"all": (X, Y), "half": (X[::2], Y[::2])}
    cv = StratifiedKFold(3)
    result = client.submit(chain(), objects=objects, action="cross_validate", cv=cv).result()
    assert [one.object for one in result.outcomes] == ["all", "half"]
    for one, (rows, labels) in zip(result.outcomes, objects.values(), strict=True):
        np.testing.assert_array_equal(one.scores["score"], cross_val_score(oracle(), rows, labels, cv=cv))


def test_something_fitted_is_applied(client):
    model = oracle().fit(X, Y)
    result = client.submit(model, action="predict", objects={"a": X[:50], "b": X[50:]}).result()
    np.testing.assert_array_equal(result.outputs.concat(), model.predict(X))
    assert client.submit(model, action="score", X=X, y=Y).result().outputs == [model.score(X, Y)]
    scored = client.submit(model, action="score", X=X, y=Y, scoring=["accuracy", "f1_macro"]).result()
    assert scored.outputs[0]["accuracy"] == model.score(X, Y)
    scaled = client.submit(StandardScaler().fit(X), action="transform", X=X).result().outputs[0]
    np.testing.assert_array_equal(scaled, StandardScaler().fit_transform(X))
    fitted = client.submit(chain(), X=X, y=Y).result().best
    np.testing.assert_array_equal(client.submit(fitted, action="predict", X=X).result().outputs[0], model.predict(X))
    mapped = client.map(fitted, X, method="predict", blocks=7).result()
    assert len(mapped.outputs) == 7
    np.testing.assert_array_equal(mapped.outputs.concat(), model.predict(X))


def explain(block):
    return np.exp(-np.abs(block))


def test_a_map_equals_one_call(client):
    for blocks in (1, 4, None):
        np.testing.assert_array_equal(client.map(explain, X, blocks=blocks).result().outputs.concat(), explain(X))
    assert client.map(lambda items: [item.upper() for item in items], ["a", "b", "c"], blocks=2).result().outputs == [
        ["A", "B"],
        ["C"],
    ]


def cell(task, seed, lr=1.0):
    if task == "bad":
        raise ValueError("no luck")
    return {"acc": seed * lr}


def test_a_sweep(client):
    axes = {"task": ["a", "bad"], "seed": range(3), "lr": [0.5, 1.0]}
    result = client.sweep(cell, axes, best="max:acc").result()
    table = result.table(group_by=["task", "lr"])
    assert table["failed"].tolist() == [0, 3, 0, 3]
    assert table["acc_mean"].tolist()[::2] == [0.5, 1.0]
    assert result.best.axes == {"task": "a", "seed": 2, "lr": 1.0}
    assert len(result.outcomes) == 12
    pipe = fg.Pipeline("two")
    pipe.node("tune", lambda base, lr: {"acc": base * lr}, after=pipe.node("base", lambda seed: seed * 10))
    table = client.sweep(pipe, {"base__seed": [1, 2], "lr": [0.5, 1.0]}).result().table()
    assert table["acc"].tolist() == [5.0, 10.0, 10.0, 20.0]
