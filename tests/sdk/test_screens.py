"""What the command line shows: plans, tables of outcomes, lines of a log, the best by what ranks it."""

import io

import pytest
from rich.console import Console

from flaregate.cli import live, planned, tabular, words
from flaregate_wire.definitions import JobDefinition
from flaregate_wire.events import EVENT
from flaregate_wire.jobs import PlanView
from tests.sdk.double import NOW, outcome

TREE = {"name": "tree", "kind": "estimator", "import": "sklearn.tree:DecisionTreeClassifier"}
TUNE = {"name": "tune", "kind": "function", "import": "own.module:tune"}
CLUSTER = {
    "topology": "cluster",
    "workers": 2,
    "min_workers": 0,
    "cpus": 1.5,
    "memory": 2_000_000_000,
    "why": "40 tasks on 3 containers",
}


def defined(node, action, **more):
    return JobDefinition.model_validate({"pipeline": {"name": "p", "nodes": [node]}, "action": action, **more})


def events(*given):
    return [EVENT.validate_python(one) for one in given]


def plain(thing):
    out = io.StringIO()
    Console(file=out, width=160).print(thing)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def cell(number, acc=None, **more):
    metrics = None if acc is None else {"acc": acc}
    return outcome(
        number + 1,
        number,
        path=["tune"],
        axes=[["tune", "lr", 0.1 * number]],
        scores=None,
        mean=None,
        std=None,
        metrics=metrics,
        **more,
    )


def test_a_plan():
    needs = {"num_cpus": 2, "timeout": 30, "retries": 1}
    definition = defined({**TREE, "needs": needs, "cache": False}, "search", cv=5)
    view = {"candidates": 4, "folds": 5, "tasks": 20, "tasks_unshared": 40, "steps": {"tree": 4}, "cluster": CLUSTER}
    lines = list(planned.lines(definition, PlanView.model_validate(view)))
    assert lines == [
        "search 'p'",
        "candidates  4",
        "folds       5",
        "tasks       20 (40 if no prefix were shared)",
        "cached      unknown",
        "nodes       tree  4 settings, num_cpus 2, timeout 30, retries 1, not cached",
        "cluster     cluster: 3 × 1.5 vCPU, 2.0 GB",
        "            40 tasks on 3 containers",
        "cost        unknown",
    ]


def test_a_plan_says_what_is_not_known():
    view = {"candidates": 1, "folds": None, "tasks": None, "tasks_unshared": None, "steps": {}, "cluster": CLUSTER}
    lines = list(planned.lines(defined(TREE, "search"), PlanView.model_validate({**view, "cached": 0})))
    assert "folds       unknown" in lines
    assert "tasks       unknown (unknown if no prefix were shared)" in lines
    assert "cached      0" in lines
    unknown = {**view, "cached_why": "its splitter is called by the job"}
    lines = list(planned.lines(defined(TREE, "search"), PlanView.model_validate(unknown)))
    assert "cached      unknown: its splitter is called by the job" in lines
    mapped = defined(TUNE, "map", inputs={"X": {"artifact": "job:1/X"}}, blocks=3)
    assert "blocks      3" in list(planned.lines(mapped, PlanView.model_validate(view)))


def test_the_table_of_a_search():
    shown = plain(tabular.table(events(outcome(2, 1), outcome(1, 0)), defined(TREE, "search")))
    assert shown[0].split() == ["#", "tree.max_depth", "mean", "±", "std"]
    assert [line.split() for line in shown[1:]] == [["0", "1", "0.5000", "0.0000"], ["1", "2", "0.5500", "0.0500"]]


def test_the_table_of_a_sweep_has_its_metrics_and_errors():
    failed = {"type": "ValueError", "message": "no luck\nat all"}
    axes = [{"node": "tune", "param": "lr", "values": [0, 0.1], "key": "lr"}]
    shown = plain(tabular.table(events(cell(1, error=failed), cell(0, 0.5)), defined(TUNE, "sweep", axes=axes)))
    assert shown[0].split() == ["#", "lr", "acc", "error"]
    assert shown[1].split() == ["0", "0", "0.5"]
    assert shown[2].split() == ["1", "0.1", "ValueError:", "no", "luck"]


