"""Paths, candidates, steps and counts of a plan; against brute force by Hypothesis."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flaregate_wire.definitions import JobDefinition
from flaregate_wire.digests import canonical
from flaregate_wire.planning import faults, fold_count, paths, plan, scoring_identity


def estimator(name, **params):
    return {"name": name, "kind": "estimator", "import": "package:Thing", "params": {"which": name, **params}}


def join(name, *of):
    return {"name": name, "kind": "join", "of": of}


def job(nodes, edges=(), axes=(), **more):
    body = {
        "pipeline": {"nodes": nodes, "edges": edges},
        "action": "search",
        "inputs": {"X": {"dataset": "package:load"}, "y": {"dataset": "package:load", "part": "target"}},
        "axes": [{"node": node, "param": param, "values": values} for node, param, values in axes],
        **more,
    }
    definition = JobDefinition.model_validate(body)
    assert faults(definition) == ()
    return definition


def distinct_steps(made):
    return {step.digest for candidate in made for step in made.steps(candidate)}


def test_the_digits_case_has_20_candidates_and_9_distinct_settings():
    definition = job(
        [estimator("pca"), estimator("logistic")],
        [("pca", "logistic")],
        [("pca", "n_components", [5, 15, 30, 45, 64]), ("logistic", "C", [1e-4, 1e-2, 1.0, 1e4])],
    )
    made = plan(definition)
    own = {(step.node, step.settings) for candidate in made for step in made.steps(candidate)}
    assert (len(made), len(own)) == (20, 9)
    assert made.counts().steps == {"pca": 5, "logistic": 20}
    assert made.counts().tasks == 125
    assert len(distinct_steps(made)) == 25


def test_candidates_come_in_the_order_of_parameter_grid():
    from sklearn.model_selection import ParameterGrid

    values = {"a__n": [1, 2], "b__c": [1, 2, 3], "b__d": ["x", "y"]}
    definition = job(
        [estimator("a"), estimator("b")],
        [("a", "b")],
        [("b", "d", values["b__d"]), ("b", "c", values["b__c"]), ("a", "n", values["a__n"])],
    )
    made = [{f"{s.node}__{s.param}": s.value for s in candidate.settings} for candidate in plan(definition)]
    assert made == list(ParameterGrid(values))


def test_axes_pass_through_joins():
    nodes = [estimator("a"), estimator("b"), join("both", "a", "b"), estimator("d")]
    made = plan(job(nodes, [("both", "d")], [("a", "n", [1, 2]), ("b", "n", [1, 2])]))
    assert len(made) == 4
    assert made.counts().steps == {"a": 2, "b": 2, "both": 4, "d": 4}


def test_two_alternatives_share_their_prefix():
    nodes = [estimator("scale"), estimator("svc"), estimator("forest")]
    made = plan(job(nodes, [("scale", "svc"), ("scale", "forest")], [("svc", "C", [1, 2])]))
    assert [candidate.path.nodes for candidate in made] == [("scale", "svc"), ("scale", "svc"), ("scale", "forest")]
    assert made.counts().steps == {"scale": 1, "svc": 2, "forest": 1}


def test_a_chain_of_six_diamonds_is_one_path_that_visits_every_node_once():
    nodes, edges = [estimator("n0")], []
    for i in range(6):
        nodes += [estimator(f"l{i}"), estimator(f"r{i}"), join(f"n{i + 1}", f"l{i}", f"r{i}")]
        edges += [(f"n{i}", f"l{i}"), (f"n{i}", f"r{i}")]
    made = plan(job(nodes, edges, scoring="accuracy"))
    (path,) = made.paths
    assert len(path.nodes) == 19
    assert sum(len(sources) for sources in path.inputs.values()) == 24


def test_a_node_with_several_predecessors_runs_once_for_each():
    nodes = [estimator("a"), estimator("b"), estimator("c")]
    made = paths(job(nodes, [("a", "c"), ("b", "c")]).pipeline)
    assert [path.nodes for path in made] == [("a", "c"), ("b", "c")]


def test_equal_nodes_under_two_names_share_their_tasks_and_names_change_no_digest():
    first = plan(job([estimator("a"), estimator("b")], [("a", "b")]))
    renamed = job([{**estimator("a"), "name": "x__y"}, {**estimator("b"), "name": "z"}], [("x__y", "z")])
    assert distinct_steps(first) == distinct_steps(plan(renamed))


def test_values_of_another_type_are_other_steps():
    made = plan(job([estimator("a")], (), [("a", "n", [1, 1.0, True, "1", {"$tuple": [1]}, [1]])]))
    assert len(distinct_steps(made)) == 6


SHAS = ["sha256:" + digit * 64 for digit in "0123"]


def payload(blob, code=None, **params):
    return {
        "name": "a",
        "kind": "estimator",
        "payload": SHAS[blob],
        "params": params,
        **({"code": code} if code else {}),
    }


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (payload(0, SHAS[2]), payload(1, SHAS[2]), True),
        (payload(0, SHAS[2]), payload(0, SHAS[3]), False),
        (payload(0), payload(1), False),
        (payload(0, "mine==1"), payload(1, "mine==1"), False),
        (payload(0, SHAS[2], C=1), payload(1, SHAS[2], C=2), False),
        (estimator("a", f={"$payload": [SHAS[0], SHAS[2]]}), estimator("a", f={"$payload": [SHAS[1], SHAS[2]]}), True),
        (estimator("a", f={"$payload": [SHAS[0], SHAS[2]]}), estimator("a", f={"$payload": [SHAS[0], SHAS[3]]}), False),
        (estimator("a", f={"$payload": SHAS[0]}), estimator("a", f={"$payload": SHAS[1]}), False),
        (estimator("a", f=[{"$tuple": [{"$payload": [SHAS[0], SHAS[2]]}]}]), estimator("a", f=[{"$tuple": []}]), False),
        ({**estimator("a"), "only_here": ["mine"]}, {**estimator("a"), "needs": {"num_cpus": 2}}, True),
        ({**estimator("a"), "stack_cv": 3}, {**estimator("a"), "stack_cv": 4}, False),
        ({**estimator("a"), "code": "lib==1"}, {**estimator("a"), "code": "lib==2"}, False),
    ],
)
def test_payloads_count_by_what_they_do_where_that_is_known(one, other, equal):
    digests = [distinct_steps(plan(job([node]))) for node in (one, other)]
    assert (digests[0] == digests[1]) is equal


@pytest.mark.parametrize("field", ["combine", "stack_cv"])
def test_code_inside_a_node_counts_by_what_it_does_too(field):
    def steps(blob, code):
        given = {"payload": SHAS[blob], "code": code}
        first = {**estimator("a"), **({"stack_cv": given} if field == "stack_cv" else {})}
        last = {**join("both", "a", "b"), **({"combine": given} if field == "combine" else {})}
        return distinct_steps(plan(job([first, estimator("b"), last], scoring="accuracy")))

    assert steps(0, SHAS[2]) == steps(1, SHAS[2]) != steps(1, SHAS[3])


def test_scorers_count_by_what_they_do():
    def seen(scoring):
        return scoring_identity(job([estimator("a")], scoring=scoring, refit=False).scoring)

    own, same, other = (
        {"payload": SHAS[blob], "code": code} for blob, code in ((0, SHAS[2]), (1, SHAS[2]), (1, SHAS[3]))
    )
    assert seen(own) == seen(same) != seen(other)
    assert seen({"s": own}) == seen({"s": same}) != seen({"t": same})
    assert len({canonical(seen(given)) for given in ("r2", ["r2"], {"r2": "r2"}, own, None)}) == 5


def test_axis_values_of_equal_code_are_one_step():
    values = [{"$payload": [SHAS[0], SHAS[2]]}, {"$payload": [SHAS[1], SHAS[2]]}, {"$payload": [SHAS[1], SHAS[3]]}]
    made = plan(job([estimator("a")], (), [("a", "f", values)]))
    assert (len(made), made.counts().steps, len(distinct_steps(made))) == (3, {"a": 2}, 2)


def test_values_that_stand_twice_are_two_candidates_and_one_step():
    made = plan(job([estimator("a")], (), [("a", "n", [1, 1])]))
    assert (len(made), made.counts().steps) == (2, {"a": 1})


@pytest.mark.parametrize(
    ("cv", "expected"),
    [
        (None, 5),
        (3, 3),
        ({"import": "sklearn.model_selection:KFold", "params": {"n_splits": 7}}, 7),
        ({"import": "sklearn.model_selection:RepeatedKFold", "params": {"n_splits": 2, "n_repeats": 3}}, 6),
        ({"import": "sklearn.model_selection:LeaveOneOut"}, None),
        ({"import": "mine:Splitter"}, None),
        ({"blob": "sha256:" + "0" * 64, "folds": 4}, 4),
    ],
)
def test_folds_are_counted_where_they_are_known_and_are_unknown_otherwise(cv, expected):
    definition = job([estimator("a")], cv=cv)
    assert fold_count(definition) == expected
    assert plan(definition).counts().tasks == expected


def test_a_hundred_thousand_candidates_are_not_listed_before_they_are_asked_for():
    made = plan(job([estimator("a"), estimator("b")], [("a", "b")], [("b", "n", list(range(100_000)))]))
    assert len(made) == 100_000
    assert made.candidate(99_999).settings[0].value == 99_999
    made.steps(made.candidate(5))
    assert len(made._shared) == 1


names = [f"n{i}" for i in range(6)]


@st.composite
def dags(draw):
    """Random DAGs of alternatives, joins and axes."""
    size = draw(st.integers(1, 6))
    nodes, edges, axes = [], [], []
    for place in range(size):
        earlier = names[:place]
        sources = draw(st.lists(st.sampled_from(earlier), unique=True, max_size=3)) if earlier else []
        if len(sources) >= 2 and draw(st.booleans()):
            nodes.append(join(names[place], *sources))
            continue
        nodes.append(estimator(names[place]))
        edges += [(source, names[place]) for source in sources]
        if draw(st.booleans()):
            axes.append((names[place], "p", draw(st.lists(st.integers(0, 2), min_size=1, max_size=3))))
    return job(nodes, edges, axes, scoring="accuracy")


@given(dags())
def test_counts_by_arithmetic_equal_counts_by_listing(definition):
    made = plan(definition)
    listed = list(made)
    assert len(listed) == len(made)
    assert [candidate.index for candidate in listed] == list(range(len(made)))
    steps = {(step.node, step.digest) for candidate in made for step in made.steps(candidate)}
    assert sum(made.counts().steps.values()) == len(steps)


@given(dags())
def test_every_path_is_closed_and_every_node_is_on_one(definition):
    ways = paths(definition.pipeline)
    for path in ways:
        seen = set()
        for name in path.nodes:
            assert seen.issuperset(path.inputs[name])
            seen.add(name)
    assert {name for path in ways for name in path.nodes} == {node.name for node in definition.pipeline.nodes}
    assert len({(path.nodes, tuple(path.inputs[name] for name in path.nodes)) for path in ways}) == len(ways)
