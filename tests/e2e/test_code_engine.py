"""A job on the Code Engine simulator: a real gateway, IBM's own SDK as it is, and instances that run the real worker."""

import json
import time

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

import flaregate as fg
from flaregate.versions import here
from tests.conftest import gateway_on, until
from tests.servers.code_engine import JOB, KEY, PROJECT, code_engine

pytestmark = pytest.mark.platforms
X, Y = load_digits(return_X_y=True)
GRID = {"pca__n_components": [5, 15, 30], "logistic__C": [0.01, 0.1, 1.0, 10.0]}


@pytest.fixture
def simulator(tmp_path):
    with code_engine(tmp_path / "instances") as simulator:
        yield simulator


@pytest.fixture
def on_code_engine(tmp_path, simulator):
    environment = {**here(), "ray": "2", "pandas": "2"}
    settings = {
        "LAUNCHER": "code_engine",
        "CODE_ENGINE_PROJECT": PROJECT,
        "CODE_ENGINE_KEY": KEY,
        "CODE_ENGINE_JOB": JOB,
        "CODE_ENGINE_URL": f"{simulator.url}/v2",
        "CODE_ENGINE_IAM_URL": simulator.url,
        "WORKER_ENVIRONMENT": json.dumps(environment),
        "PLATFORM_LEASE": "60",
    }
    with gateway_on(tmp_path / "home", **{f"FLAREGATE_{name}": value for name, value in settings.items()}) as gateway:
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
