"""The catalogue of signatures is what the worker's environment has."""

import subprocess
import sys

import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import StackingClassifier, VotingRegressor
from sklearn.feature_selection import RFE, RFECV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC

from flaregate.imports import import_path
from flaregate.signatures import estimator_signature
from flaregate_wire.definitions import Ability
from gateway.jobs.signing import catalogue
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


def test_what_follows_an_estimator_says_which_and_what_cannot_be_written_is_not_there():
    rows = catalogue()
    assert {rows[import_path(kind)].follows for kind in (RFE, RFECV, GridSearchCV, RandomizedSearchCV)} == {"estimator"}
    assert rows[import_path(Pipeline)].follows == "steps"
    assert Ability.TRANSFORM not in rows[import_path(RFE)].lent
    assert import_path(FrozenEstimator) not in rows
