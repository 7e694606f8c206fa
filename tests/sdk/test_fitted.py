"""Joins and stacked outputs against scikit-learn; fitted pipelines: their file, trust, damage, versions."""

import warnings
import zipfile

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import clone, is_classifier
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import StackingClassifier
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import check_scoring
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from flaregate import fitted, fitted_file, parts, versions
from flaregate.errors import NoArtifact, Refused
from flaregate.fitted import FittedNode, FittedPipeline

X, y = load_iris(return_X_y=True)


def diamond():
    scale = StandardScaler().fit(X)
    Z = scale.transform(X)
    pca, best = PCA(2).fit(Z), SelectKBest(k=1).fit(Z, y)
    both = np.hstack([pca.transform(Z), best.transform(Z)])
    return (
        FittedNode("scale", "estimator", (), scale),
        FittedNode("pca", "estimator", ("scale",), pca),
        FittedNode("best", "estimator", ("scale",), best),
        FittedNode("both", "join", ("pca", "best")),
        FittedNode("tree", "estimator", ("both",), DecisionTreeClassifier(random_state=0).fit(both, y)),
    )


def oracle():
    union = FeatureUnion([("pca", PCA(2)), ("best", SelectKBest(k=1))])
    return make_pipeline(StandardScaler(), union, DecisionTreeClassifier(random_state=0)).fit(X, y)


def test_a_written_pipeline_is_an_estimator_that_equals_scikit_learn(tmp_path):
    fitted.write(tmp_path / "p.zip", diamond())
    model = fitted.load(tmp_path / "p.zip", trust=True)
    np.testing.assert_array_equal(model.predict(X), oracle().predict(X))
    np.testing.assert_array_equal(model.predict_proba(X), oracle().predict_proba(X))
    assert model.score(X, y) == oracle().score(X, y)
    assert check_scoring(model, "f1_macro")(model, X, y) == check_scoring(oracle(), "f1_macro")(oracle(), X, y)
    assert model.classes_.tolist() == [0, 1, 2]
    assert model.n_features_in_ == 4
    assert list(model.named_nodes) == ["scale", "pca", "best", "both", "tree"]
    assert is_classifier(model)
    assert clone(model) is model
    assert not hasattr(model, "decision_function")
    assert not hasattr(model, "transform")
    with pytest.raises(NoArtifact, match="'both' joins"):
        model.to_sklearn()


def test_a_chain_becomes_a_scikit_learn_pipeline():
    scale = StandardScaler().fit(X)
    double = FittedNode("double", "function", ("scale",), lambda Z: Z * 2)
    tree = DecisionTreeClassifier(random_state=0).fit(2 * scale.transform(X), y)
    model = FittedPipeline(
        [FittedNode("scale", "estimator", (), scale), double, FittedNode("t", "estimator", ("double",), tree)]
    )
    np.testing.assert_array_equal(model.to_sklearn().predict(X), model.predict(X))


def test_a_transformer_a_function_or_a_join_may_be_last():
    scale = FittedNode("scale", "estimator", (), StandardScaler().fit(X))
    again = FittedNode("again", "function", (), np.negative)
    both = FittedNode("both", "join", ("scale", "again"))
    np.testing.assert_array_equal(FittedPipeline([scale]).transform(X), scale.state.transform(X))
    assert FittedPipeline([scale, again, both]).transform(X).shape == (150, 8)
    custom = FittedNode("sum", "join", ("scale", "again"), sum)
    np.testing.assert_array_equal(FittedPipeline([scale, again, custom]).transform(X), scale.state.transform(X) - X)


def test_a_stack_equals_stacking_classifier():
    stack = StackingClassifier(
        [("lr", LogisticRegression(max_iter=1000)), ("ridge", RidgeClassifier())],
        final_estimator=LogisticRegression(),
        cv=3,
    ).fit(X, y)
    nodes = [
        FittedNode("lr", "estimator", (), stack.estimators_[0]),
        FittedNode("ridge", "estimator", (), stack.estimators_[1]),
        FittedNode("both", "join", ("lr", "ridge")),
        FittedNode("last", "estimator", ("both",), stack.final_estimator_),
    ]
    np.testing.assert_array_equal(FittedPipeline(nodes).predict_proba(X), stack.predict_proba(X))
    with pytest.raises(NoArtifact, match="'lr' stacks"):
        FittedPipeline([nodes[0], FittedNode("x", "estimator", ("lr",), stack.final_estimator_)]).to_sklearn()


