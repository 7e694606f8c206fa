"""What a pipeline means, at the engine: every action and option against scikit-learn in the same process.

tests/contracts/test_runner.py has what all runners must give alike; flaregate.testing has the random pipelines.
"""

import time
import warnings
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse, stats
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier, StackingClassifier, StackingRegressor
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import make_scorer, mean_absolute_error
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    KFold,
    LeaveOneGroupOut,
    RandomizedSearchCV,
    StratifiedKFold,
    cross_val_score,
    cross_validate,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import flaregate as fg
from flaregate.testing import InProcessClient
from flaregate.testing.submitting import chain
from worker_image.in_process import in_process, jobs_on
from worker_image.process_runner.nursery import Zygote
from worker_image.process_runner.runner import ProcessRunner

RTOL = 1e-12
ROWS = 150


@pytest.fixture
def client():
    with InProcessClient(in_process) as client:
        yield client


@pytest.fixture(scope="module")
def processes():
    """A client whose tasks run in processes of their own."""
    with (
        closing(Zygote.start()) as zygote,
        closing(ProcessRunner(zygote, 2)) as runner,
        InProcessClient(jobs_on(lambda: runner)) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def iris():
    return load_iris(return_X_y=True)


@pytest.fixture(scope="module")
def weights():
    return np.random.RandomState(0).uniform(0.2, 3.0, ROWS)


def same(given, expected):
    np.testing.assert_allclose(given, expected, rtol=RTOL, atol=RTOL)


def scores(result, scorer="score"):
    return [outcome.scores[scorer] for outcome in result.outcomes]


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


# Errors


class Moody(ClassifierMixin, BaseEstimator):
    """Fails where its mood says so."""

    def __init__(self, mood="good"):
        self.mood = mood

    def fit(self, X, y):
        if self.mood == "bad":
            raise ArithmeticError("in a bad mood")
        if self.mood == "loud":
            warnings.warn("this is loud", UserWarning, stacklevel=1)
        if self.mood == "slow":
            time.sleep(60)
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])


def test_error_score_raise_ends_the_job(client, iris):
    X, y = iris
    axes = {"moody__mood": ["good", "bad"]}
    job = client.submit(chain(("moody", Moody())), X=X, y=y, axes=axes, cv=3, error_score="raise")
    with pytest.raises(fg.JobFailed, match="in a bad mood"):
        job.result()


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


# Refit


def cheapest_of_the_good(table):
    """The smallest depth within one deviation of the best, as a callable `refit` of GridSearchCV."""
    means = np.asarray(table["mean_test_score"])
    best = np.argmax(means)
    enough = means[best] - np.asarray(table["std_test_score"])[best]
    good = [place for place, mean in enumerate(means) if mean >= enough]
    return min(good, key=lambda place: table["params"][place]["tree__max_depth"])


def test_refit_by_a_callable(client, iris):
    X, y = iris
    grid = {"tree__max_depth": [4, 3, 2, 1]}
    tree = DecisionTreeClassifier(random_state=0)
    result = client.submit(chain(("tree", tree)), X=X, y=y, axes=grid, cv=5, refit=cheapest_of_the_good).result()
    oracle = GridSearchCV(make_chain(("tree", tree)), grid, cv=5, refit=cheapest_of_the_good).fit(X, y)
    assert result.best.candidate == oracle.best_index_
    np.testing.assert_array_equal(result.best.pipeline().predict(X), oracle.predict(X))


def make_chain(*steps):
    from sklearn.pipeline import Pipeline

    return Pipeline(list(steps))


# Estimators of estimators


def test_nested_pipelines_and_column_transformers_with_axes_inside(client, iris):
    X, y = iris
    columns = ColumnTransformer([("scaled", StandardScaler(), [0, 1]), ("rest", "passthrough", [2, 3])])
    inner = make_pipeline(PCA(random_state=0), LogisticRegression(max_iter=500))
    axes = {"columns__scaled__with_std": [True, False], ("inner", "pca__n_components"): [1, 3]}
    result = client.submit(chain(("columns", columns), ("inner", inner)), X=X, y=y, axes=axes, cv=4).result()
    grid = {"columns__scaled__with_std": [True, False], "inner__pca__n_components": [1, 3]}
    oracle = GridSearchCV(make_chain(("columns", columns), ("inner", inner)), grid, cv=4).fit(X, y)
    same([outcome.mean for outcome in result.outcomes], oracle.cv_results_["mean_test_score"])
    same(result.best.pipeline().predict_proba(X), oracle.predict_proba(X))


