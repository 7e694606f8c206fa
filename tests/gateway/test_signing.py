"""Nodes that are named by path with estimators in them: what they can do, what they lack, and what they give."""

import json
import re
from itertools import pairwise

import pytest
from sklearn.base import BaseEstimator
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import BaggingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_selection import RFE, RFECV, SelectKBest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    StratifiedKFold,
    cross_val_score,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from flaregate.encoding import encode_node
from flaregate.signatures import estimator_signature
from flaregate.submission import Submission
from flaregate.testing import InProcessClient
from gateway.jobs.admission import parse
from gateway.jobs.errors import InvalidDefinition
from tests.conftest import ROOT
from worker_image.in_process import in_process

RFE_PATH, PIPELINE = "sklearn.feature_selection:RFE", "sklearn.pipeline:Pipeline"
INPUTS = {name: {"dataset": "sklearn.datasets:load_iris", "part": name} for name in ("data", "target")}
INPUTS = {"X": INPUTS["data"], "y": INPUTS["target"]}


def node(path, **params):
    return {"$node": {"import": path, "params": params}}


LOGISTIC = node("sklearn.linear_model:LogisticRegression", max_iter=500)
SCALER, SVM = node("sklearn.preprocessing:StandardScaler"), node("sklearn.svm:SVC")


def parsed(*nodes, **more):
    written = [{"kind": "estimator", **one} for one in nodes]
    edges = [[one["name"], other["name"]] for one, other in pairwise(written)]
    body = {"pipeline": {"nodes": written, "edges": edges}, "inputs": INPUTS, "action": "cross_validate", **more}
    return parse(json.dumps(body).encode())


@pytest.mark.parametrize(
    "estimator",
    [
        RFE(LogisticRegression(random_state=0)),
        RFE(LinearRegression()),
        RFECV(LogisticRegression()),
        GridSearchCV(SVC(random_state=0), {"C": [1, 2]}),
        RandomizedSearchCV(SVC(random_state=0), {"C": [1, 2]}),
        RandomizedSearchCV(SVC(random_state=0), {"C": [1, 2]}, random_state=0),
        HalvingGridSearchCV(LinearRegression(), {"fit_intercept": [True, False]}, random_state=0),
        GridSearchCV(Pipeline([("rfe", RFE(DecisionTreeClassifier())), ("svc", SVC())]), {"svc__C": [1]}),
        Pipeline([("scale", StandardScaler()), ("svc", SVC(random_state=0))]),
        Pipeline([("scale", StandardScaler()), ("means", KMeans(random_state=0))]),
        Pipeline([("nothing", "passthrough"), ("pca", PCA())]),
        Pipeline([("scale", MinMaxScaler()), ("nothing", "passthrough")]),
        BaggingClassifier(DecisionTreeClassifier(), random_state=0),
    ],
    ids=lambda one: type(one).__name__,
)
def test_the_signature_is_that_of_the_object(estimator):
    written = encode_node("one", estimator, lambda item: item.sha256).model_dump(mode="json", by_alias=True)
    kept = {name: written[name] for name in ("name", "import", "params")}
    scoring = "adjusted_rand_score"  # whatever there is can have it
    (made,) = parsed(kept, scoring=scoring, cv={"import": "sklearn.model_selection:KFold"}).pipeline.nodes
    own = estimator_signature(estimator)
    assert set(made.signature.params) == set(own.params)
    assert set(made.signature.abilities) == set(own.abilities)
    assert (made.signature.type, made.signature.draws, made.signature.open) == (own.type, own.draws, own.open)
    assert made.code.startswith("scikit-learn==")


def test_what_holds_an_estimator_that_nobody_knows_is_left_to_the_head():
    (made,) = parsed(
        {"name": "rfe", "import": RFE_PATH, "params": {"estimator": node("other.trees:Tree")}}
    ).pipeline.nodes
    assert (made.signature, made.code) == (None, None)
    params = {"steps": [["own", node("other.trees:Tree")], ["svc", SVM]]}
    (made,) = parsed({"name": "pipe", "import": PIPELINE, "params": params}).pipeline.nodes
    assert (made.signature.type, made.signature.open, made.signature.draws) == ("classifier", True, True)


