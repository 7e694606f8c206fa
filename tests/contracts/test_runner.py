"""Every runner gives scikit-learn's numbers: SequentialRunner, ProcessRunner, and RayRunner on real Ray."""

import math
import os
import signal
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer, load_digits, load_iris
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import RandomForestClassifier, StackingClassifier
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    ShuffleSplit,
    StratifiedKFold,
    cross_val_score,
    cross_validate,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.pipeline import Pipeline as SkPipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler, TargetEncoder
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from flaregate.pipelines import Pipeline
from flaregate_wire.definitions import JobDefinition
from flaregate_wire.states import Reason
from tests.worker.engine_runs import ray_nodes, run, run_work, work_of
from worker_image.engine.runner import SequentialRunner
from worker_image.process_runner.nursery import Zygote
from worker_image.process_runner.runner import ProcessRunner
from worker_image.ray_runner import RayRunner, connect, disconnect

RNG = np.random.RandomState(0)


@pytest.fixture(scope="module")
def connection():
    with ray_nodes(2) as nodes:
        try:
            yield connect(nodes.address)
        finally:
            disconnect()


@pytest.fixture(scope="module")
def processes():
    zygote = Zygote.start()
    runner = ProcessRunner(zygote, slots=2)
    yield runner
    runner.close()
    zygote.close()


@pytest.fixture(params=["sequential", "process", "ray"])
def runner(request):
    if request.param == "sequential":
        return SequentialRunner()
    if request.param == "process":
        return request.getfixturevalue("processes")
    return RayRunner(request.getfixturevalue("connection"))


@pytest.fixture(params=["process", "ray"])
def apart(request):
    """Runners whose tasks run in processes of their own."""
    if request.param == "process":
        return request.getfixturevalue("processes")
    return RayRunner(request.getfixturevalue("connection"))


@pytest.fixture(scope="module")
def iris():
    return load_iris(return_X_y=True)


def chain(*nodes):
    pipe, last = Pipeline(), None
    for name, obj in nodes:
        last = pipe.node(name, obj, after=last)
    return pipe


# Searches


DIGITS = [("pca", PCA()), ("logistic", LogisticRegression(max_iter=10000, tol=0.1))]
DIGITS_AXES = {"pca__n_components": [5, 15, 30, 45, 64], "logistic__C": list(np.logspace(-4, 4, 4))}


@pytest.fixture(scope="module")
def oracle():
    return GridSearchCV(SkPipeline(DIGITS), DIGITS_AXES, cv=KFold(5)).fit(*load_digits(return_X_y=True))


def test_digits_search_equals_grid_search(runner, tmp_path, oracle):
    X, y = load_digits(return_X_y=True)
    ran = run(runner, chain(*DIGITS), tmp_path, X=X, y=y, axes=DIGITS_AXES, cv=KFold(5))
    table = oracle.cv_results_
    order = {(p["pca__n_components"], float(p["logistic__C"])): place for place, p in enumerate(table["params"])}
    assert len(ran.outcomes) == 20
    for outcome in ran.outcomes:
        place = order[outcome.axes[0][2], outcome.axes[1][2]["$scalar"][1]]
        folds = [table[f"split{fold}_test_score"][place] for fold in range(5)]
        np.testing.assert_allclose(outcome.scores["score"], folds, rtol=1e-12)
        np.testing.assert_allclose(outcome.mean, table["mean_test_score"][place], rtol=1e-12)
        np.testing.assert_allclose(outcome.std, table["std_test_score"][place], rtol=1e-9, atol=1e-12)
    assert ran.result.stats.fits == {"pca": 25, "logistic": 100}
    assert ran.result.stats.refits == {"pca": 1, "logistic": 1}
    np.testing.assert_array_equal(ran.pipeline().predict(X), oracle.predict(X))
    kinds = [event.type for event in ran.events]
    early = [e.done for e in ran.events[: kinds.index("outcome") + 2] if e.type == "progress"]
    assert all(done < 125 for done in early)
    assert [e.done for e in ran.events if e.type == "progress"][-1] == 125


