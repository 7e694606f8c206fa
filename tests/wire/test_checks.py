"""Every refusal at submission names the node, the rule and what to do."""

import pytest

from flaregate_wire.definitions import JobDefinition
from flaregate_wire.planning import faults

CLASSIFIER = {"params": ["C", "tol"], "abilities": ["predict", "score"], "type": "classifier"}
REGRESSOR = {"params": ["alpha"], "abilities": ["predict", "score"], "type": "regressor"}
SCALER = {"params": ["with_mean"], "abilities": ["transform"], "type": "other"}
SHUT = {"params": [], "abilities": [], "type": "other"}


def node(name, signature=None, **params):
    return {"name": name, "kind": "estimator", "import": "a:B", "params": params, "signature": signature}


def check(nodes, edges=(), **more):
    body = {
        "pipeline": {"nodes": nodes, "edges": edges},
        "action": "cross_validate",
        "inputs": {"X": {"dataset": "a:b"}, "y": {"dataset": "a:b", "part": "target"}},
    }
    return faults(JobDefinition.model_validate(body | more))


JOIN = {"name": "both", "kind": "join", "of": ["a", "b"]}
A, B, C = node("a"), node("b"), node("c")
ONLY_X = {"X": {"dataset": "a:b"}}
OBJECTS = [{"name": name, "X": {"dataset": "a:b"}} for name in "ab"]
SKF = {"import": "sklearn.model_selection:StratifiedKFold"}

REFUSED = {
    "two names": ([A, A], [], {}, "duplicate_node", "'a'"),
    "unknown edge": ([A, node("logistic")], [("a", "logistik")], {}, "unknown_node", "did you mean 'logistic'?"),
    "unknown part": ([A, JOIN], [], {}, "unknown_node", "'b'"),
    "join twice": ([A, {**JOIN, "of": ["a", "a"]}], [], {}, "duplicate_edge", "twice"),
    "double edge": ([A, B], [("a", "b"), ("a", "b")], {}, "duplicate_edge", "'a' → 'b'"),
    "edge beside a join": ([A, B, C, JOIN], [("c", "both")], {}, "join_edge", "'c'"),
    "cycle": ([A, B], [("a", "b"), ("b", "a")], {}, "cycle", "'a' → 'b'"),
    "unknown param": ([node("a", CLASSIFIER, Q=1)], [], {}, "unknown_param", "'Q'"),
    "axis elsewhere": ([A], [], {"axes": [{"node": "aa", "param": "n", "values": [1]}]}, "unknown_node", "'a'"),
    "axis unknown": (
        [node("a", CLASSIFIER)],
        [],
        {"axes": [{"node": "a", "param": "toll", "values": [1]}]},
        "unknown_param",
        "did you mean 'tol'?",
    ),
    "axis on a join": (
        [A, B, JOIN],
        [],
        {"axes": [{"node": "both", "param": "n", "values": [1]}], "scoring": "accuracy"},
        "axis_on_no_path",
        "'both'",
    ),
    "axis twice": ([A], [], {"axes": [{"node": "a", "param": "n", "values": [1]}] * 2}, "duplicate_axis", "'a'"),
    "axes to fit": (
        [A],
        [],
        {"action": "fit", "axes": [{"node": "a", "param": "n", "values": [1]}]},
        "axes_without_search",
        "search",
    ),
    "no X": ([A], [], {"inputs": {}}, "missing_input", "'X'"),
    "no y": ([node("a", CLASSIFIER)], [], {"inputs": ONLY_X}, "missing_input", "'y'"),
    "no y to stratify": ([A], [], {"inputs": ONLY_X, "cv": SKF}, "missing_input", "StratifiedKFold"),
    "no groups": ([A], [], {"cv": {"import": "sklearn.model_selection:GroupKFold"}}, "missing_input", "'groups'"),
    "one fold": ([A], [], {"cv": 1}, "folds", "2 folds"),
    "scaler last": ([node("a", SCALER)], [], {}, "no_score", "'a'"),
    "join last": ([A, B, JOIN], [], {}, "no_score", "'both'"),
    "nothing passed on": ([node("a", SHUT), B], [("a", "b")], {}, "nothing_to_pass_on", "'a'"),
    "mixed kinds": ([node("a", CLASSIFIER), node("b", REGRESSOR)], [], {}, "mixed_kinds", "splitter"),
    "refit": ([A], [], {"action": "search", "scoring": ["accuracy", "f1"]}, "refit", "refit"),
    "refit of no scorer": (
        [A],
        [],
        {"action": "search", "scoring": ["accuracy", "f1"], "refit": "acuracy"},
        "refit",
        "did you mean 'accuracy'",
    ),
    "halving of objects": (
        [A],
        [],
        {"action": "search", "strategy": "halving", "halving": {}, "inputs": {}, "objects": OBJECTS},
        "halving",
        "each of the objects",
    ),
    "halving by an axis": (
        [A],
        [],
        {
            "action": "search",
            "strategy": "halving",
            "halving": {"resource": "a__x", "resource_node": "a", "resource_param": "x", "max_resources": 9},
            "axes": [{"node": "a", "param": "x", "values": [1, 2]}],
        },
        "halving",
        "'a__x'",
    ),
    "error score": ([A], [], {"error_score": "zero"}, "error_score", "'zero'"),
    "too many nodes": ([node(f"n{i}") for i in range(501)], [], {}, "too_many_nodes", "500"),
    "too many candidates": (
        [A],
        [],
        {"axes": [{"node": "a", "param": p, "values": list(range(101))} for p in "xyz"]},
        "too_many_candidates",
        "1030301",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_with_the_name_and_the_rule(case):
    nodes, edges, more, rule, words = REFUSED[case]
    found = check(nodes, edges, **more)
    assert rule in [fault.rule for fault in found]
    fault = next(fault for fault in found if fault.rule == rule)
    assert words in fault.message
    assert fault.pointer.startswith("/")


def test_what_hangs_on_a_cycle_is_unreachable():
    found = check([A, B, C], [("a", "b"), ("b", "a"), ("b", "c")])
    assert [(fault.rule, fault.pointer) for fault in found] == [
        ("cycle", "/pipeline/edges"),
        ("unreachable", "/pipeline/nodes/2"),
    ]


def test_too_many_paths():
    nodes, edges = [], []
    for level in range(14):
        nodes += [node(f"l{level}"), node(f"r{level}")]
        if level:
            edges += [(f"{a}{level - 1}", f"{b}{level}") for a in "lr" for b in "lr"]
    assert [fault.rule for fault in check(nodes, edges)] == ["too_many_paths"]


@pytest.mark.parametrize(
    ("nodes", "edges", "more"),
    [
        ([A], [], {}),
        ([node("a__b")], [], {"axes": [{"node": "a__b", "param": "c__d", "values": [1]}]}),
        ([A, B, JOIN], [("a", "both"), ("b", "both")], {"scoring": "accuracy"}),
        ([node("a", SCALER), node("b", CLASSIFIER)], [("a", "b")], {}),
        ([node("a", CLASSIFIER), node("b", REGRESSOR)], [], {"cv": {"import": "sklearn.model_selection:KFold"}}),
        ([node("a", {**CLASSIFIER, "open": True}, anything=1)], [], {}),
        ([A], [], {"action": "fit", "inputs": ONLY_X}),
        ([A], [], {"error_score": {"$scalar": ["float64", 0.5]}}),
        ([A], [], {"error_score": "raise"}),
    ],
)
def test_what_is_right_has_no_faults(nodes, edges, more):
    assert check(nodes, edges, **more) == ()