@pytest.mark.parametrize(
    ("path", "params", "pointer", "rule", "words"),
    [
        (RFE_PATH, {}, "", "missing_param", r"node 'n': sklearn.feature_selection:RFE needs .*'estimator'.*\$node"),
        ("sklearn.model_selection:GridSearchCV", {"estimator": SVM}, "", "missing_param", "needs .*'param_grid'"),
        ("sklearn.compose:ColumnTransformer", {}, "", "missing_param", r"as \[\[.*, columns\], …\]"),
        (
            RFE_PATH,
            {"estimator": "SVC"},
            "/estimator",
            "no_estimator",
            r"'SVC', which is no estimator; write it as .*\$node",
        ),
        (RFE_PATH, {"estimator": SVM["$node"]}, "/estimator", "no_estimator", r"which is no estimator"),
        (PIPELINE, {"steps": []}, "/steps", "no_estimator", "lists no named estimators"),
        (PIPELINE, {"steps": [SVM]}, "/steps", "no_estimator", "lists no named estimators"),
        (
            PIPELINE,
            {"steps": {"$tuple": [["a", SCALER], {"$tuple": ["a", SVM]}]}},
            "/steps/1/0",
            "duplicate_step",
            "'a'",
        ),
        (PIPELINE, {"steps": [["a", SVM], ["b", SVM]]}, "/steps/0/1", "nothing_to_pass_on", "'a' cannot transform"),
        (
            RFE_PATH,
            {"estimator": node("sklearn.svm:SVC", gama=1)},
            "/estimator/$node/params/gama",
            "unknown_param",
            "SVC has no parameter 'gama'; did you mean 'gamma'",
        ),
        (
            RFE_PATH,
            {"estimator": node(PIPELINE, steps=[["rfe", node(RFE_PATH)]])},
            "/estimator/$node/params/steps/0/1/$node/params",
            "missing_param",
            "needs the parameter 'estimator'",
        ),
    ],
)
def test_what_is_lacking_is_told_with_its_place(path, params, pointer, rule, words):
    with pytest.raises(InvalidDefinition, match=words) as caught:
        parsed({"name": "n", "import": path, "params": params}, scoring="accuracy")
    found = caught.value.errors[0]
    assert (found.pointer, found.rule) == (f"/pipeline/nodes/0/params{pointer}", rule)


def test_axes_reach_into_what_a_node_holds_and_their_estimators_are_looked_at():
    rfe = {"name": "rfe", "import": RFE_PATH, "params": {"estimator": LOGISTIC}}
    search = {"action": "search", "scoring": "accuracy"}
    parsed(rfe, axes=[{"node": "rfe", "param": "estimator__C", "values": [1, 2]}], **search)
    with pytest.raises(InvalidDefinition, match="no parameter 'estimator__c'; did you mean 'estimator__C'"):
        parsed(rfe, axes=[{"node": "rfe", "param": "estimator__c", "values": [1, 2]}], **search)
    with pytest.raises(InvalidDefinition, match=r"the axis 'rfe', 'estimator': .*needs the parameter 'estimator'"):
        parsed(rfe, axes=[{"node": "rfe", "param": "estimator", "values": [LOGISTIC, node(RFE_PATH)]}], **search)


def ran(definition):
    with InProcessClient(in_process) as client:
        return client.send(Submission(definition)).result()


def test_the_numbers_of_what_is_written_by_hand_are_scikit_learns():
    steps = {
        "steps": [["scale", SCALER], ["best", node("sklearn.feature_selection:SelectKBest", k=2)], ["log", LOGISTIC]]
    }
    rfe = {"estimator": LOGISTIC, "n_features_to_select": 3}
    definition = parsed(
        {"name": "rfe", "import": RFE_PATH, "params": rfe}, {"name": "pipe", "import": PIPELINE, "params": steps}
    )
    assert definition.pipeline.nodes[1].signature.type == "classifier"
    X, y = load_iris(return_X_y=True)
    logistic = LogisticRegression(max_iter=500)
    inner = Pipeline([("scale", StandardScaler()), ("best", SelectKBest(k=2)), ("log", logistic)])
    model = make_pipeline(RFE(logistic, n_features_to_select=3), inner)
    (outcome,) = ran(definition).outcomes
    assert list(outcome.scores["score"]) == list(cross_val_score(model, X, y, cv=StratifiedKFold(5)))


def test_the_example_of_the_page_runs():
    page = (ROOT / "docs/reference/definitions.md").read_text()
    (example,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    assert len(ran(parse(example.encode())).outcomes) == 4


def test_a_search_over_what_is_in_a_node_gives_scikit_learns_numbers():
    inner = node("sklearn.model_selection:GridSearchCV", estimator=SVM, param_grid={"C": [0.1, 1.0]}, cv=3)
    params = {"steps": [["scale", SCALER], ["search", inner]]}
    axes = [{"node": "pipe", "param": "search__estimator__kernel", "values": ["linear", "rbf"]}]
    given = {"axes": axes, "action": "search", "refit": False, "cv": 3}
    result = ran(parsed({"name": "pipe", "import": PIPELINE, "params": params}, **given))
    X, y = load_iris(return_X_y=True)
    model: BaseEstimator = make_pipeline(StandardScaler(), GridSearchCV(SVC(), {"C": [0.1, 1.0]}, cv=3))
    grid = {"gridsearchcv__estimator__kernel": ["linear", "rbf"]}
    expected = GridSearchCV(model, grid, cv=3, refit=False).fit(X, y).cv_results_["mean_test_score"]
    assert [outcome.mean for outcome in result.outcomes] == list(expected)