def test_a_frame_keeps_its_names_on_the_way_into_a_column_transformer(client):
    X, y = load_iris(return_X_y=True, as_frame=True)
    columns = ColumnTransformer(
        [("low", PCA(1, random_state=0), list(X.columns[:2])), ("rest", "passthrough", [X.columns[3]])]
    )
    pipe = chain(("columns", columns), ("nb", GaussianNB()))
    result = client.submit(pipe, action="cross_validate", X=X, y=y, cv=4).result()
    same(scores(result)[0], cross_val_score(make_pipeline(columns, GaussianNB()), X, y, cv=4))


# Several source objects


def test_several_objects_are_fitted_each_by_itself(client, iris):
    X, y = iris
    objects = {"all": (X, y), "even": (X[::2], y[::2])}
    result = client.submit(chain(("scale", StandardScaler()), ("nb", GaussianNB())), objects=objects).result()
    assert [outcome.object for outcome in result.outcomes] == ["all", "even"]
    for outcome in result.outcomes:
        expected = make_pipeline(StandardScaler(), GaussianNB()).fit(*objects[outcome.object])
        same(outcome.pipeline().predict_proba(X), expected.predict_proba(X))


def test_a_search_over_objects_has_every_candidate_on_each(client, iris):
    X, y = iris
    objects = {"all": (X, y), "even": (X[::2], y[::2])}
    tree = DecisionTreeClassifier(random_state=0)
    result = client.submit(
        chain(("tree", tree)), objects=objects, axes={"tree__max_depth": [1, 2, 3]}, cv=3, refit=False
    ).result()
    for name, rows in objects.items():
        means = [outcome.mean for outcome in result.outcomes if outcome.object == name]
        same(means, GridSearchCV(tree, {"max_depth": [1, 2, 3]}, cv=3).fit(*rows).cv_results_["mean_test_score"])


# Stacking


