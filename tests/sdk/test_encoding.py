"""What is encoded decodes to the same; what would not is sent as a payload."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.ensemble import StackingClassifier
from sklearn.feature_selection import SelectKBest, f_regression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import make_scorer, mean_squared_error
from sklearn.model_selection import KFold, LeaveOneOut, RepeatedKFold, StratifiedKFold, TimeSeriesSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler
from sklearn.svm import SVC
from sklearn.utils import all_estimators
from sklearn.utils._test_common.instance_generator import _construct_instances

from flaregate.code_digest import code_digest
from flaregate.encoding import build, encode_code, encode_node
from flaregate.errors import Refused
from flaregate.values import decode_value, encode_value, same
from flaregate_wire.definitions import EstimatorNode
from flaregate_wire.values import blobs_of, check_value


class Blobs(dict):
    def stage(self, item):
        self[item.sha256] = item.read()
        return item.sha256


@pytest.fixture
def blobs():
    return Blobs()


def again(value, blobs):
    return decode_value(check_value(encode_value(value, blobs.stage)), blobs.__getitem__)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.floats().map(np.float64),
    st.integers(-100, 100).map(np.int32),
    st.floats(width=32).map(np.float32),
    st.booleans().map(np.bool_),
    st.sampled_from([math.inf, -math.inf, len, np.log1p, f_regression, SVC, dict]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.one_of(st.text(max_size=3), st.integers(), st.just("$tuple")), inner, max_size=3),
    ),
    max_leaves=8,
)


@given(VALUES)
def test_values_keep_type_and_content(value):
    assert same(again(value, Blobs()), value)


@pytest.mark.parametrize("value", [{1, 2}, b"x", 1 + 2j, slice(1, 3), np.arange(3), np.zeros((0, 2)), np.array(["a"])])
def test_other_values_travel_as_staged_bytes(value, blobs):
    assert same(again(value, blobs), value)
    assert len(blobs) == 1


with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # of deprecated estimators, which travel as well
    INSTANCES = [
        pytest.param(instance, id=f"{name}-{number}")
        for name, cls in all_estimators()
        if name != "FrozenEstimator"
        for number, instance in enumerate(_construct_instances(cls))
    ]


@pytest.mark.parametrize("estimator", INSTANCES)
def test_every_estimator_of_scikit_learn_round_trips_declaratively(estimator, blobs):
    node = encode_node("n", estimator, blobs.stage)
    assert node.import_ is not None
    assert node.code.startswith("scikit-learn==")
    read = EstimatorNode.model_validate_json(node.model_dump_json(by_alias=True))
    assert read == node
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        assert same(build(read, blobs.__getitem__), estimator)


def test_nested_estimators_stay_readable(blobs):
    estimator = make_pipeline(
        make_column_transformer((MinMaxScaler((0, 2)), [0]), (FunctionTransformer(np.log1p), slice(1, 3))),
        SelectKBest(f_regression, k=np.int64(2)),
        StackingClassifier([("svc", SVC(C=math.inf)), ("lr", LogisticRegression(class_weight={0: 1, 1: 2.5}))]),
    )
    node = encode_node("n", estimator, blobs.stage)
    assert same(build(node, blobs.__getitem__), estimator) or node.payload
    plain = make_pipeline(MinMaxScaler((0, 2)), SelectKBest(f_regression, k=np.int64(2)))
    node = encode_node("n", plain, blobs.stage)
    assert node.params["steps"][0]["$tuple"][1]["$node"] == {
        "import": "sklearn.preprocessing:MinMaxScaler",
        "params": {"feature_range": {"$tuple": [0, 2]}},
    }


def local():
    class Mine(BaseEstimator):
        def __init__(self, k=1):
            self.k = k

        def fit(self, X, y=None):
            return self

    return Mine(3)


@pytest.mark.parametrize(
    "estimator",
    [
        StandardScaler().fit([[1.0], [2.0]]),
        SVC(random_state=np.random.RandomState(0)),
        StandardScaler().set_output(transform="pandas"),
        FunctionTransformer(lambda X: X + 1),
        local(),
    ],
    ids=["fitted", "random_state", "set_output", "lambda", "own class"],
)
def test_what_does_not_round_trip_is_a_payload(estimator, blobs):
    node = encode_node("n", estimator, blobs.stage)
    assert node.payload in blobs
    assert node.import_ is None
    back = build(node, blobs.__getitem__)
    assert type(back).__name__ == type(estimator).__name__
    assert vars(back).keys() == vars(estimator).keys()


def test_what_a_payload_does_is_part_of_its_node(blobs):
    def node(factor):
        return encode_node("n", FunctionTransformer(lambda X: X * factor), blobs.stage)

    assert node(2).code.startswith("sha256:")
    assert node(2).code == node(2).code != node(3).code
    assert encode_code(lambda parts: parts[0], blobs.stage).code.startswith("sha256:")
    assert encode_code(make_scorer(mean_squared_error), blobs.stage).code.startswith("sha256:")
    assert encode_code(KFold(3), blobs.stage).code.startswith("scikit-learn==")


def test_a_value_that_is_a_payload_has_the_digest_of_what_it_does(blobs):
    value = encode_value([lambda X: X + 1, b"x"], blobs.stage)
    (blob, digest), (other, _) = (item["$payload"] for item in value)
    assert {blob, other} == set(blobs) == set(blobs_of(value))
    assert digest == code_digest(lambda X: X + 1) != blob
    assert decode_value(check_value(value), blobs.__getitem__)[0](1) == 2


class Unseen:
    """It can be pickled, and says of itself nothing but a name."""

    def __reduce__(self):
        return "UNSEEN"


UNSEEN = Unseen()


def test_what_no_digest_sees_into_counts_by_its_bytes(blobs):
    node = encode_node("n", lambda X: (UNSEEN, X), blobs.stage)
    assert (node.code, node.payload in blobs) == (None, True)
    assert isinstance(encode_value(UNSEEN, blobs.stage)["$payload"], str)


def test_modules_that_only_this_machine_has_are_named(blobs, tmp_path, monkeypatch):
    (tmp_path / "fg_only_here.py").write_text("LIMIT = 1\n")
    monkeypatch.syspath_prepend(tmp_path)

    def function(X):
        import fg_only_here

        return X * fg_only_here.LIMIT

    assert encode_node("n", function, blobs.stage).only_here == ("fg_only_here",)
    assert encode_node("n", FunctionTransformer(function), blobs.stage).only_here == ("fg_only_here",)
    assert encode_node("n", lambda X: X, blobs.stage).only_here == ()


def test_metadata_requests_are_kept(blobs):
    import sklearn

    with sklearn.config_context(enable_metadata_routing=True):
        estimator = SVC().set_fit_request(sample_weight=True)
    back = build(encode_node("n", estimator, blobs.stage), blobs.__getitem__)
    assert repr(back._metadata_request) == repr(estimator._metadata_request)


def test_signatures_say_what_a_node_can_do(blobs):
    def signature(estimator):
        return encode_node("n", estimator, blobs.stage).signature

    svc = signature(make_pipeline(StandardScaler(), SVC(random_state=0)))
    assert (svc.type, svc.draws) == ("classifier", False)
    assert "svc__C" in svc.params
    assert {"predict", "decision_function", "score"} <= set(svc.abilities)
    assert "predict_proba" not in svc.abilities
    assert signature(make_pipeline(StandardScaler(), SVC())).draws
    scaler = signature(StandardScaler())
    assert (scaler.abilities, scaler.type) == (("transform",), "other")
    assert signature(KMeans()).type == "clusterer"
    assert "score" in signature(KMeans()).abilities


def test_functions(blobs):
    node = encode_node("n", lambda X, *, power=2, **more: X**power, blobs.stage)
    assert (node.kind, node.signature.params, node.signature.open) == ("function", ("power",), True)
    assert build(node, blobs.__getitem__)(3, power=3) == 27
    assert encode_node("n", np.log1p, blobs.stage).import_ == "numpy:log1p"


@pytest.mark.parametrize(
    "cv",
    [
        KFold(3, shuffle=True, random_state=1),
        StratifiedKFold(4),
        RepeatedKFold(n_splits=2, n_repeats=3),
        TimeSeriesSplit(3),
        LeaveOneOut(),
    ],
)
def test_splitters_are_declarative(cv, blobs):
    code = encode_code(cv, blobs.stage)
    assert code.import_ == f"sklearn.model_selection:{type(cv).__name__}"
    assert vars(build(code, blobs.__getitem__)) == vars(cv)


def test_scorers_travel(blobs):
    X, y = np.arange(10.0)[:, None], np.arange(10.0)
    model = make_pipeline(StandardScaler(), SVC()).fit(X, y > 4)
    scorer = make_scorer(mean_squared_error, greater_is_better=False)
    assert build(encode_code(scorer, blobs.stage), blobs.__getitem__)(model, X, y) == scorer(model, X, y)


@pytest.mark.parametrize(("thing", "words"), [(SVC, "is a class"), (3, "neither an estimator nor a function")])
def test_what_is_no_node_is_refused_by_name(thing, words, blobs):
    with pytest.raises(Refused, match=f"'odd'.*{words}"):
        encode_node("odd", thing, blobs.stage)


def test_a_node_that_cannot_be_pickled_is_refused_by_name(blobs):
    import threading

    lock = threading.Lock()
    with pytest.raises(Refused, match=r"'odd'.*pickle"):
        encode_node("odd", lambda X: lock and X, blobs.stage)