def test_alternatives_with_their_own_axes(runner, tmp_path, iris):
    X, y = iris
    pipe = Pipeline()
    scale = pipe.node("scale", StandardScaler())
    pipe.node("svc", SVC(), after=scale)
    pipe.node("tree", DecisionTreeClassifier(random_state=0), after=scale)
    ran = run(runner, pipe, tmp_path, X=X, y=y, axes={"svc__C": [0.1, 1, 10], "tree__max_depth": [1, 2]}, cv=4)
    expected = [cross_val_score(make_pipeline(StandardScaler(), SVC(C=C)), X, y, cv=4) for C in (0.1, 1, 10)]
    expected += [
        cross_val_score(
            make_pipeline(StandardScaler(), DecisionTreeClassifier(random_state=0, max_depth=depth)), X, y, cv=4
        )
        for depth in (1, 2)
    ]
    np.testing.assert_allclose(ran.scores(), expected, rtol=1e-12)
    assert ran.result.best == int(np.argmax(np.mean(expected, axis=1)))
    assert ran.result.stats.fits == {"scale": 4, "svc": 12, "tree": 8}
    assert ran.finished.succeeded
    assert ran.finished.reason is None


def test_axes_pass_through_joins(runner, tmp_path, iris):
    X, y = iris
    pipe = Pipeline()
    parts = [pipe.node("a", PCA(random_state=0)), pipe.node("b", SelectKBest())]
    pipe.node("d", KNeighborsClassifier(), after=pipe.join("both", parts))
    ran = run(runner, pipe, tmp_path, X=X, y=y, axes={"a__n_components": [1, 2], "b__k": [1, 2]}, cv=3)
    expected = [
        cross_val_score(
            make_pipeline(
                FeatureUnion([("a", PCA(n, random_state=0)), ("b", SelectKBest(k=k))]), KNeighborsClassifier()
            ),
            X,
            y,
            cv=3,
        )
        for n in (1, 2)
        for k in (1, 2)
    ]
    np.testing.assert_allclose(ran.scores(), expected, rtol=1e-12)
    assert ran.result.stats.fits == {"a": 6, "b": 6, "d": 12}


def test_values_that_stand_twice_are_fitted_once(runner, tmp_path, iris):
    X, y = iris
    ran = run(
        runner, chain(("tree", DecisionTreeClassifier())), tmp_path, X=X, y=y, axes={"tree__max_depth": [1, 1]}, cv=3
    )
    assert len(ran.outcomes) == 2
    assert ran.result.stats.fits == {"tree": 3}


# Joins


@pytest.mark.filterwarnings("ignore:.*constant", "ignore:invalid value")
def test_a_join_equals_feature_union_in_each_fold(runner, tmp_path):
    X, y = load_digits(return_X_y=True)
    pipe = Pipeline()
    parts = [pipe.node("pca", PCA(10, random_state=0)), pipe.node("best", SelectKBest(k=3))]
    pipe.node("knn", KNeighborsClassifier(), after=pipe.join("both", parts))
    ran = run(runner, pipe, tmp_path, action="cross_validate", X=X, y=y, cv=StratifiedKFold(10))
    union = FeatureUnion([("pca", PCA(10, random_state=0)), ("best", SelectKBest(k=3))])
    expected = cross_val_score(make_pipeline(union, KNeighborsClassifier()), X, y, cv=StratifiedKFold(10))
    np.testing.assert_allclose(ran.scores()[0], expected, rtol=1e-12)
    assert not ran.finished.artifacts


def test_two_tiers_of_joins_of_four_scalers(runner, tmp_path):
    X = RNG.randint(0, 100, (10000, 4))
    scalers = [StandardScaler(), MinMaxScaler(), MaxAbsScaler(), RobustScaler()]
    pipe = Pipeline()
    nodes = [pipe.node(f"s{number}", scaler) for number, scaler in enumerate(scalers)]
    pairs = [pipe.join("left", nodes[:2]), pipe.join("right", nodes[2:])]
    pipe.join("all", pairs)
    ran = run(runner, pipe, tmp_path, X=X)
    made = ran.pipeline("pipeline-0").transform(X)
    assert made.shape == (10000, 16)
    np.testing.assert_allclose(made, np.hstack([clone(scaler).fit_transform(X) for scaler in scalers]), rtol=1e-12)


