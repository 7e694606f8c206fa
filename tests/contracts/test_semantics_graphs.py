"""Estimators of estimators, several source objects, stacking and joins, against scikit-learn in the same process."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import StackingClassifier, StackingRegressor
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedKFold,
    cross_val_score,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.pipeline import Pipeline as Chain
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import flaregate as fg
from flaregate.testing.submitting import chain
from tests.contracts.semantics import same, scores

# Estimators of estimators


def test_nested_pipelines_and_column_transformers_with_axes_inside(client, iris):
    X, y = iris
    columns = ColumnTransformer([("scaled", StandardScaler(), [0, 1]), ("rest", "passthrough", [2, 3])])
    inner = make_pipeline(PCA(random_state=0), LogisticRegression(max_iter=500))
    axes = {"columns__scaled__with_std": [True, False], ("inner", "pca__n_components"): [1, 3]}
    result = client.submit(chain(("columns", columns), ("inner", inner)), X=X, y=y, axes=axes, cv=4).result()
    grid = {"columns__scaled__with_std": [True, False], "inner__pca__n_components": [1, 3]}
    oracle = GridSearchCV(Chain([("columns", columns), ("inner", inner)]), grid, cv=4).fit(X, y)
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


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("scoring", [None, lambda model, X, y: float(np.mean(model.predict(X) == y))])
def test_columns_of_one_name_in_several_parts_of_a_join_are_told_apart(client, library, scoring):
    X, y = load_iris(return_X_y=True, as_frame=True)
    X.columns = ["a", "b", "c", "name"]
    one, other = StandardScaler().set_output(transform=library), PCA(2, random_state=0).set_output(transform=library)
    pipe = fg.Pipeline()
    parts = [pipe.node("one", one), pipe.node("same", clone(one)), pipe.node("pca", other)]
    pipe.node("logistic", LogisticRegression(max_iter=500), after=pipe.join("all", parts))
    model = client.submit(pipe, X=X, y=y).result().best.pipeline()
    expected = [*(f"{part}__{column}" for part in ("one", "same") for column in X.columns), "pca0", "pca1"]
    assert list(model.named_nodes["logistic"].feature_names_in_) == expected
    union = make_pipeline(FeatureUnion([("one", one), ("same", one), ("pca", other)]), LogisticRegression(max_iter=500))
    same(model.predict_proba(X), clone(union).fit(X, y).predict_proba(X))
    result = client.submit(pipe, action="cross_validate", X=X, y=y, cv=3, scoring=scoring).result()
    same(scores(result)[0], cross_val_score(union, X, y, cv=3))


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


def test_a_join_of_branches_equals_feature_union_under_a_search(client, iris):
    X, y = iris
    pipe = fg.Pipeline()
    parts = [pipe.node("pca", PCA(1, random_state=0)), pipe.node("best", SelectKBest(k=1))]
    pipe.node("svc", SVC(), after=pipe.join("both", parts))
    result = client.submit(pipe, X=X, y=y, axes={"pca__n_components": [1, 2], "best__k": [1, 3]}, cv=3).result()
    union = FeatureUnion([("pca", PCA(1, random_state=0)), ("best", SelectKBest(k=1))])
    grid = {"both__pca__n_components": [1, 2], "both__best__k": [1, 3]}
    oracle = GridSearchCV(Chain([("both", union), ("svc", SVC())]), grid, cv=3).fit(X, y)
    found = {tuple(sorted(outcome.axes.items())): outcome.mean for outcome in result.outcomes}
    for params, mean in zip(oracle.cv_results_["params"], oracle.cv_results_["mean_test_score"], strict=True):
        same(found[tuple(sorted((key.removeprefix("both__"), value) for key, value in params.items()))], mean)
    np.testing.assert_array_equal(result.best.pipeline().predict(X), oracle.predict(X))
