"""Outcomes: their texts are cut to an event's limit, and the best of them is the first with the best mean."""

import json
import math
from datetime import UTC, datetime

import pytest

from flaregate_wire.definitions import JobDefinition
from flaregate_wire.events import EVENT_BYTES, ErrorDetail, OutcomeEvent, encode
from flaregate_wire.planning import plan
from worker_image.engine.outcomes import Tally, cut_middle, within_limit
from worker_image.engine.prepare import SourceSummary, Summary
from worker_image.engine.tasks import Cut, Report

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PLAN = plan(
    JobDefinition.model_validate(
        {
            "pipeline": {"nodes": [{"name": "a", "kind": "estimator", "import": "package:Thing"}]},
            "action": "search",
            "inputs": {"X": {"dataset": "package:load"}},
            "axes": [{"node": "a", "param": "n", "values": list(range(5))}],
        }
    )
)


def tally(folds=2):
    cuts = tuple(Cut(0, fold) for fold in range(folds))
    return Tally(PLAN, Summary((SourceSummary(10, folds),)), {0: cuts}, lambda: NOW, 1)


@pytest.mark.parametrize(
    ("means", "best"),
    [
        ([0.1, 0.5, 0.5, 0.2, 0.4], 1),
        ([math.nan, 0.1, math.nan, 0.1, 0.0], 1),
        ([math.nan] * 5, None),
        ([-math.inf, -1.0, -2.0, math.nan, -3.0], 1),
    ],
)
@pytest.mark.parametrize("order", [range(5), range(4, -1, -1)])
def test_the_best_is_the_first_of_the_best_means_in_whatever_order_they_come(means, best, order):
    counted = tally(folds=1)
    for candidate in order:
        counted.count(counted.add(candidate, Cut(0, 0), Report(scores={"score": means[candidate]})), 0)
    assert (counted.best and counted.best[1]) == best
    assert counted.ended == 5


def test_an_outcome_waits_for_all_its_folds_and_keeps_their_order():
    counted = tally()
    assert counted.add(3, Cut(0, 1), Report(scores={"score": 0.25}, fit_time=1.0)) is None
    outcome = counted.add(3, Cut(0, 0), Report(scores={"score": math.nan}, fit_time=3.0))
    assert outcome.scores == {"score": ({"$float": "nan"}, 0.25)}
    assert outcome.mean == {"$float": "nan"}
    assert outcome.axes == (("a", "n", 3),)
    assert outcome.times["fit_folds"] == (3.0, 1.0)


def test_scores_keep_every_bit_on_the_wire():
    number = 0.1 + 0.2
    outcome = tally(1).add(0, Cut(0, 0), Report(scores={"score": number}))
    assert json.loads(encode(outcome))["scores"]["score"] == [number]


@pytest.mark.parametrize("text", ["x" * 500_000, "\x00ü" * 100_000])
def test_long_texts_are_cut_in_the_middle_until_the_event_fits(text):
    error = ErrorDetail(type="Bad", message=f"first {text} last", traceback=f"begin {text} end")
    cut = within_limit(OutcomeEvent(time=NOW, candidate=0, path=("a",), error=error))
    assert len(encode(cut)) <= EVENT_BYTES
    assert cut.error.traceback.startswith("begin ")
    assert cut.error.traceback.endswith(" end")


def test_a_cut_text_has_its_beginning_and_its_end():
    assert cut_middle("abc", 3) == "abc"
    assert cut_middle("a" * 50 + "b" * 50, 25) == "a" * 10 + "\n[…]\n" + "b" * 10
