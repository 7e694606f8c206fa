"""Names in the cache: where folds are found again, and what must never be taken for the same."""

import pytest

from flaregate_wire.definitions import JobDefinition
from flaregate_wire.planning import naming, plan

A, B, C = ("sha256:" + letter * 64 for letter in "abc")
SIGNATURE = {"params": ["C"], "abilities": ["predict", "score"], "type": "classifier"}


def blob(sha, media_type="application/x-npy"):
    return {"blob": sha, "media_type": media_type}


def splitter(name, **params):
    return {"import": f"sklearn.model_selection:{name}", "params": params}


def job(cv=3, type_="classifier", signed=True, **more):
    node = {"name": "last", "kind": "estimator", "import": "package:Thing", "params": {"C": 1}}
    if signed:
        node["signature"] = {**SIGNATURE, "type": type_}
    inputs = {"X": blob(A), "y": blob(B)} | more.pop("inputs", {})
    body = {"pipeline": {"nodes": [node]}, "action": "cross_validate", "inputs": inputs, "cv": cv, **more}
    return JobDefinition.model_validate(body)


def shelf(*args, version="1.9.1", **kwargs):
    return naming.folds_shelf(job(*args, **kwargs), 0, version)


def test_the_same_definition_has_the_same_folds_and_weights_do_not_matter():
    assert shelf() == shelf() is not None
    assert shelf(inputs={"sample_weight": blob(C)}) == shelf()
    assert shelf(scoring="accuracy", error_score=0.5) == shelf()
    assert shelf(splitter("KFold", n_splits=3, shuffle=True, random_state=0)) is not None
    assert shelf(splitter("TimeSeriesSplit")) is not None


def test_what_makes_other_folds_is_elsewhere():
    seeded = {"shuffle": True, "random_state": 0}
    every = [
        shelf(),
        shelf(4),
        shelf(None),
        shelf(type_="regressor"),
        shelf(inputs={"y": blob(C)}),
        shelf(inputs={"X": blob(C)}),
        shelf(inputs={"groups": blob(C)}),
        shelf(inputs={"X": blob(A, "application/x-other")}),
        shelf(version="1.10.0"),
        shelf(splitter("KFold", n_splits=3)),
        shelf(splitter("StratifiedKFold", n_splits=3)),
        shelf(splitter("GroupKFold"), inputs={"groups": blob(A)}),
        shelf(splitter("GroupKFold"), inputs={"groups": blob(C)}),
        shelf(splitter("KFold", **seeded)),
        shelf(splitter("KFold", **{**seeded, "random_state": 1})),
        shelf({"blob": A, "folds": 3}),
        shelf({"blob": C, "folds": 3}),
    ]
    assert None not in every
    assert len(set(every)) == len(every)


@pytest.mark.parametrize(
    "cv",
    [
        splitter("ShuffleSplit"),
        splitter("ShuffleSplit", random_state=None),
        splitter("KFold", shuffle=True),
        splitter("KFold", shuffle=True, random_state=True),
        splitter("RepeatedKFold"),
        splitter("NewSplit", random_state=0),
        {"import": "package:KFold", "params": {}},
        {"payload": C},
    ],
    ids=str,
)
def test_folds_that_may_be_drawn_are_not_found_again(cv):
    assert shelf(cv) is None


def test_folds_are_not_foreseen_where_the_worker_alone_knows_enough():
    assert shelf(inputs={"X": {"dataset": "package:load"}}) is None
    assert shelf(signed=False) is None
    assert shelf(action="fit", cv=None) is None
    assert shelf(action="search", strategy="halving", halving={}) is None


def test_several_source_objects_have_names_of_their_own():
    objects = [{"name": "a", "X": blob(A), "y": blob(B)}, {"name": "b", "X": blob(B), "y": blob(A)}]
    several = job(inputs={}, objects=objects)
    assert naming.folds_shelf(several, 0, "1.9.1") == shelf()
    assert naming.folds_shelf(several, 1, "1.9.1") != shelf()


def test_weights_are_part_of_a_leafs_shelf_and_of_a_steps_where_they_are_routed():
    def shelves(config, weights):
        definition = job(config=config)
        rows = naming.row_names({"X": [1], "y": [2], "sample_weight": weights}, "1.9.1")
        made = plan(definition)
        (leaf,) = made.steps(made.candidate(0))
        named = naming.Shelves(made, [rows], frozenset(), "job")
        return named.leaf(leaf, 0), named.step(leaf, 0)

    (leaf, step), (other_leaf, other_step) = shelves({}, [3]), shelves({}, [4])
    assert leaf != other_leaf
    assert step == other_step
    routed = {"enable_metadata_routing": True}
    assert shelves(routed, [3])[1] != shelves(routed, [4])[1]


def test_another_version_of_scikit_learn_gives_other_results():
    one, other = (naming.row_names({"X": [1], "y": [2]}, version) for version in ("1.9.1", "1.9.2"))
    assert one.plain != other.plain
    assert one.weighted != other.weighted


def test_what_nobody_knows_the_code_of_serves_no_other_job():
    known = {"kind": "estimator", "import": "package:Known", "code": "package==1.0"}
    nodes = [
        {"name": "known", **known},
        {"name": "named", "kind": "function", "import": "package:f"},
        {"name": "sent", "kind": "function", "payload": A},
        {"name": "kept out", **known, "cache": False},
        {"name": "both", "kind": "join", "of": ["known", "sent"]},
    ]
    assert naming.uncached(job(pipeline={"nodes": nodes})) == {"named", "kept out"}
    for value, expected in (
        ({"$import": "numpy:log"}, set()),
        ([{"$tuple": ["a", {"$node": {"import": "sklearn.svm:SVC"}}]}], set()),
        ({"$import": "other.package:f"}, {"known"}),
        ({"$node": {"import": "sklearn.svm:SVC", "params": {"kernel": {"$import": "other:f"}}}}, {"known"}),
    ):
        axes = [{"node": "known", "param": "p", "values": [1, value]}]
        assert naming.uncached(job(pipeline={"nodes": nodes[:1]}, axes=axes)) == expected