@pytest.mark.parametrize(
    "options",
    [
        {"stack_cv": 3},
        {"stack_cv": StratifiedKFold(4, shuffle=True, random_state=0)},
        {"stack_method": "predict"},
        {"stack_method": "decision_function"},
    ],
    ids=str,
)
@pytest.mark.parametrize("load", [load_iris, load_breast_cancer])
def test_options_of_stacking_equal_those_of_stacking_classifier(client, load, options):
    X, y = load(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    below = [("svc", LinearSVC(random_state=0)), ("logistic", LogisticRegression(max_iter=500))]
    pipe = fg.Pipeline()
    both = pipe.join("both", [pipe.node(name, estimator, **options) for name, estimator in below])
    pipe.node("final", LogisticRegression(max_iter=500), after=both)
    result = client.submit(pipe, action="cross_validate", X=X, y=y, cv=3).result()
    given = {"cv": options.get("stack_cv"), "stack_method": options.get("stack_method", "auto")}
    oracle = StackingClassifier(below, LogisticRegression(max_iter=500), **given)
    same(scores(result)[0], cross_val_score(oracle, X, y, cv=3))


def test_prefit_stacking_uses_the_objects_as_they_are(client, iris):
    X, y = iris
    below = [("nb", GaussianNB().fit(X[::3], y[::3])), ("knn", KNeighborsClassifier().fit(X[::3], y[::3]))]
    pipe = fg.Pipeline()
    both = pipe.join("both", [pipe.node(name, estimator, stack_cv="prefit") for name, estimator in below])
    pipe.node("final", LogisticRegression(max_iter=500), after=both)
    result = client.submit(pipe, X=X, y=y).result()
    oracle = StackingClassifier(below, LogisticRegression(max_iter=500), cv="prefit").fit(X, y)
    same(result.best.pipeline().predict_proba(X), oracle.predict_proba(X))
    assert result.stats.fits == {"final": 1}


def test_stacking_of_regressors(client):
    X, y = load_diabetes(return_X_y=True)
    below = [("ridge", Ridge()), ("tree", DecisionTreeRegressor(max_depth=3, random_state=0))]
    pipe = fg.Pipeline()
    both = pipe.join("both", [pipe.node(name, estimator) for name, estimator in below])
    pipe.node("final", Ridge(), after=both)
    result = client.submit(pipe, action="cross_validate", X=X, y=y, cv=3).result()
    same(scores(result)[0], cross_val_score(StackingRegressor(below, Ridge()), X, y, cv=3))
    assert result.stats.inner_fits == {"ridge": 15, "tree": 15}


# Joins


def test_a_join_combines_in_the_order_of_its_parts(client, iris):
    X, y = iris
    pipe = fg.Pipeline()
    first, second = pipe.node("first", StandardScaler()), pipe.node("second", lambda X: X[:, 0])
    pipe.join("plain", [second, first])
    pipe.join("own", [second, first], combine=lambda parts: parts[0].reshape(-1, 1) - parts[1])
    plain, own = (outcome.pipeline().transform(X) for outcome in client.submit(pipe, X=X, y=y).result().outcomes)
    scaled = StandardScaler().fit_transform(X)
    same(plain, np.hstack([X[:, [0]], scaled]))
    same(own, X[:, [0]] - scaled)


# Strategies


def test_a_random_search_equals_randomized_search_cv(client, iris):
    X, y = iris
    nodes = [("pca", PCA(random_state=0)), ("svc", SVC())]
    space = {"pca__n_components": [1, 2, 3, 4], "svc__C": stats.loguniform(0.01, 100)}
    options = {"n_iter": 12, "random_state": 7, "cv": 3}
    result = client.submit(chain(*nodes), X=X, y=y, axes=space, strategy="random", **options).result()
    oracle = RandomizedSearchCV(make_chain(*nodes), space, **options).fit(X, y)
    assert [outcome.axes for outcome in result.outcomes] == oracle.cv_results_["params"]
    same([outcome.mean for outcome in result.outcomes], oracle.cv_results_["mean_test_score"])
    assert result.best.axes == oracle.best_params_
    np.testing.assert_array_equal(result.best.pipeline().predict(X), oracle.predict(X))


def test_a_random_search_over_alternatives_is_seeded(client, iris):
    X, y = iris
    pipe = fg.Pipeline()
    pipe.node("svc", SVC())
    pipe.node("tree", DecisionTreeClassifier(random_state=0))
    space = {"svc__C": stats.loguniform(0.01, 100), "tree__max_depth": [1, 2, 3]}
    options = {"axes": space, "strategy": "random", "n_iter": 6, "random_state": 0, "cv": 3, "refit": False}
    first, again = (client.submit(pipe, X=X, y=y, **options).result().outcomes for _ in "12")
    assert len(first) == 6
    assert [(outcome.path, outcome.axes) for outcome in first] == [(outcome.path, outcome.axes) for outcome in again]
    for outcome in first:
        values = {key.partition("__")[2]: value for key, value in outcome.axes.items()}
        leaf = SVC(**values) if outcome.path == ("svc",) else DecisionTreeClassifier(random_state=0, **values)
        same(outcome.scores["score"], cross_val_score(leaf, X, y, cv=3))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"factor": 2, "min_resources": "smallest"},
        {"factor": 2, "min_resources": 20, "max_resources": 80, "aggressive_elimination": True},
        {"resource": "forest__n_estimators", "max_resources": 16, "factor": 2, "min_resources": 2},
    ],
    ids=["default", "smallest", "aggressive", "parameter"],
)
def test_a_halving_search_equals_halving_grid_search_cv(client, options):
    X, y = load_breast_cancer(return_X_y=True)
    forest = RandomForestClassifier(5, random_state=0)
    grid = {"forest__max_depth": [1, 2, 3, None], "forest__max_features": [2, 5]}
    chosen = {"cv": 3, "random_state": 3, **options}
    result = client.submit(chain(("forest", forest)), X=X, y=y, axes=grid, strategy="halving", **chosen).result()
    oracle = HalvingGridSearchCV(make_chain(("forest", forest)), grid, **chosen).fit(X, y)
    table = oracle.cv_results_
    assert [outcome.iteration for outcome in result.outcomes] == list(table["iter"])
    assert [outcome.resources for outcome in result.outcomes] == list(table["n_resources"])
    grown = options.get("resource")
    expected = [{key: value for key, value in params.items() if key != grown} for params in table["params"]]
    assert [{k: v for k, v in outcome.axes.items() if k != grown} for outcome in result.outcomes] == expected
    same([outcome.mean for outcome in result.outcomes], table["mean_test_score"])
    assert result.outcomes.index(result.best) == oracle.best_index_
    np.testing.assert_array_equal(result.best.pipeline().predict(X), oracle.predict(X))