def test_frames_stay_frames_through_a_join(runner, tmp_path):
    X, y = load_iris(return_X_y=True, as_frame=True)
    pipe = Pipeline()
    scale = pipe.node("scale", StandardScaler().set_output(transform="pandas"))
    low = pipe.node("low", PCA(2, random_state=0).set_output(transform="pandas"), after=scale)
    both = pipe.join("both", [scale, low])
    pipe.node("named", ColumnsSeen(), after=both)
    ran = run(runner, pipe, tmp_path, X=X, y=y)
    assert ran.outcomes[0].error is None
    assert list(ran.pipeline("pipeline-0").named_nodes["named"].columns_) == [*X.columns, "pca0", "pca1"]


def test_sparse_rows_and_a_join_of_sparse_and_dense(runner, tmp_path, iris):
    X, y = sparse.csr_matrix(iris[0]), iris[1]
    pipe = Pipeline()
    parts = [pipe.node("scale", MaxAbsScaler()), pipe.node("svd", TruncatedSVD(2, random_state=0))]
    pipe.node("svc", SVC(), after=pipe.join("both", parts))
    ran = run(runner, pipe, tmp_path, action="cross_validate", X=X, y=y, cv=4)
    union = FeatureUnion([("scale", MaxAbsScaler()), ("svd", TruncatedSVD(2, random_state=0))])
    expected = cross_val_score(make_pipeline(union, SVC()), X, y, cv=4)
    np.testing.assert_allclose(ran.scores()[0], expected, rtol=1e-12)


def test_unequal_rows_are_refused_with_both_names(runner, tmp_path, iris):
    pipe = Pipeline()
    parts = [pipe.node("whole", StandardScaler()), pipe.node("half", lambda X: X[::2])]
    pipe.node("knn", KNeighborsClassifier(), after=pipe.join("both", parts))
    ran = run(runner, pipe, tmp_path, action="cross_validate", X=iris[0], y=iris[1], cv=3)
    assert "'whole'" in ran.outcomes[0].error.message
    assert "'half'" in ran.outcomes[0].error.message


# Fits


def test_one_preprocessing_and_four_alternatives(runner, tmp_path, iris):
    X, y = iris
    leaves = {
        "tree3": DecisionTreeClassifier(max_depth=3, random_state=0),
        "tree5": DecisionTreeClassifier(max_depth=5, random_state=0),
        "logistic": LogisticRegression(),
        "forest": RandomForestClassifier(5, random_state=0),
    }
    pipe = Pipeline()
    scale = pipe.node("scale", StandardScaler())
    for name, leaf in leaves.items():
        pipe.node(name, leaf, after=scale)
    ran = run(runner, pipe, tmp_path, X=X, y=y)
    assert ran.result.stats.fits == {"scale": 1, **dict.fromkeys(leaves, 1)}
    for outcome, leaf in zip(ran.outcomes, leaves.values(), strict=True):
        assert outcome.scores is None
        assert outcome.artifact == f"pipeline-{outcome.candidate}"
        expected = make_pipeline(StandardScaler(), clone(leaf)).fit(X, y).predict_proba(X)
        np.testing.assert_allclose(ran.pipeline(outcome.artifact).predict_proba(X), expected, rtol=1e-12)


def test_a_single_node_is_a_pipeline_and_gives_train_scores_on_request(runner, tmp_path, iris):
    X, y = iris
    ran = run(runner, chain(("nb", GaussianNB())), tmp_path, X=X, y=y, return_train_score=True)
    assert ran.outcomes[0].train_scores == {"score": (GaussianNB().fit(X, y).score(X, y),)}
    assert ran.result.best == 0


# Stacking


