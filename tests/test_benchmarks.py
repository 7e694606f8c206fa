"""What benchmarks say follows from what they measured, and every way of a workload gives the same numbers."""

import asyncio
import json

import pytest
from sklearn.model_selection import ParameterGrid
from sklearn.tree import DecisionTreeClassifier

from benchmarks import many_jobs, report, submissions
from benchmarks.contestants import InProcess
from benchmarks.engine_alone import run_engine
from benchmarks.functions import Cells
from benchmarks.graphs import Stack, w4
from benchmarks.harness import Claim, CpuMeter, keep, medians
from benchmarks.searches import Search, w3
from benchmarks.work import same
from worker_image.engine.runner import SequentialRunner

ROWS = [{"ours": 1.0, "theirs": 4.0}, {"ours": 2.0, "theirs": 6.0}, {"ours": 1.0, "theirs": 9.0}, {"other": 5.0}]


@pytest.mark.parametrize(
    ("bound", "gate", "met"),
    [("at least", 4, True), ("at least", 5, False), ("at most", 4, True), ("exactly", 4, True)],
)
def test_a_claim_is_the_median_of_the_paired_ratios(bound, gate, met):
    told = Claim("faster", "theirs", "ours", bound, gate=gate, aim=100).of_rows(ROWS)
    assert told["paired"] == [4, 3, 9]
    assert (told["value"], told["met"]) == (4, met)


def test_medians_are_over_the_rows_that_have_the_column():
    assert medians(ROWS) == {"ours": 1.0, "theirs": 6.0, "other": 5.0}


def test_what_is_kept_is_on_the_page(tmp_path, capsys):
    rows = [{"flaregate warm": 1.0, "flaregate warm, CPU": 2.0}]
    keep(
        "w2",
        rows,
        [Claim("warm, seconds", "flaregate warm", bound="at most", gate=0.5, aim=0.25)],
        "about",
        results=tmp_path,
    )
    assert json.loads((tmp_path / "w2.json").read_text())["machine"]["versions"]["scikit-learn"]
    page = report.page(tmp_path)
    assert "| flaregate warm | 1.00 (2.0) |" in page
    assert "| w2 | warm, seconds | 1 | ≤ 0.5 | ≤ 0.25 | **missed** |" in page
    assert "MISSED: warm, seconds" in capsys.readouterr().out


def test_cpu_seconds_of_a_loop_are_seen():
    with CpuMeter() as meter:
        sum(range(5_000_000))
    assert meter.seconds > 0.01


def small_search():
    whole = w3()
    axes = {"kbest__k": [1, 2], "tree__max_depth": [1, 2, 3]}
    return Search(whole.data, whole.prefix, {"tree": DecisionTreeClassifier(random_state=0)}, axes, folds=3)


def small_stack():
    whole = w4()
    rows, targets = whole.data
    branches = {name: whole.branches[name] for name in ("bayes", "tree")}
    return Stack((rows[:300], targets[:300]), branches, whole.last, [0.1, 10.0], folds=3)


@pytest.mark.parametrize("work", [small_search(), small_stack()], ids=["search", "graph"])
def test_every_way_gives_the_same_numbers(work):
    pipe, given = work.job()
    run = run_engine(pipe, given, SequentialRunner())
    ours = work.numbers(run.outcomes)
    same(ours, InProcess().work(work)[0])
    same(ours, work.peer())
    assert {node: run.result.stats.fits[node] for node in work.prefix_fits()} == work.prefix_fits()


def test_a_sweep_by_hand_is_what_joblib_gives():
    cells = Cells({"task": [0], "seed": [0, 1], "rate": [0.01]})
    assert len(cells.peer()) == len(ParameterGrid(cells.axes))
    same(cells.peer(), InProcess().work(cells)[0])


async def test_each_operation_on_a_table_of_jobs_is_measured():
    with many_jobs.filled(None, 140) as (home, url):
        table = many_jobs.Table(home, url)
        found = await table.measured(repeats=2)
        table.close()
    assert tuple(found) == many_jobs.OPERATIONS
    assert {len(times) for times in found.values()} == {2}


@pytest.mark.parametrize("title", [submissions.BARE, "SQLite"])
def test_submissions_are_taken_with_and_without_a_database(title):
    with submissions.gateway(title, None) as port:
        seconds, times = asyncio.run(submissions.load(port, 64))
    assert len(times) == 64
    assert seconds > 0


def test_other_numbers_stop_a_benchmark():
    with pytest.raises(AssertionError):
        same({"a": 1.0}, {"a": 1.0 + 1e-9})
    with pytest.raises(AssertionError, match="other candidates"):
        same({"a": 1.0}, {"b": 1.0})
