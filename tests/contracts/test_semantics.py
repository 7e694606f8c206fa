"""Rows, weights, folds, scores and errors, against scikit-learn in the same process.

tests/contracts/test_runner.py has what all runners must give alike; flaregate.testing has the random pipelines.
"""

import numpy as np
import pytest
from sklearn import config_context
from sklearn.cluster import KMeans
from sklearn.datasets import load_diabetes
from sklearn.decomposition import PCA
from sklearn.ensemble import StackingClassifier
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import make_scorer, mean_absolute_error
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    LeaveOneGroupOut,
    StratifiedKFold,
    cross_val_score,
    cross_validate,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import StandardScaler, TargetEncoder
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

import flaregate as fg
from flaregate.testing.submitting import chain
from tests.contracts.semantics import Moody, same, scores

ROWS = 150
ROWS_OF_ALL = list(range(ROWS))


@pytest.fixture(scope="module")
def weights():
    return np.random.RandomState(0).uniform(0.2, 3.0, ROWS)


# Weights, parameters of fit, groups


def test_sample_weight_goes_to_the_last_node_of_each_path_alone(client, iris, weights):
    X, y = iris
    pipe = fg.Pipeline()
    scale = pipe.node("scale", StandardScaler())
    leaves = {"svc": SVC(), "tree": DecisionTreeClassifier(max_depth=2, random_state=0)}
    for name, leaf in leaves.items():
        pipe.node(name, leaf, after=scale)
    result = client.submit(pipe, action="cross_validate", X=X, y=y, sample_weight=weights, cv=4).result()
    for outcome, leaf in zip(result.outcomes, leaves.values(), strict=True):
        model = make_pipeline(StandardScaler(), leaf)
        params = {f"{model.steps[-1][0]}__sample_weight": weights}
        same(outcome.scores["score"], cross_validate(model, X, y, cv=4, params=params)["test_score"])


def test_sample_weight_holds_for_the_refit_too(client, iris, weights):
    X, y = iris
    job = client.submit(chain(("svc", SVC())), X=X, y=y, sample_weight=weights, axes={"svc__C": [0.1, 1.0]}, cv=3)
    best = job.result().best
    expected = SVC(C=best.axes["svc__C"]).fit(X, y, sample_weight=weights)
    same(best.pipeline().decision_function(X), expected.decision_function(X))


def test_fit_params_go_to_their_nodes(client, iris, weights):
    X, y = iris
    pipe = chain(("scale", StandardScaler()), ("svc", SVC()))
    given = {"scale": {"sample_weight": weights}}
    result = client.submit(pipe, action="cross_validate", X=X, y=y, fit_params=given, cv=4).result()
    model = make_pipeline(StandardScaler(), SVC())
    params = {"standardscaler__sample_weight": weights}
    same(scores(result)[0], cross_validate(model, X, y, cv=4, params=params)["test_score"])


def test_metadata_routing_decides_where_it_is_enabled(client, iris, weights):
    X, y = iris
    with config_context(enable_metadata_routing=True):
        scale = StandardScaler().set_fit_request(sample_weight=True)
        logistic = LogisticRegression(max_iter=500).set_fit_request(sample_weight=True)
        logistic.set_score_request(sample_weight=True)
        pipe = chain(("scale", scale), ("logistic", logistic))
        result = client.submit(pipe, action="cross_validate", X=X, y=y, sample_weight=weights, cv=4).result()
        params = {"sample_weight": weights}
        expected = cross_validate(make_pipeline(scale, logistic), X, y, cv=4, params=params)["test_score"]
    same(scores(result)[0], expected)


def test_weights_that_someone_has_not_said_to_want_or_not_are_refused(client, iris, weights):
    X, y = iris
    given = {"action": "cross_validate", "X": X, "y": y, "sample_weight": weights, "cv": 3}
    with config_context(enable_metadata_routing=True):
        scale, logistic = StandardScaler(), LogisticRegression(max_iter=500)
        wanting = LogisticRegression(max_iter=500).set_fit_request(sample_weight=True)
        for pipe in (chain(("scale", scale), ("last", wanting)), chain(("last", logistic)), chain(("last", wanting))):
            with pytest.raises(UnsetMetadataPassedError, match="not explicitly set as requested or not") as caught:
                client.submit(pipe, **given)
            assert isinstance(caught.value, fg.Refused)
        nested = make_pipeline(scale, wanting.set_score_request(sample_weight=False))
        with pytest.raises(fg.JobFailed, match="not explicitly set as requested or not requested"):
            client.submit(chain(("last", nested)), **given).result()


