"""From the reports of a candidate's tasks to its outcome. Pure."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from pydantic import JsonValue

from flaregate_wire.definitions import Action, JobDefinition
from flaregate_wire.events import EVENT_BYTES, ErrorDetail, OutcomeEvent, encode
from flaregate_wire.planning import Plan, Step
from worker_image.engine.running import distinct
from worker_image.engine.scores import scorer_names, stand_in
from worker_image.engine.tasks import Key, Report


def number(value: float) -> JsonValue:
    """A float as a typed value."""
    return value if math.isfinite(value) else {"$float": str(value)}


def _plain(value: JsonValue) -> float:
    return float(value["$float"] if isinstance(value, dict) else math.nan if value is None else value)  # type: ignore[arg-type]


def chosen_scorer(definition: JobDefinition) -> str | None:
    """The scorer whose mean ranks candidates; None where several score and none is named."""
    names = scorer_names(definition)
    if isinstance(definition.refit, str):
        return definition.refit
    return names[0] if len(names) == 1 else None


def mean_and_std(scores: Sequence[float]) -> tuple[float, float]:
    """As scikit-learn's tables have them."""
    with np.errstate(invalid="ignore"):
        return float(np.mean(scores)), float(np.std(scores))


@dataclass(slots=True)
class Tally:
    """Reports by candidate until all folds are there."""

    plan: Plan
    folds: Sequence[int]
    now: Callable[[], datetime]
    attempt: int
    above: dict[Key, Report] = field(default_factory=dict)
    """Of steps above the leaves."""
    _open: dict[int, dict[int, Report]] = field(default_factory=dict)
    ended: int = 0
    failed: int = 0
    best: tuple[float, int] | None = None
    """Minus the best mean, and the first candidate that has it."""
    first_error: ErrorDetail | None = None

    def failure(self, error: ErrorDetail, *, tests: bool) -> Report:
        """The report of a leaf that did not run or was lost."""
        definition = self.plan.definition
        scores = stand_in(definition)
        return Report(
            error=error,
            scores=scores if tests else None,
            train_scores=scores if definition.return_train_score else None,
        )

    def add(self, candidate: int, fold: int, report: Report) -> OutcomeEvent | None:
        """One fold of a candidate; the outcome when it was the last."""
        reports = self._open.setdefault(candidate, {})
        reports[fold] = report
        if len(reports) < len(self.folds):
            return None
        del self._open[candidate]
        return self._outcome(candidate, [reports[fold] for fold in self.folds])

    def count(self, outcome: OutcomeEvent) -> None:
        """Rank an outcome among those so far: ties go to the first candidate, NaN is never best."""
        self.ended += 1
        if outcome.error is not None:
            self.failed += 1
            self.first_error = self.first_error or outcome.error
        mean = _plain(outcome.mean)
        if not math.isnan(mean):
            place = (-mean, outcome.candidate)
            self.best = place if self.best is None else min(self.best, place)

    def _outcome(self, index: int, reports: Sequence[Report]) -> OutcomeEvent:
        candidate = self.plan.candidate(index)
        steps = self.plan.steps(candidate)
        scores = _by_name([report.scores for report in reports])
        means = (scores or {}).get(chosen_scorer(self.plan.definition) or "")
        mean, std = mean_and_std(means or (math.nan,))
        every = [self.above[key] for fold in self.folds for key in _keys(steps, fold) if key in self.above]
        error = next((report.error for report in reports if report.error is not None), None)
        outcome = OutcomeEvent(
            time=self.now(),
            attempt=self.attempt,
            candidate=index,
            path=candidate.path.nodes,
            axes=tuple((setting.node, setting.param, setting.value) for setting in candidate.settings),
            scores=_typed(scores),
            train_scores=_typed(_by_name([report.train_scores for report in reports])),
            mean=number(mean) if means else None,
            std=number(std) if means else None,
            error=error,
            warnings=distinct(warning for report in (*every, *reports) for warning in report.warnings),
            times=self._times(steps, reports),
            lineage=tuple(step.digest for step in steps),
        )
        return within_limit(outcome)

    def _times(self, steps: Sequence[Step], reports: Sequence[Report]) -> dict[str, float | tuple[float, ...]]:
        """What the candidate would have cost alone: the steps that it shares count in full."""
        fit, score = [], []
        for fold, report in zip(self.folds, reports, strict=True):
            shared = [self.above[key] for key in _keys(steps, fold) if key in self.above]
            fit.append(report.fit_time + sum(one.fit_time for one in shared))
            score.append(report.score_time + sum(one.score_time for one in shared))
        times: dict[str, float | tuple[float, ...]] = {"fit": float(np.mean(fit)), "fit_folds": tuple(fit)}
        if self.plan.definition.action is not Action.FIT:
            times |= {"score": float(np.mean(score)), "score_folds": tuple(score)}
        return times


def _keys(steps: Sequence[Step], fold: int) -> Iterable[Key]:
    return dict.fromkeys((step.digest, fold) for step in steps[:-1])


def _by_name(folds: Sequence[Mapping[str, float] | None]) -> dict[str, tuple[float, ...]] | None:
    given = [scores for scores in folds if scores is not None]
    names = dict.fromkeys(name for scores in given for name in scores)
    if not names:
        return None
    return {name: tuple(scores.get(name, math.nan) for scores in given) for name in names}


def _typed(scores: Mapping[str, Sequence[float]] | None) -> dict[str, tuple[JsonValue, ...]] | None:
    return None if scores is None else {name: tuple(map(number, values)) for name, values in scores.items()}


def within_limit(outcome: OutcomeEvent) -> OutcomeEvent:
    """The outcome with texts cut in the middle until an event holds it."""
    size = EVENT_BYTES
    while len(encode(outcome)) > EVENT_BYTES and size > 1:
        size //= 2
        error = outcome.error
        if error is not None:
            cut = {name: cut_middle(getattr(error, name), size) for name in ("message", "traceback")}
            error = error.model_copy(update=cut)
        warned = tuple(one.model_copy(update={"message": cut_middle(one.message, size)}) for one in outcome.warnings)
        outcome = outcome.model_copy(update={"error": error, "warnings": warned})
    return outcome


def cut_middle(text: str, size: int) -> str:
    """At most `size` characters: its beginning and its end."""
    mark = "\n[…]\n"
    if len(text) <= size:
        return text
    keep = max(size - len(mark), 0)
    return text[: keep - keep // 2] + mark + text[len(text) - keep // 2 :]
