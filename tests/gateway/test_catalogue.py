"""The catalogue of signatures is what the worker's environment has."""

import subprocess
import sys

import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import StackingClassifier, VotingRegressor
from sklearn.feature_selection import RFE
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC

from flaregate.imports import import_path
from flaregate.signatures import estimator_signature
from gateway.jobs.admission import catalogue
from tests.conftest import ROOT


def test_the_catalogue_is_what_the_worker_can_import():
    done = subprocess.run([sys.executable, "-m", "worker_image.catalogue"], capture_output=True, text=True, check=True)
    assert done.stdout == (ROOT / "gateway/jobs/catalogue.json").read_text(), "run `make golden`"


@pytest.mark.parametrize(
    "estimator",
    [
        ColumnTransformer([("a", "passthrough", [0])]),
        StackingClassifier([("svc", SVC())]),
        VotingRegressor([("ridge", Ridge())]),
    ],
    ids=lambda one: type(one).__name__,
)
def test_what_needs_arguments_is_there_as_far_as_its_class_says(estimator):
    known, own = catalogue()[import_path(type(estimator))], estimator_signature(estimator)
    assert set(known.params) == set(estimator.get_params(deep=False))
    assert known.open
    assert known.type == own.type
    assert set(known.abilities) >= set(own.abilities)


@pytest.mark.parametrize("kind", [Pipeline, RFE])
def test_what_is_as_its_estimators_are_is_left_to_the_head(kind):
    assert import_path(kind) not in catalogue()