# A fitted pipeline as input


@pytest.mark.parametrize("action", ["predict", "predict_proba", "transform"])
@pytest.mark.parametrize("origin", ["outcome", "local"])
def test_what_a_fitted_pipeline_gives(client, iris, action, origin):
    X, y = iris
    last = StandardScaler() if action == "transform" else GaussianNB()
    expected = make_pipeline(MinMaxScaler(), last).fit(X, y)
    model = client.submit(chain(("low", MinMaxScaler()), ("last", last)), X=X, y=y).result().best
    result = client.submit(model if origin == "outcome" else expected, action=action, X=X[:40]).result()
    (given,) = result.outputs
    same(given, getattr(expected, action)(X[:40]))


def test_a_fitted_pipeline_on_several_objects(client, iris):
    X, y = iris
    objects = {"a": X[:10], "b": sparse.csr_matrix(X[10:30]).toarray()}
    model = GaussianNB().fit(X, y)
    result = client.submit(model, action="predict", objects=objects).result()
    assert [outcome.object for outcome in result.outcomes] == ["a", "b"]
    for given, rows in zip(result.outputs, objects.values(), strict=True):
        np.testing.assert_array_equal(given, model.predict(rows))


def test_a_fitted_pipeline_is_scored(client, iris):
    X, y = iris
    model = GaussianNB().fit(X[::2], y[::2])
    (plain,) = client.submit(model, action="score", X=X, y=y).result().outputs
    assert plain == model.score(X, y)
    (several,) = client.submit(model, action="score", X=X, y=y, scoring=["accuracy", "neg_log_loss"]).result().outputs
    assert list(several) == ["accuracy", "neg_log_loss"]
    assert several["accuracy"] == model.score(X, y)


def test_large_answers_are_artifacts_and_come_back_whole(client, iris):
    X = np.tile(iris[0], (200, 1))
    model = StandardScaler().fit(X)
    job = client.submit(model, action="transform", X=X)
    assert job.ran.artifacts
    same(job.result().outputs[0], model.transform(X))


# Maps


def doubled(block):
    return [2 * item for item in block] if isinstance(block, list) else 2 * block


def slow_rows(block):
    time.sleep(0.0002 * len(block))
    return block.sum(axis=1)


@pytest.mark.parametrize("blocks", [1, 3, 7, 150])
def test_blocks_are_cut_as_array_split_cuts_and_come_in_order(client, iris, blocks):
    outputs = client.map(doubled, iris[0], blocks=blocks).result().outputs
    assert [len(block) for block in outputs] == [len(block) for block in np.array_split(iris[0], blocks)]
    np.testing.assert_array_equal(outputs.concat(), 2 * iris[0])


def test_without_blocks_their_size_adapts(processes):
    X = np.random.RandomState(0).normal(size=(5000, 3))
    outputs = processes.map(slow_rows, X).result().outputs
    assert 1 < len(outputs) < 500
    same(outputs.concat(), X.sum(axis=1))


def test_a_list_of_items_is_mapped(client):
    items = [f"item {number}" for number in range(10)]
    outputs = client.map(lambda block: [item.upper() for item in block], items, blocks=3).result().outputs
    assert [len(block) for block in outputs] == [4, 3, 3]
    assert outputs.concat() == [item.upper() for item in items]


def test_a_method_of_a_fitted_pipeline_is_mapped(client, iris):
    X, y = iris
    model = client.submit(chain(("nb", GaussianNB())), X=X, y=y).result().best
    outputs = client.map(model, X, method="predict_proba", blocks=4).result().outputs
    same(outputs.concat(), GaussianNB().fit(X, y).predict_proba(X))


def test_a_block_that_fails_is_named_and_the_others_are_there(client, iris):
    def picky(block):
        if block[0, 0] == iris[0][50, 0]:
            raise LookupError("not this block")
        return block

    result = client.map(picky, iris[0], blocks=3).result()
    with pytest.raises(fg.JobFailed, match="block 1"):
        _ = result.outputs
    assert [outcome.error is None for outcome in result.outcomes] == [True, False, True]
    np.testing.assert_array_equal(result.outcomes[2].output, iris[0][100:])


# Sweeps


def tune(task, seed, lr):
    return {"acc": len(task) + seed * lr, "loss": lr / (seed + 1)}