@pytest.mark.parametrize("load", [load_iris, load_breast_cancer])
def test_stacking_equals_stacking_classifier_inside_each_fold(runner, tmp_path, load):
    X, y = load(return_X_y=True)
    pipe = Pipeline()
    below = [("nb", GaussianNB()), ("tree", DecisionTreeClassifier(max_depth=3, random_state=0))]
    both = pipe.join("both", [pipe.node(name, estimator) for name, estimator in below])
    pipe.node("final", LogisticRegression(max_iter=500), after=both)
    ran = run(runner, pipe, tmp_path, action="cross_validate", X=X, y=y, cv=3)
    oracle = StackingClassifier(below, LogisticRegression(max_iter=500))
    np.testing.assert_allclose(ran.scores()[0], cross_val_score(oracle, X, y, cv=3), rtol=1e-12)
    assert ran.result.stats.fits == {"nb": 3, "tree": 3, "final": 3}
    assert ran.result.stats.inner_fits == {"nb": 15, "tree": 15}
    fitted = run(runner, pipe, tmp_path, X=X, y=y).pipeline("pipeline-0")
    np.testing.assert_allclose(fitted.predict_proba(X), oracle.fit(X, y).predict_proba(X), rtol=1e-9)


# Scores


def test_several_scorers_train_scores_and_times(runner, tmp_path, iris):
    X, y = iris
    scoring = ["accuracy", "f1_macro"]
    options = {"cv": 4, "scoring": scoring, "return_train_score": True}
    pipe = chain(("scale", StandardScaler()), ("tree", DecisionTreeClassifier(max_depth=2, random_state=0)))
    ran = run(runner, pipe, tmp_path, X=X, y=y, axes={"tree__max_depth": [1, 2]}, refit="f1_macro", **options)
    for depth, outcome in enumerate(ran.outcomes, 1):
        leaf = DecisionTreeClassifier(max_depth=depth, random_state=0)
        expected = cross_validate(make_pipeline(StandardScaler(), leaf), X, y, **options)
        for name in scoring:
            np.testing.assert_allclose(outcome.scores[name], expected[f"test_{name}"], rtol=1e-12)
            np.testing.assert_allclose(outcome.train_scores[name], expected[f"train_{name}"], rtol=1e-12)
        assert outcome.mean == np.mean(outcome.scores["f1_macro"])
        assert outcome.times["fit"] == pytest.approx(np.mean(outcome.times["fit_folds"]))
        assert outcome.times["score"] > 0
    assert ran.result.best == 1
    assert ran.result.refit_time > 0


def test_an_own_scorer_and_a_clusterer_without_y(runner, tmp_path, iris):
    def negative_inertia(estimator, X, y=None):
        return -estimator.inertia_

    kmeans = KMeans(2, random_state=0, n_init=1)
    ran = run(
        runner, chain(("kmeans", kmeans)), tmp_path, X=iris[0], cv=3, axes={"kmeans__n_clusters": [2, 3]},
        scoring=negative_inertia,
    )  # fmt: skip
    expected = GridSearchCV(kmeans, {"n_clusters": [2, 3]}, cv=3, scoring=negative_inertia).fit(iris[0])
    np.testing.assert_allclose(
        [outcome.mean for outcome in ran.outcomes], expected.cv_results_["mean_test_score"], rtol=1e-12
    )


def test_target_encoder_is_fit_transformed(runner, tmp_path):
    X, y = RNG.randint(0, 5, (200, 2)).astype(float), RNG.rand(200)
    pipe = chain(("encode", TargetEncoder(cv=KFold(3))), ("ridge", Ridge()))
    ran = run(runner, pipe, tmp_path, action="cross_validate", X=X, y=y, cv=4)
    expected = cross_val_score(make_pipeline(TargetEncoder(cv=KFold(3)), Ridge()), X, y, cv=4)
    np.testing.assert_allclose(ran.scores()[0], expected, rtol=1e-12)


@pytest.mark.parametrize("cv", [GroupKFold(3), ShuffleSplit(4, random_state=1), [(range(100), range(100, 150))], 3])
def test_folds_are_those_of_scikit_learn(runner, tmp_path, iris, cv):
    X, y = iris
    groups = np.arange(150) % 7 if isinstance(cv, GroupKFold) else None
    ran = run(
        runner, chain(("knn", KNeighborsClassifier())), tmp_path,
        action="cross_validate", X=X, y=y, groups=groups, cv=cv,
    )  # fmt: skip
    np.testing.assert_allclose(
        ran.scores()[0], cross_val_score(KNeighborsClassifier(), X, y, cv=cv, groups=groups), rtol=1e-12
    )


