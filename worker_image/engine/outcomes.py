"""From the reports of a candidate's tasks to its outcome. Pure."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
from pydantic import JsonValue

from flaregate_wire.definitions import FOLDED, Action, JobDefinition
from flaregate_wire.events import EVENT_BYTES, ErrorDetail, OutcomeEvent, encode
from flaregate_wire.planning import Plan, Step
from worker_image.engine.prepare import Summary
from worker_image.engine.running import distinct
from worker_image.engine.scores import stand_in
from worker_image.engine.tasks import Cut, Key, Report

Place = tuple[int, int]
"""(candidate, number of the source object)."""


def number(value: float) -> JsonValue:
    """A float as a typed value."""
    return value if math.isfinite(value) else {"$float": str(value)}


def plain(value: JsonValue) -> float:
    """A typed value as a float; NaN for what is none."""
    return float(value["$float"] if isinstance(value, dict) else math.nan if value is None else value)  # type: ignore[arg-type]


def ranking_scores(definition: JobDefinition, scores: Mapping[str, tuple[float, ...]]) -> tuple[float, ...]:
    """Those whose mean ranks candidates: the only ones, or of several those that `refit` names; else none."""
    if len(scores) == 1:
        return next(iter(scores.values()))
    return scores.get(definition.refit, ()) if isinstance(definition.refit, str) else ()


def mean_and_std(scores: Sequence[float]) -> tuple[float, float]:
    """As scikit-learn's tables have them."""
    with np.errstate(invalid="ignore"):
        array = np.asarray(scores)
        return float(np.mean(array)), float(np.std(array))


@dataclass(frozen=True, slots=True)
class Round:
    """Of successive halving: which round it is, what each candidate has, and how its candidates are called outside."""

    iteration: int
    resources: int
    first: int
    """The number of its first candidate's outcome."""


@dataclass(slots=True)
class Tally:
    """Reports by candidate until all cuts are there."""

    plan: Plan
    summary: Summary
    cuts: Mapping[int, Sequence[Cut]]
    """By source object."""
    now: Callable[[], datetime]
    attempt: int
    round: Round | None = None
    above: dict[Key, Report] = field(default_factory=dict)
    """Of steps above the leaves, by (digest, cut)."""
    _open: dict[Place, dict[Cut, Report]] = field(default_factory=dict)
    ended: int = 0
    failed: int = 0
    best: tuple[float, int, int] | None = None
    """Minus the best mean, the first candidate that has it, and its source object."""
    first_error: ErrorDetail | None = None

    def failure(self, error: ErrorDetail) -> Report:
        """The report of a leaf that did not run or was lost."""
        definition = self.plan.definition
        scores = stand_in(definition)
        return Report(
            error=error,
            scores=scores if definition.action in FOLDED else None,
            train_scores=scores if definition.return_train_score else None,
        )

    def alone(self, steps: Sequence[Step], cut: Cut, report: Report) -> Report:
        """A leaf's report as if its candidate had run alone: the steps that it shares count in full."""
        if report.cached:
            return report
        shared = [found for key in _keys(steps, cut) if (found := self.above.get(key)) is not None]
        if not shared:
            return report
        return replace(
            report,
            fit_time=report.fit_time + sum(one.fit_time for one in shared),
            score_time=report.score_time + sum(one.score_time for one in shared),
            warnings=distinct(warning for one in (*shared, report) for warning in one.warnings),
        )

    def add(self, candidate: int, cut: Cut, report: Report) -> OutcomeEvent | None:
        """One cut of a candidate; the outcome when it was the last."""
        place = (candidate, cut.source)
        reports = self._open.setdefault(place, {})
        reports[cut] = report
        cuts = self.cuts[cut.source]
        if len(reports) < len(cuts):
            return None
        del self._open[place]
        return self._outcome(candidate, cut.source, [reports[one] for one in cuts])

    def count(self, outcome: OutcomeEvent, source: int) -> None:
        """Rank an outcome among those so far: ties go to the first candidate, NaN is never best."""
        self.ended += 1
        if outcome.error is not None:
            self.failed += 1
            self.first_error = self.first_error or outcome.error
        mean = plain(outcome.mean)
        if not math.isnan(mean):
            place = (-mean, outcome.candidate, source)
            self.best = place if self.best is None else min(self.best, place)

    def _outcome(self, index: int, source: int, reports: Sequence[Report]) -> OutcomeEvent:
        candidate = self.plan.candidate(0 if self.plan.definition.action is Action.MAP else index)
        steps = self.plan.steps(candidate)
        alone = [self.alone(steps, cut, report) for cut, report in zip(self.cuts[source], reports, strict=True)]
        scores = _by_name([report.scores for report in reports])
        means = ranking_scores(self.plan.definition, scores or {})
        mean, std = mean_and_std(means or (math.nan,))
        metrics = reports[0].metrics
        outcome = OutcomeEvent(
            time=self.now(),
            attempt=self.attempt,
            candidate=index + (self.round.first if self.round else 0),
            path=candidate.path.nodes,
            axes=tuple((setting.node, setting.param, setting.value) for setting in candidate.settings),
            object=self.summary.sources[source].name,
            scores=_typed(scores),
            train_scores=_typed(_by_name([report.train_scores for report in reports])),
            mean=number(mean) if means else None,
            std=number(std) if means else None,
            metrics=None if metrics is None else dict(metrics),
            output=reports[0].output,
            iteration=self.round.iteration if self.round else None,
            resources=self.round.resources if self.round else None,
            error=next((report.error for report in reports if report.error is not None), None),
            cached=all(report.cached for report in reports),
            warnings=distinct(warning for report in alone for warning in report.warnings),
            times=self._times(alone),
            lineage=tuple(step.digest for step in steps),
        )
        return within_limit(outcome)

    def _times(self, reports: Sequence[Report]) -> dict[str, float | tuple[float, ...]]:
        fit = tuple(report.fit_time for report in reports)
        times: dict[str, float | tuple[float, ...]] = {"fit": sum(fit) / len(fit), "fit_folds": fit}
        if self.plan.definition.action in FOLDED:
            score = tuple(report.score_time for report in reports)
            times |= {"score": sum(score) / len(score), "score_folds": score}
        return times


def _keys(steps: Sequence[Step], cut: Cut) -> Iterable[Key]:
    return dict.fromkeys((step.digest, cut) for step in steps[:-1])


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
    if outcome.error is None and not outcome.warnings:
        return outcome  # what else it has is bounded by the limits of a definition and of an inline output
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
