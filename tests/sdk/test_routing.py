"""Weights under scikit-learn's metadata routing: refused before anything is sent where scikit-learn refuses them."""

import pickle

import numpy as np
import pytest
from sklearn import config_context
from sklearn.datasets import load_iris
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import flaregate as fg
from flaregate import sklearn as drop_ins
from flaregate.submission import JobOptions, prepare
from flaregate.testing.submitting import chain

X, Y = load_iris(return_X_y=True)
WEIGHTS = np.linspace(0.1, 1, len(Y))


@pytest.fixture(autouse=True)
def routing():
    with config_context(enable_metadata_routing=True):
        yield


def logistic(fit=None, score=None):
    made = LogisticRegression(max_iter=500)
    for said, method in ((fit, made.set_fit_request), (score, made.set_score_request)):
        if said is not None:
            method(sample_weight=said)
    return made


def knn(score=None):
    made = KNeighborsClassifier()
    return made if score is None else made.set_score_request(sample_weight=score)


def scorer(said):
    return make_scorer(accuracy_score).set_score_request(sample_weight=said)


def refused(function):
    """The type of scikit-learn's error; None where there is none."""
    try:
        function()
    except (TypeError, UnsetMetadataPassedError) as error:
        kinds = (UnsetMetadataPassedError, TypeError)
        return next(kind for kind in kinds if isinstance(error, kind))
    return None


class Sent(Exception):
    """Nothing was refused."""


class Sending:
    """A client that sends nothing."""

    embedded = True

    def send(self, submission):
        raise Sent


def of_drop_in(function):
    try:
        return refused(function)
    except Sent:
        return None


@pytest.mark.parametrize("scoring", [None, "accuracy", True, False])
@pytest.mark.parametrize(
    ("made", "said"),
    [
        (logistic, {"fit": False, "score": False}),
        (logistic, {"fit": False}),
        (logistic, {"fit": True}),
        (logistic, {"fit": True, "score": False}),
        (logistic, {"score": False}),
        (logistic, {}),
        (knn, {}),
        (knn, {"score": False}),
        (knn, {"score": True}),
    ],
)
def test_one_node_is_refused_as_scikit_learn_refuses_its_estimator(made, said, scoring):
    scoring = scorer(said=scoring) if isinstance(scoring, bool) else scoring
    estimator = made(**said)
    params = {"sample_weight": WEIGHTS}
    expected = refused(lambda: cross_validate(estimator, X, Y, cv=2, scoring=scoring, params=params))
    given = {"X": X, "y": Y, "cv": 2, "scoring": scoring}
    plain = JobOptions(action="cross_validate", sample_weight=WEIGHTS, **given)
    assert refused(lambda: prepare(chain(("last", estimator)), plain)) is expected

    def function():
        drop_ins.cross_validate(estimator, X, Y, cv=2, scoring=scoring, params=params, client=Sending())

    def search():
        drop_ins.GridSearchCV(estimator, {}, cv=2, scoring=scoring, client=Sending()).fit(X, Y, sample_weight=WEIGHTS)

    assert of_drop_in(function) is of_drop_in(search) is expected


@pytest.mark.parametrize("said", [False, True])
def test_a_chain_is_refused_as_scikit_learn_refuses_its_pipeline(said):
    scale, last = StandardScaler().set_fit_request(sample_weight=said), logistic(fit=False, score=said)
    search = GridSearchCV(make_pipeline(scale, last), {}, cv=2)
    expected = refused(lambda: search.fit(X, Y, sample_weight=WEIGHTS))
    assert expected is (None if said else TypeError)
    options = JobOptions(action="search", X=X, y=Y, cv=2, sample_weight=WEIGHTS)
    assert refused(lambda: prepare(chain(("scale", scale), ("last", last)), options)) is expected


def test_the_refusal_says_what_to_do_and_stays_what_it_is_when_it_travels():
    options = JobOptions(action="cross_validate", X=X, y=Y, sample_weight=WEIGHTS)
    with pytest.raises(fg.Refused, match="no node or scorer has asked for it") as unrouted:
        prepare(chain(("last", logistic(fit=False, score=False))), options)
    with pytest.raises(fg.Refused, match=r"LogisticRegression\.fit, which is used within node 'last'") as unset:
        prepare(chain(("last", logistic())), options)
    for caught in (unrouted.value, unset.value):
        assert (caught.code, caught.errors[0].pointer) == ("invalid_definition", "/inputs/sample_weight")
        back = pickle.loads(pickle.dumps(caught))
        assert (type(back), str(back), back.errors) == (type(caught), str(caught), caught.errors)


def test_a_fit_asks_no_scorer():
    options = JobOptions(action="fit", X=X, y=Y, sample_weight=WEIGHTS)
    prepare(chain(("last", logistic(fit=True))), options)
    with pytest.raises(TypeError, match="no node has asked for it"):
        prepare(chain(("last", logistic(fit=False))), options)


def test_weights_of_one_path_are_enough_and_of_what_was_loaded_nothing_is_known(tmp_path):
    pipe = fg.Pipeline()
    pipe.node("a", logistic(fit=True, score=False))
    pipe.node("b", logistic(fit=False, score=False))
    options = JobOptions(action="cross_validate", X=X, y=Y, sample_weight=WEIGHTS)
    prepare(pipe, options)
    chain(("last", logistic(fit=False, score=False))).save(tmp_path / "pipe.json")
    prepare(fg.Pipeline.load(tmp_path / "pipe.json"), options)


def test_without_routing_weights_go_to_the_last_node():
    with config_context(enable_metadata_routing=False):
        prepare(chain(("last", LogisticRegression())), JobOptions(X=X, y=Y, sample_weight=WEIGHTS))
