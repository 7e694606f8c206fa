"""The main job, from the SDK to real Ray and back, against GridSearchCV."""

import time

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline

import flaregate as fg
from flaregate_wire.events import OutcomeEvent
from flaregate_wire.states import State
from tests.conftest import runs, until

COMPONENTS = [5, 15, 30, 45, 64]
STRENGTHS = list(np.logspace(-4, 4, 4))


@pytest.fixture(scope="module")
def digits():
    return load_digits(return_X_y=True)


@pytest.fixture(scope="module")
def done(gateway, digits):
    """The digits search on a head and a worker; with the arrival time of each event at the client."""
    pipe = fg.Pipeline("digits")
    pca = pipe.node("pca", PCA())
    pipe.node("logistic", LogisticRegression(max_iter=10000, tol=0.1), after=pca)
    X, y = digits
    with gateway.client() as client:
        job = client.submit(
            pipe,
            X=X,
            y=y,
            axes={"pca__n_components": COMPONENTS, "logistic__C": STRENGTHS},
            cv=KFold(5),
            workers=1,
            min_workers=1,
            cpus=1,
            timeout=300,
        )
        arrived = [(time.time(), event) for event in job.events()]
        yield job, job.result(), arrived


def test_all_means_equal_grid_search(done, digits):
    _, result, _ = done
    chain = Pipeline([("pca", PCA()), ("logistic", LogisticRegression(max_iter=10000, tol=0.1))])
    oracle = GridSearchCV(chain, {"pca__n_components": COMPONENTS, "logistic__C": STRENGTHS}, cv=KFold(5)).fit(*digits)
    ours = {(o.axes["pca__n_components"], o.axes["logistic__C"]): o for o in result.outcomes}
    assert len(ours) == 20
    for place, params in enumerate(oracle.cv_results_["params"]):
        outcome = ours[params["pca__n_components"], params["logistic__C"]]
        folds = [oracle.cv_results_[f"split{fold}_test_score"][place] for fold in range(5)]
        np.testing.assert_allclose(outcome.scores["score"], folds, rtol=1e-12)
        np.testing.assert_allclose(outcome.mean, oracle.cv_results_["mean_test_score"][place], rtol=1e-12)
    assert result.best.axes == oracle.best_params_
    np.testing.assert_array_equal(result.best.pipeline().predict(digits[0]), oracle.predict(digits[0]))


def test_each_prefix_is_fitted_once_for_each_fold(done):
    _, result, _ = done
    assert result.stats.fits == {"pca": 25, "logistic": 100}


def test_the_first_outcome_arrives_before_the_last_is_computed(done):
    _, _, arrived = done
    outcomes = [(moment, event) for moment, event in arrived if isinstance(event, OutcomeEvent)]
    assert len(outcomes) == 20
    assert outcomes[0][0] < outcomes[-1][1].time.timestamp()


def test_event_ids_grow_by_one_and_the_last_is_end(done):
    _, _, arrived = done
    assert [event.id for _, event in arrived] == list(range(1, len(arrived) + 1))
    assert arrived[-1][1].type == "end"
    assert arrived[-1][1].state is State.SUCCEEDED


def test_the_timeline_is_in_order_and_the_meter_ran(done):
    job, _, _ = done
    view = job.wait()
    phases = ["queued", "launched", "booted", "ray_ready", "first_task", "first_outcome", "committed", "gone"]
    moments = [view.timeline[phase] for phase in phases]
    assert moments == sorted(moments)
    alive = (view.timeline["gone"] - view.timeline["launched"]).total_seconds()
    assert 0 < view.usage.vcpu_seconds <= 2 * alive + 1
    assert view.usage.gib_seconds > 0


def test_nothing_is_left_running(done):
    job, _, _ = done
    until(lambda: not runs(job.id), 10)


def test_the_table_has_the_shape_of_cv_results(done):
    _, result, _ = done
    table = result.table()
    assert len(table) == 20
    assert {"param_pca__n_components", "mean_test_score", "std_test_score", "rank_test_score"} <= set(table.columns)