def test_groups_make_folds_whose_number_is_unknown_before(client, iris):
    X, y = iris
    groups = np.arange(ROWS) % 7
    pipe = chain(("knn", KNeighborsClassifier()))
    options = {"action": "cross_validate", "X": X, "y": y, "groups": groups, "cv": LeaveOneGroupOut()}
    result = client.submit(pipe, **options).result()
    assert len(scores(result)[0]) == 7
    same(scores(result)[0], cross_val_score(KNeighborsClassifier(), X, y, groups=groups, cv=LeaveOneGroupOut()))


def test_an_unseeded_shuffle_cuts_once_for_all_candidates(client, iris):
    X, y = iris
    axes = {"knn__algorithm": ["brute", "kd_tree", "ball_tree"]}
    cv = KFold(4, shuffle=True)
    result = client.submit(chain(("knn", KNeighborsClassifier(1))), X=X, y=y, axes=axes, cv=cv, refit=False).result()
    first, *others = scores(result)
    assert all(np.array_equal(first, other) for other in others)


# Scoring


def test_scorers_by_names_of_ones_own(client):
    X, y = load_diabetes(return_X_y=True)
    scoring = {"r2": "r2", "off": make_scorer(mean_absolute_error, greater_is_better=False)}
    pipe = chain(("scale", StandardScaler()), ("ridge", Ridge()))
    options = {"cv": 3, "scoring": scoring, "return_train_score": True}
    result = client.submit(pipe, action="cross_validate", X=X, y=y, **options).result()
    (outcome,) = result.outcomes
    expected = cross_validate(make_pipeline(StandardScaler(), Ridge()), X, y, **options)
    for name in scoring:
        same(outcome.scores[name], expected[f"test_{name}"])
        same(outcome.train_scores[name], expected[f"train_{name}"])
    assert outcome.mean is None
    with pytest.raises(fg.AmbiguousBest):
        _ = result.best


@pytest.mark.parametrize("leaf", [PCA(2, random_state=0), KMeans(3, n_init=1, random_state=0)])
def test_a_transformer_with_a_score_of_its_own_is_scored_by_it(client, iris, leaf):
    result = client.submit(chain(("leaf", leaf)), action="cross_validate", X=iris[0], cv=3).result()
    same(scores(result)[0], cross_val_score(leaf, iris[0], cv=3))


def test_what_cannot_be_scored_is_refused_by_name(client, iris):
    pipe = chain(("pca", PCA(2)), ("last scale", StandardScaler()))
    with pytest.raises(fg.Refused, match="last scale"):
        client.submit(pipe, action="cross_validate", X=iris[0], y=iris[1], cv=3)


def test_mixed_kinds_need_a_splitter(client, iris):
    X, y = iris
    pipe = fg.Pipeline()
    pipe.node("tree", DecisionTreeClassifier(random_state=0))
    pipe.node("ridge", Ridge())
    with pytest.raises((fg.Refused, fg.JobFailed), match="splitter"):
        client.submit(pipe, action="cross_validate", X=X, y=y, cv=3).result()
    result = client.submit(pipe, action="cross_validate", X=X, y=y, cv=StratifiedKFold(3)).result()
    expected = [
        cross_val_score(leaf, X, y, cv=StratifiedKFold(3)) for leaf in (DecisionTreeClassifier(random_state=0), Ridge())
    ]
    same(scores(result), expected)


@pytest.mark.parametrize("first", [TargetEncoder(cv=KFold(3)), GaussianNB()], ids=["encoder", "stacking"])
def test_train_scores_are_those_of_new_rows_that_happen_to_be_the_training_ones(client, iris, first):
    """The last node was fitted on what `fit_transform` or out-of-fold predictions gave; it is scored on `transform`."""
    X, y = np.round(iris[0]), (iris[1] == 1).astype(int)
    last = LogisticRegression()
    pipe = chain(("first", first), ("last", last))
    options = {"cv": 3, "return_train_score": True}
    (outcome,) = client.submit(pipe, action="cross_validate", X=X, y=y, **options).result().outcomes
    oracle = make_pipeline(first, last) if hasattr(first, "transform") else StackingClassifier([("first", first)], last)
    expected = cross_validate(oracle, X, y, **options)
    same(outcome.scores["score"], expected["test_score"])
    same(outcome.train_scores["score"], expected["train_score"])