def test_rows_from_a_loader_in_the_workers_environment(runner, tmp_path):
    body = {
        "pipeline": {"nodes": [{"name": "nb", "kind": "estimator", "import": "sklearn.naive_bayes:GaussianNB"}]},
        "action": "cross_validate",
        "inputs": {
            "X": {"dataset": "sklearn.datasets:load_iris"},
            "y": {"dataset": "sklearn.datasets:load_iris", "part": "target"},
        },
    }
    ran = run_work(runner, work_of(JobDefinition.model_validate(body), {}, tmp_path))
    np.testing.assert_allclose(ran.scores()[0], cross_val_score(GaussianNB(), *load_iris(return_X_y=True)), rtol=1e-12)


# What user code does


def test_a_function_in_the_middle_with_an_axis(runner, tmp_path, iris):
    X, y = iris

    def power(X, exponent=1):
        return X**exponent

    pipe = chain(("power", power), ("knn", KNeighborsClassifier()))
    ran = run(runner, pipe, tmp_path, X=X, y=y, axes={"power__exponent": [1, 3]}, cv=3)
    expected = [cross_val_score(KNeighborsClassifier(), X**exponent, y, cv=3) for exponent in (1, 3)]
    np.testing.assert_allclose(ran.scores(), expected, rtol=1e-12)
    assert ran.result.stats.fits == {"knn": 6}
    np.testing.assert_array_equal(ran.pipeline().predict(X[:5]), y[:5])


class Picky(BaseEstimator, TransformerMixin):
    """Fails, warns or leaves as it is told."""

    def __init__(self, mood="good"):
        self.mood = mood

    def fit(self, X, y=None):
        if self.mood == "bad":
            raise ZeroDivisionError("in a bad mood")
        if self.mood == "gone":
            raise SystemExit(3)
        if self.mood == "loud":
            warnings.warn("this is loud", UserWarning, stacklevel=1)
        return self

    def transform(self, X):
        return X


class ColumnsSeen(BaseEstimator, TransformerMixin):
    def fit(self, X, y=None):
        self.columns_ = list(X.columns)
        return self

    def transform(self, X):
        return X