@pytest.mark.parametrize("labels", [np.array(["a", "b"]), np.array([3, 7])])
def test_stacked_columns_of_binary_classifiers(labels):
    target = labels[(y == 0).astype(int)]
    for model in (LogisticRegression(), SVC(), _OnlyPredicts()):
        stack = StackingClassifier([("m", model)], final_estimator=LogisticRegression(), cv=2).fit(X, target)
        ours = parts.passed_on(clone(model).fit(X, target), X)
        np.testing.assert_allclose(ours, stack.transform(X))


class _OnlyPredicts(DecisionTreeClassifier):
    predict_proba = property()


def test_joins_equal_feature_union():
    dense, sparse = X[:, :2], sp.csc_matrix(X[:, 2:])
    joined = parts.combine([dense, sparse], ["a", "b"])
    assert sp.issparse(joined)
    assert joined.format == "csr"
    np.testing.assert_array_equal(joined.toarray(), X)
    np.testing.assert_array_equal(parts.combine([dense, y], ["a", "b"]), np.column_stack([dense, y]))
    frames = [pd.DataFrame({"a": [1, 2]}), pd.Series([3.0, 4.0], name="b")]
    assert parts.combine(frames, ["a", "b"]).columns.tolist() == ["a", "b"]
    assert type(parts.combine([frames[0], np.ones(2)], ["a", "b"])) is np.ndarray


def test_joins_of_unequal_length_are_refused_with_both_names():
    with pytest.raises(ValueError, match="'pca' gives 2, 'kbest' gives 3"):
        parts.combine([np.ones((2, 1)), np.ones((3, 1))], ["pca", "kbest"])


class Loud:
    def __reduce__(self):
        return shout, ()


def shout():
    warnings.warn("unpickled", stacklevel=1)
    return np.negative


def test_loading_needs_trust_and_unpickles_nothing_without(tmp_path):
    fitted.write(tmp_path / "p.zip", [FittedNode("loud", "function", (), Loud())])
    with pytest.raises(Refused, match="trust=True"):
        fitted.load(tmp_path / "p.zip")
    assert [node.name for node in fitted_file.manifest_of(tmp_path / "p.zip").nodes] == ["loud"]
    with pytest.warns(UserWarning, match="unpickled"):
        fitted.load(tmp_path / "p.zip", trust=True)


def damaged(path, change):
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as file:
        for name, data in members.items():
            file.writestr(name, data)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.__setitem__("states/1.pkl", m["states/1.pkl"][:-1] + b"x"), "'pca' is not what was written"),
        (lambda m: m.__setitem__("states/1.pkl", m["states/1.pkl"] + b"x"), "'pca' is not what was written"),
        (lambda m: m.pop("states/0.pkl"), "'scale' is missing"),
        (lambda m: m.pop("manifest.json"), "manifest"),
        (lambda m: m.__setitem__("manifest.json", b"{}"), "format"),
        (lambda m: m.__setitem__("manifest.json", b"[1"), "manifest"),
    ],
)
def test_damage_is_named_before_anything_is_unpickled(change, words, tmp_path):
    fitted.write(tmp_path / "p.zip", diamond())
    damaged(tmp_path / "p.zip", change)
    with pytest.raises((fitted_file.CorruptFile, Refused), match=words):
        fitted.load(tmp_path / "p.zip", trust=True)


def test_a_cut_file_is_corrupt(tmp_path):
    fitted.write(tmp_path / "p.zip", diamond())
    data = (tmp_path / "p.zip").read_bytes()
    (tmp_path / "p.zip").write_bytes(data[: len(data) // 2])
    with pytest.raises(fitted_file.CorruptFile):
        fitted.load(tmp_path / "p.zip", trust=True)


def test_versions_that_cannot_be_are_refused_and_doubtful_ones_warned_of(tmp_path):
    fitted.write(tmp_path / "p.zip", diamond())
    here = versions.here()
    with pytest.raises(Refused, match="python") as caught:
        fitted_file.read(tmp_path / "p.zip", trust=True, found={**here, "python": "3.9.1"})
    assert caught.value.code == "environment_mismatch"
    with pytest.raises(Refused, match="numpy"):
        fitted_file.read(tmp_path / "p.zip", trust=True, found={**here, "numpy": "99.0"})
    with pytest.warns(fitted_file.VersionWarning, match="scikit-learn"):
        fitted_file.read(tmp_path / "p.zip", trust=True, found={**here, "scikit-learn": "1.0.2"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted_file.read(tmp_path / "p.zip", trust=True, found=here)


def test_an_open_file_will_do(tmp_path):
    with (tmp_path / "p.zip").open("w+b") as file:
        fitted.write(file, diamond())
        file.seek(0)
        assert fitted.load(file, trust=True).predict(X).shape == (150,)