# Errors


@pytest.mark.parametrize("scoring", ["acuracy", ["accuracy", "accuracy"], {"one": "no such"}, []])
def test_scorers_that_do_not_exist_are_told_before_anything_is_fitted(client, iris, scoring):
    X, y = iris
    job = client.submit(chain(("nb", GaussianNB())), action="cross_validate", X=X, y=y, scoring=scoring)
    with pytest.raises(fg.JobFailed, match="'scoring' cannot score 'nb'"):
        job.result()
    assert job.ran.stats.tasks == 0


def spread(model, X, y):
    return float(np.std(model.transform(X)))


def test_a_join_at_the_end_is_scored_by_a_scorer_of_ones_own(client, iris):
    X, y = iris
    pipe = fg.Pipeline()
    pipe.join("both", [pipe.node("scale", StandardScaler()), pipe.node("pca", PCA(2, random_state=0))])
    result = client.submit(pipe, action="cross_validate", X=X, y=y, cv=3, scoring=spread).result()
    union = FeatureUnion([("scale", StandardScaler()), ("pca", PCA(2, random_state=0))])
    same(scores(result)[0], cross_validate(union, X, y, cv=3, scoring=spread)["test_score"])


@pytest.mark.parametrize("refit", [True, "accuracy", "score"])
def test_of_one_scorer_any_name_refits(client, iris, refit):
    X, y = iris
    axes = {"logistic__C": [0.01, 1.0]}
    pipe = chain(("logistic", LogisticRegression(max_iter=500)))
    best = client.submit(pipe, X=X, y=y, axes=axes, cv=3, scoring="accuracy", refit=refit).result().best
    oracle = GridSearchCV(LogisticRegression(max_iter=500), {"C": [0.01, 1.0]}, cv=3, scoring="accuracy", refit=refit)
    oracle.fit(X, y)
    assert best.axes["logistic__C"] == oracle.best_params_["C"]
    same(best.pipeline().predict_proba(X), oracle.predict_proba(X))


@pytest.mark.parametrize("rows", [[0, 1, 200], [-151], [True, False]])
def test_folds_of_rows_that_are_not_there_are_an_error_of_the_job(client, iris, rows):
    X, y = iris
    with pytest.raises(fg.JobFailed, match="fold 1 of cv names rows that are not there: X has 150"):
        client.submit(
            chain(("nb", GaussianNB())), action="cross_validate", X=X, y=y, cv=[(ROWS_OF_ALL, [3]), (rows, [3])]
        ).result()


def test_error_score_raise_ends_the_job(client, iris):
    X, y = iris
    axes = {"moody__mood": ["good", "bad"]}
    job = client.submit(chain(("moody", Moody())), X=X, y=y, axes=axes, cv=3, error_score="raise")
    with pytest.raises(fg.JobFailed, match="in a bad mood"):
        job.result()


@pytest.mark.parametrize("score", [np.float64(0.25), np.int64(0), 1, float("inf")])
def test_error_score_is_any_number(client, iris, score):
    X, y = iris
    axes = {"moody__mood": ["good", "bad"]}
    result = client.submit(
        chain(("moody", Moody())), X=X, y=y, axes=axes, cv=3, refit=False, error_score=score
    ).result()
    np.testing.assert_array_equal(scores(result)[1], [float(score)] * 3)


def test_fail_fast_ends_the_job_at_the_first_failed_candidate(client, iris):
    X, y = iris
    axes = {"moody__mood": ["bad", *(f"good {number}" for number in range(200))]}
    job = client.submit(chain(("moody", Moody())), X=X, y=y, axes=axes, cv=3, fail_fast=True)
    with pytest.raises(fg.JobFailed, match="in a bad mood") as failed:
        job.result()
    assert 1 <= len(failed.value.result.outcomes) < 201


def test_warnings_are_raised_once_in_the_caller(client, iris):
    X, y = iris
    axes = {"moody__mood": ["loud", "good"]}
    job = client.submit(chain(("moody", Moody())), X=X, y=y, axes=axes, cv=3, refit=False)
    with pytest.warns(UserWarning, match="this is loud") as told:
        job.result()
    assert len(told) == 1