def test_the_table_of_a_map_and_of_objects_and_rounds():
    blocks = events(cell(0, artifact="output-0"), cell(1, output=[1, 2]))
    assert [line.split()[-1] for line in plain(tabular.table(blocks, None))] == ["gave", "output-0", "2]"]
    rounds = events(outcome(1, 0, iteration=1, resources=30), outcome(2, 0, iteration=0, resources=10, object="a"))
    shown = plain(tabular.table(rounds, None))
    assert shown[0].split()[:4] == ["#", "round", "resources", "object"]
    assert shown[1].split()[:4] == ["0", "0", "10", "a"]


def test_what_an_outcome_gave_in_a_line():
    (scored, metric, made, nothing, bad) = events(
        outcome(1, 0), cell(0, 0.25), cell(1, output="x" * 100), cell(2), cell(3, error={"type": "E", "message": "m"})
    )
    assert words.gave(scored) == "mean 0.5000 ± 0.0000"
    assert words.gave(metric) == "acc 0.25"
    assert words.gave(made) == "x" * 60 + "…"
    assert (words.gave(nothing), words.gave(bad), words.error(bad)) == ("done", "", "E: m")


@pytest.mark.parametrize(("best", "first"), [("max:acc", 1), ("min:acc", 2), (None, 0)])
def test_cells_are_ranked_by_the_metric_that_was_named(best, first):
    rank = live.ranking(defined(TUNE, "sweep", best=best))
    cells = events(cell(0), cell(1, 0.9), cell(2, 0.1))
    assert min(cells, key=rank).candidate == first
    assert rank(cells[0])[0]


def test_the_screen_of_a_terminal_and_the_lines_of_a_log():
    rank = live.ranking(defined(TREE, "search"))
    screen = live.view(Console(file=io.StringIO(), force_terminal=True, width=120), 3, rank)
    with screen:
        for event in events(outcome(1, 0), outcome(2, 1)):
            screen.show(event)
        text = "\n".join(plain(screen._render()))
    assert "2 of 3 outcomes" in text
    assert text.index("mean 0.5500") < text.index("mean 0.5000")
    out = io.StringIO()
    with live.view(Console(file=out), None, rank) as lines:
        lines.show(events(cell(0, 0.5))[0])
        told = {"id": 2, "type": "metrics", "time": NOW, "candidate": 3, "step": 1, "values": {"loss": 0.25}}
        lines.show(*events(told))
    assert "candidate 3, step 1: loss 0.25" in out.getvalue()
    assert "candidate 0: tune  tune.lr=0  acc 0.5" in out.getvalue()


def test_a_lost_worker_and_its_replacement_are_a_line_each():
    given = [
        {"phase": "launched"},
        {"phase": "joined", "index": 1},
        {"phase": "lost", "index": 1, "detail": {"exit_code": -9, "story": "preempted"}},
        {"phase": "launched", "index": 3, "detail": {"replaces": 1}},
        {"phase": "lost", "index": 2},
        {"phase": "launched", "index": 4, "detail": {"replaces": 3, "pause": 8.5}},
    ]
    out = io.StringIO()
    with live.view(Console(file=out), None, live.ranking(defined(TREE, "search"))) as lines:
        for event in events(*({"type": "attempt", "time": NOW, "attempt": 1, **one} for one in given)):
            lines.show(event)
    told = [line.split(" ", 1)[1].strip() for line in out.getvalue().splitlines()]
    assert told == [
        "joined (worker)",
        "worker 1 is lost: preempted",
        "worker 3 is launched for worker 1",
        "worker 2 is lost",
        "worker 4 is launched for worker 3, after a pause of 8 s",
    ]