def test_a_sweep_is_every_cell_with_a_table_of_groups(client):
    axes = {"task": ["a", "bb"], "seed": range(3), "lr": [0.5, 1.0]}
    result = client.sweep(tune, axes=axes, best="max:acc").result()
    cells = [(task, seed, lr) for task in axes["task"] for seed in axes["seed"] for lr in axes["lr"]]
    found = {tuple(outcome.axes[name] for name in axes): outcome.metrics for outcome in result.outcomes}
    assert found == {cell: tune(*cell) for cell in cells}
    table = result.table(group_by=["task", "lr"])
    assert len(table) == 4
    row = table[(table["task"] == "bb") & (table["lr"] == 1.0)].iloc[0]
    accs = [tune("bb", seed, 1.0)["acc"] for seed in range(3)]
    same([row["acc_mean"], row["acc_std"]], [np.mean(accs), np.std(accs)])
    assert result.best.axes == {"task": "bb", "seed": 2, "lr": 1.0}


def base(size):
    return np.arange(size)


def headed(base, factor):
    return {"sum": float(base.sum() * factor)}


def test_cells_get_what_is_upstream_by_its_nodes_name(client):
    pipe = fg.Pipeline()
    pipe.node("head", headed, after=pipe.node("base", base))
    result = client.submit(pipe, action="sweep", axes={"base__size": [3, 5], "head__factor": [1, 2]}).result()
    assert [outcome.metrics["sum"] for outcome in result.outcomes] == [3.0, 6.0, 10.0, 20.0]


def test_what_is_no_dict_of_numbers_is_the_output(client):
    result = client.sweep(lambda n: [n] * n, axes={"n": [1, 3]}).result()
    assert result.outputs == [[1], [3, 3, 3]]
    assert [outcome.metrics for outcome in result.outcomes] == [None, None]


# Times and tries


def test_a_task_that_takes_too_long_is_an_error_of_its_candidate(processes, iris):
    X, y = iris
    pipe = fg.Pipeline()
    pipe.node("moody", Moody(), timeout=1.0)
    axes = {"moody__mood": ["good", "slow", "fine"]}
    start = time.monotonic()
    result = processes.submit(pipe, X=X, y=y, axes=axes, cv=2, refit=False).result()
    assert time.monotonic() - start < 30
    assert [outcome.error is None for outcome in result.outcomes] == [True, False, True]
    assert "1" in result.outcomes[1].error.message


class Unsteady(TransformerMixin, BaseEstimator):
    """Ends its process the first time."""

    def __init__(self, folder):
        self.folder = folder

    def fit(self, X, y=None):
        import os

        mark = Path(self.folder) / "been here"
        if not mark.exists():
            mark.touch()
            os._exit(1)
        return self

    def transform(self, X):
        return X

    def score(self, X, y=None):
        return 1.0


def test_retries_repeat_what_ended_its_process(processes, iris, tmp_path):
    pipe = fg.Pipeline()
    pipe.node("unsteady", Unsteady(str(tmp_path)), retries=2)
    result = processes.submit(
        pipe, action="cross_validate", X=iris[0], y=iris[1], cv=[(range(100), range(100, 150))]
    ).result()
    assert result.outcomes[0].error is None
    assert scores(result)[0] == [1.0]


# Single nodes and equal pipelines


def test_a_join_of_branches_equals_feature_union_under_a_search(client, iris):
    X, y = iris
    pipe = fg.Pipeline()
    parts = [pipe.node("pca", PCA(1, random_state=0)), pipe.node("best", SelectKBest(k=1))]
    pipe.node("svc", SVC(), after=pipe.join("both", parts))
    result = client.submit(pipe, X=X, y=y, axes={"pca__n_components": [1, 2], "best__k": [1, 3]}, cv=3).result()
    union = FeatureUnion([("pca", PCA(1, random_state=0)), ("best", SelectKBest(k=1))])
    grid = {"both__pca__n_components": [1, 2], "both__best__k": [1, 3]}
    oracle = GridSearchCV(make_chain(("both", union), ("svc", SVC())), grid, cv=3).fit(X, y)
    found = {tuple(sorted(outcome.axes.items())): outcome.mean for outcome in result.outcomes}
    for params, mean in zip(oracle.cv_results_["params"], oracle.cv_results_["mean_test_score"], strict=True):
        same(found[tuple(sorted((key.removeprefix("both__"), value) for key, value in params.items()))], mean)
    np.testing.assert_array_equal(result.best.pipeline().predict(X), oracle.predict(X))