class Spoiler(BaseEstimator, TransformerMixin):
    """Writes into what it is given."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        X[:, 0] = 0.0
        return X


def test_a_failed_prefix_fails_the_candidates_behind_it_alone(runner, tmp_path, iris):
    X, y = iris
    pipe = chain(("picky", Picky()), ("scale", StandardScaler()), ("tree", DecisionTreeClassifier()))
    axes = {"picky__mood": ["good", "bad", "gone"], "tree__max_depth": [1, 2]}
    ran = run(runner, pipe, tmp_path, X=X, y=y, axes=axes, cv=3, error_score=-1.0)
    assert [outcome.error and outcome.error.type for outcome in ran.outcomes] == [
        None, None, "ZeroDivisionError", "ZeroDivisionError", "SystemExit", "SystemExit",
    ]  # fmt: skip
    failed = ran.outcomes[2]
    assert failed.scores == {"score": (-1.0, -1.0, -1.0)}
    assert "in a bad mood" in failed.error.message
    assert 'raise ZeroDivisionError("in a bad mood")' in failed.error.traceback
    assert "worker_image" not in failed.error.traceback
    assert ran.finished.succeeded
    assert ran.finished.reason is Reason.SOME_CANDIDATES_FAILED
    assert (ran.result.outcomes, ran.result.failed) == (6, 4)
    assert ran.result.stats.fits == {"picky": 9, "scale": 3, "tree": 6}


def test_a_job_whose_candidates_all_failed_has_failed(runner, tmp_path, iris):
    pipe = chain(("picky", Picky("bad")), ("tree", DecisionTreeClassifier()))
    ran = run(runner, pipe, tmp_path, action="cross_validate", X=iris[0], y=iris[1], cv=3)
    assert not ran.finished.succeeded
    assert ran.finished.reason is Reason.USER_ERROR
    assert "ZeroDivisionError: in a bad mood" in ran.finished.message
    assert all(math.isnan(score) for score in ran.scores()[0])
    assert ran.result.best is None


def test_a_failing_scorer_gives_error_score(runner, tmp_path, iris):
    def moody(estimator, X, y):
        if estimator.max_depth == 2:
            raise LookupError("not today")
        return 1.0

    ran = run(
        runner, chain(("tree", DecisionTreeClassifier())), tmp_path,
        X=iris[0], y=iris[1], axes={"tree__max_depth": [2, 3]}, cv=3, scoring=moody,
    )  # fmt: skip
    assert ran.outcomes[0].error.type == "LookupError"
    assert np.isnan(ran.scores()[0]).all()
    assert ran.result.best == 1


def test_warnings_come_back_once_with_the_outcome(runner, tmp_path, iris):
    pipe = chain(("picky", Picky("loud")), ("tree", DecisionTreeClassifier()))
    ran = run(runner, pipe, tmp_path, action="cross_validate", X=iris[0], y=iris[1], cv=3)
    assert [(w.category, w.message) for w in ran.outcomes[0].warnings] == [("builtins:UserWarning", "this is loud")]


def test_who_writes_into_its_input_gets_a_copy_and_the_inputs_stay(runner, tmp_path, iris, caplog):
    caplog.set_level("INFO")
    X, y = iris
    pipe = Pipeline()
    spoiler = pipe.node("spoiler", Spoiler())
    pipe.node("after", KNeighborsClassifier(), after=spoiler)
    pipe.node("beside", KNeighborsClassifier())
    ran = run(runner, pipe, tmp_path, action="cross_validate", X=X, y=y, cv=3)
    spoilt = X.copy()
    spoilt[:, 0] = 0
    expected = [cross_val_score(KNeighborsClassifier(), rows, y, cv=3) for rows in (spoilt, X)]
    np.testing.assert_allclose(ran.scores(), expected, rtol=1e-12)
    assert "node 'spoiler' writes into its input; it got a copy" in caplog.text


def test_a_function_that_changes_a_frame_changes_it_for_nobody_else(runner, tmp_path):
    X, y = load_iris(return_X_y=True, as_frame=True)

    def add(X):
        X["more"] = 1.0
        return X

    pipe = Pipeline()
    pipe.node("after", GaussianNB(), after=pipe.node("add", add))
    pipe.node("beside", GaussianNB())
    ran = run(runner, pipe, tmp_path, action="cross_validate", X=X, y=y, cv=3)
    assert ran.finished.reason is None
    np.testing.assert_allclose(ran.scores()[1], cross_val_score(GaussianNB(), X, y, cv=3), rtol=1e-12)
    assert list(X.columns) == list(load_iris(as_frame=True).data.columns)


def test_a_state_that_cannot_be_pickled_is_an_error_of_its_candidate(runner, tmp_path, iris):
    class Holds(BaseEstimator, TransformerMixin):
        def fit(self, X, y=None):
            self.held_ = (number for number in range(3))
            return self

        def transform(self, X):
            return X

    ran = run(runner, chain(("holds", Holds())), tmp_path, X=iris[0])
    assert "pickle" in ran.outcomes[0].error.message
    assert ran.outcomes[0].artifact is None
    assert ran.finished.reason is Reason.USER_ERROR


# Jobs of which nothing can run


def loaded(nodes, **more):
    iris = "sklearn.datasets:load_iris"
    inputs = {"X": {"dataset": iris}, "y": {"dataset": iris, "part": "target"}}
    body = {"pipeline": {"nodes": nodes}, "action": "search", "inputs": inputs, "scoring": "accuracy", **more}
    return JobDefinition.model_validate(body)


TREE = {"name": "tree", "kind": "estimator", "import": "sklearn.tree:DecisionTreeClassifier"}


@pytest.mark.parametrize(
    ("definition", "reason", "words"),
    [
        (
            loaded([TREE], inputs={"X": {"dataset": "sklearn.datasets:load_iris", "part": "dta"}}),
            Reason.STAGE_IN_FAILED,
            "did you mean 'data'?",
        ),
        (loaded([{**TREE, "import": "no_such_module:Thing"}]), Reason.ENVIRONMENT_MISMATCH, "no_such_module"),
        (loaded([{**TREE, "params": {"depth": 3}}]), Reason.USER_ERROR, "'tree'"),
        (
            loaded([TREE], axes=[{"node": "tree", "param": "max_dept", "values": [1]}]),
            Reason.USER_ERROR,
            "did you mean 'max_depth'?",
        ),
        (loaded([TREE], cv=1000), Reason.USER_ERROR, "n_splits=1000"),
        (
            loaded([{**TREE, "import": "sklearn.preprocessing:StandardScaler"}], scoring=None),
            Reason.USER_ERROR,
            "has no score",
        ),
    ],
)
def test_what_cannot_run_is_refused_before_the_first_task(runner, tmp_path, definition, reason, words):
    ran = run_work(runner, work_of(definition, {}, tmp_path))
    assert not ran.finished.succeeded
    assert ran.finished.reason is reason
    assert words in ran.finished.message
    assert ran.events == []


# What only processes can suffer


class Deadly(BaseEstimator):
    """Ends its process where `how` says so, and leaves a mark in a folder for each time it was fitted."""

    def __init__(self, folder, how="not"):
        self.folder = folder
        self.how = how

    def fit(self, X, y):
        with (Path(self.folder) / f"{self.how}.marks").open("a") as marks:
            marks.write("x")
        if self.how == "exit":
            os._exit(3)
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        return self

    def score(self, X, y):
        return 1.0


def test_a_candidate_that_kills_its_process_gets_the_error_alone(apart, tmp_path, iris):
    axes = {"deadly__how": ["not", "exit", "fine", "kill", "well"]}
    ran = run(apart, chain(("deadly", Deadly(str(tmp_path)))), tmp_path, X=iris[0], y=iris[1], axes=axes, cv=2)
    assert [outcome.error and outcome.error.type for outcome in ran.outcomes] == [
        None, "WorkerDied", None, "WorkerDied", None,
    ]  # fmt: skip
    assert ran.finished.reason is Reason.SOME_CANDIDATES_FAILED
    assert ran.scores()[0] == [1.0, 1.0]
    assert len((tmp_path / "exit.marks").read_text()) == 2


def test_many_short_candidates_travel_together(apart, tmp_path, iris):
    X, y = iris
    depths = list(range(1, 101))
    pipe = chain(("scale", StandardScaler()), ("tree", DecisionTreeClassifier(random_state=0)))
    ran = run(apart, pipe, tmp_path, X=X, y=y, axes={"tree__max_depth": depths}, cv=5, refit=False)
    assert ran.result.stats.fits == {"scale": 5, "tree": 500}
    assert ran.result.stats.tasks < 150
    few = [cross_val_score(DecisionTreeClassifier(random_state=0, max_depth=d), X, y, cv=5) for d in (1, 3)]
    np.testing.assert_allclose([ran.scores()[0], ran.scores()[2]], few, rtol=1e-12)


@pytest.mark.parametrize("slow_first", [True, False])
def test_branches_start_when_their_inputs_are_there(apart, tmp_path, iris, slow_first):
    """The second step of the quick branch has begun before the first of the slow one may end."""
    begun = tmp_path / "begun"
    pipe = Pipeline()
    for branch in ("slow", "quick") if slow_first else ("quick", "slow"):
        if branch == "slow":
            slow = pipe.node("slow2", same_rows, after=pipe.node("slow1", after_file(begun)))
        else:
            quick = pipe.node("quick2", touching(begun), after=pipe.node("quick1", other_rows))
    pipe.node("nb", GaussianNB(), after=pipe.join("both", [slow, quick]))
    ran = run(apart, pipe, tmp_path / "job", X=iris[0], y=iris[1])
    assert ran.finished.succeeded, ran.finished


def same_rows(X):
    return X


def other_rows(X):
    return X + 1


def after_file(path):
    def waits(X):
        end = time.monotonic() + 30
        while not path.exists():
            assert time.monotonic() < end, "what need not wait for this waits for it"
            time.sleep(0.01)
        return X

    return waits


def touching(path):
    def touches(X):
        path.touch()
        return X

    return touches
