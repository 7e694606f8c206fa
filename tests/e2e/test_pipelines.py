"""Alternatives, joins, own classes and functions through the whole way."""

import time

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

import flaregate as fg
from flaregate_wire.states import Reason, State


@pytest.fixture(scope="module")
def iris():
    return load_iris(return_X_y=True)


def test_a_join_equals_feature_union_and_an_own_class_travels(client, iris):
    class Doubler(TransformerMixin, BaseEstimator):
        def __init__(self, times=2):
            self.times = times

        def fit(self, X, y=None):
            self.n_features_in_ = X.shape[1]
            return self

        def transform(self, X):
            return X * self.times

    X, y = iris
    pipe = fg.Pipeline("joined")
    double = pipe.node("double", Doubler())
    parts = [
        pipe.node("pca", PCA(2, random_state=0), after=double),
        pipe.node("best", SelectKBest(k=1), after=double),
    ]
    both = pipe.join("both", parts)
    pipe.node("knn", KNeighborsClassifier(), after=both)
    cv = StratifiedKFold(4)
    job = client.submit(pipe, action="cross_validate", X=X, y=y, cv=cv, timeout=120)
    (outcome,) = job.result().outcomes
    union = FeatureUnion([("pca", PCA(2, random_state=0)), ("best", SelectKBest(k=1))])
    oracle = cross_val_score(make_pipeline(Doubler(), union, KNeighborsClassifier()), X, y, cv=cv)
    np.testing.assert_allclose(outcome.scores["score"], oracle, rtol=1e-12)
    assert outcome.path == ("double", "pca", "best", "both", "knn")


def test_fit_gives_a_pipeline_for_each_alternative(client, iris):
    X, y = iris
    pipe = fg.Pipeline("alternatives")
    scale = pipe.node("scale", StandardScaler())
    pipe.node("tree", DecisionTreeClassifier(max_depth=3, random_state=0), after=scale)
    pipe.node("knn", KNeighborsClassifier(), after=scale)
    result = client.submit(pipe, action="fit", X=X, y=y, timeout=120).result()
    assert result.stats.fits == {"scale": 1, "tree": 1, "knn": 1}
    leaves = {"tree": DecisionTreeClassifier(max_depth=3, random_state=0), "knn": KNeighborsClassifier()}
    for outcome in result.outcomes:
        oracle = make_pipeline(StandardScaler(), leaves[outcome.path[-1]]).fit(X, y)
        np.testing.assert_array_equal(outcome.pipeline().predict(X), oracle.predict(X))
    with pytest.raises(fg.AmbiguousBest):
        _ = result.best


class _Picky(ClassifierMixin, BaseEstimator):
    def __init__(self, mode="fine"):
        self.mode = mode

    def fit(self, X, y):
        import os

        self.classes_ = np.unique(y)
        if self.mode == "raise":
            raise ValueError("no such luck")
        if self.mode == "exit":
            print("about to go", flush=True)
            os._exit(7)
        if self.mode.startswith("nap"):
            time.sleep(0.5)
        if self.mode == "sleep":
            print("sleeping for ever", flush=True)
            time.sleep(3600)
        return self

    def predict(self, X):
        return np.repeat(self.classes_[0], len(X))


def picky():
    # by value: a copy made here is not importable where the tasks run
    return type("Picky", (_Picky,), dict(_Picky.__dict__))


def search(client, iris, modes, **options):
    pipe = fg.Pipeline("picky")
    pipe.node("picky", picky()())
    X, y = iris
    return client.submit(pipe, X=X, y=y, axes={"picky__mode": modes}, cv=2, **{"timeout": 120, **options})


def test_a_candidate_that_raises_and_one_that_kills_its_process_stop_no_other(client, iris):
    job = search(client, iris, ["fine", "raise", "exit"])
    result = job.result()
    fine, raised, gone = result.outcomes
    assert fine.error is None
    assert fine.mean == pytest.approx(1 / 3, abs=0.01)
    assert (raised.error.type, raised.error.message) == ("ValueError", "no such luck")
    assert "in fit" in raised.error.traceback
    assert np.isnan(raised.scores["score"]).all()
    assert gone.error.type == "WorkerDied"
    view = job.wait()
    assert (view.state, view.reason) == (State.SUCCEEDED, Reason.SOME_CANDIDATES_FAILED)
    assert "about to go" in "".join(job.logs())


@pytest.mark.parametrize(("workers", "cpus"), [(1, 1), pytest.param(2, 0.5, marks=pytest.mark.slow)])
def test_tasks_run_on_the_head_and_on_every_worker(client, iris, workers, cpus):
    naps = [f"nap {n}" for n in range(16 * workers)]
    job = search(client, iris, naps, workers=workers, min_workers=workers, cpus=cpus)
    assert len(job.result().stats.hosts) == 1 + workers


def test_when_all_fail_the_job_fails_with_the_first_traceback(client, iris):
    job = search(client, iris, ["raise"])
    with pytest.raises(fg.JobFailed, match="no such luck") as caught:
        job.result()
    assert caught.value.reason == Reason.USER_ERROR


@pytest.mark.slow
def test_code_that_never_ends_is_timed_out_with_its_last_lines(client, iris):
    job = search(client, iris, ["sleep"], timeout=30)
    with pytest.raises(fg.JobTimedOut):
        job.result()
    view = job.wait()
    assert (view.state, view.reason) == (State.TIMED_OUT, Reason.TIMEOUT)
    assert any("sleeping for ever" in line for line in view.log_tail)


def test_bad_definitions_start_nothing(client, iris):
    X, y = iris
    before = len(list(client.jobs()))
    pipe = fg.Pipeline("bad")
    pipe.node("tree", DecisionTreeClassifier())
    with pytest.raises(fg.Refused, match="max_dept"):
        client.submit(pipe, X=X, y=y, axes={"tree__max_dept": [1]})
    assert len(list(client.jobs())) == before
