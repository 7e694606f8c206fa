"""A job on the Code Engine simulator: a real gateway, IBM's own SDK as it is, and instances that run the real worker."""

import time

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

import flaregate as fg
from flaregate_wire.events import AttemptEvent, OutcomeEvent
from tests.conftest import until
from tests.servers.code_engine import code_engine, gateway_on_code_engine

pytestmark = pytest.mark.platforms
X, Y = load_digits(return_X_y=True)
GRID = {"pca__n_components": [5, 15, 30], "logistic__C": [0.01, 0.1, 1.0, 10.0]}


@pytest.fixture
def simulator(tmp_path):
    with code_engine(tmp_path / "instances") as simulator:
        yield simulator


@pytest.fixture
def on_code_engine(tmp_path, simulator):
    with gateway_on_code_engine(tmp_path / "home", simulator) as gateway:
        yield gateway


class Patient(LogisticRegression):
    """Takes its time, so that there is work for every node; where others may listen, nodes speak TLS."""

    def fit(self, X, y, sample_weight=None):
        import os

        assert os.environ["RAY_USE_TLS"] == "1"
        time.sleep(0.25)
        return super().fit(X, y, sample_weight)


def test_a_job_runs_on_a_head_and_two_workers_and_its_receipt_is_the_bill(on_code_engine, simulator):
    pipe = fg.Pipeline("digits")
    pipe.node("logistic", Patient(max_iter=2000, tol=0.1), after=pipe.node("pca", PCA(random_state=0)))
    with on_code_engine.client() as client:
        job = client.submit(
            pipe, action="search", X=X, y=Y, axes=GRID, cv=5, workers=2, min_workers=2, cpus=1, memory=4_000_000_000
        )
        result = job.result(timeout=150)
        assert len(result.stats.hosts) == 3
        names = {"pca__n_components": GRID["pca__n_components"], "logisticregression__C": GRID["logistic__C"]}
        local = make_pipeline(PCA(random_state=0), LogisticRegression(max_iter=2000, tol=0.1))
        expected = GridSearchCV(local, names, cv=5).fit(X, Y).cv_results_
        wanted = {(p["pca__n_components"], p["logisticregression__C"]): m
                  for p, m in zip(expected["params"], expected["mean_test_score"], strict=True)}  # fmt: skip
        found = {(o.axes["pca__n_components"], o.axes["logistic__C"]): o.mean for o in result.outcomes}
        assert found.keys() == wanted.keys()
        np.testing.assert_allclose([found[key] for key in wanted], list(wanted.values()), rtol=1e-10)
        until(lambda: not simulator.project.living() and not simulator.project.visible(), 20)
        used = job.view().usage.vcpu_seconds
    billed = simulator.project.billed.vcpu_seconds
    assert used == pytest.approx(billed, rel=0.01)


def test_an_instance_that_is_taken_away_is_replaced_by_a_job_run_of_its_own_and_billed(on_code_engine, simulator):
    pipe = fg.Pipeline("digits")
    pipe.node("logistic", Patient(max_iter=200, tol=0.1), after=pipe.node("pca", PCA(5, random_state=0)))
    axes = {"logistic__C": list(np.logspace(-3, 1, 16))}
    with on_code_engine.client() as client:
        sizes = {"workers": 1, "min_workers": 1, "cpus": 1, "memory": 4_000_000_000}
        job = client.submit(pipe, action="search", X=X, y=Y, axes=axes, cv=5, refit=False, **sizes)
        told = []
        for event in job.events():
            if isinstance(event, AttemptEvent):
                told.append((event.phase, event.index))
            if isinstance(event, OutcomeEvent) and told and ("lost", 1) not in told:
                (taken,) = [one for _, one in simulator.project.living() if one.index == 1] or [None]
                if taken is not None:
                    taken.running.end(force=False)  # as a platform that needs the machine for others
        view = job.wait()
        assert (view.state, view.message) == ("succeeded", None)
        wanted = [("joined", 1), ("lost", 1), ("launched", 2), ("joined", 2), ("committed", 0)]
        assert [one for one in told if one in wanted] == wanted
        until(lambda: not simulator.project.living() and not simulator.project.visible(), 20)
    billed = simulator.project.billed
    assert sorted(name.rpartition("-")[2] for name in billed.runs) == ["1", "x2"]
    assert view.usage.vcpu_seconds == pytest.approx(billed.vcpu_seconds, rel=0.01)
