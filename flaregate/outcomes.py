"""What a job gave, as Python objects: one outcome a candidate, the best of them, and a table."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from pydantic import JsonValue

from flaregate.axes import OwnAxes
from flaregate.errors import AmbiguousBest, NoArtifact
from flaregate.tables import cv_results
from flaregate.values import decode_value
from flaregate_wire.definitions import Action, JobDefinition
from flaregate_wire.events import ErrorDetail, OutcomeEvent, WarningDetail
from flaregate_wire.jobs import JobView, Stats

Loader = Callable[[str], Any]
"""Gives the fitted pipeline of an artifact's name; of AsyncClient, something to await."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one candidate gave."""

    candidate: int
    path: tuple[str, ...]
    axes: dict[Any, Any]
    """The user's own keys and values."""
    object: str | None
    scores: dict[str, Any] | None
    """From scorer to an array of k test scores."""
    train_scores: dict[str, Any] | None
    mean: float | None
    std: float | None
    error: ErrorDetail | None
    cached: bool
    warnings: tuple[WarningDetail, ...]
    times: dict[str, Any]
    """Seconds: `fit` and `score` as means over folds; `fit_folds` and `score_folds`."""
    lineage: tuple[str, ...]
    artifact: str | None = field(default=None, repr=False)
    params: dict[str, Any] = field(default_factory=dict, repr=False)
    """The same as `axes`, by `node__parameter`."""
    advice: str = field(default="", repr=False)
    loader: Loader | None = field(default=None, repr=False, compare=False)

    def pipeline(self) -> Any:
        """The pipeline fitted on all rows, a flaregate.fitted.FittedPipeline; raises NoArtifact where there is none."""
        if self.artifact is None or self.loader is None:
            raise NoArtifact(f"candidate {self.candidate} was not fitted on all rows; {self.advice}")
        return self.loader(self.artifact)


_ADVICE = {
    Action.FIT: "its error says why",
    Action.CROSS_VALIDATE: "cross_validate fits on folds only; submit the pipeline with action='fit'",
    Action.SEARCH: "a search with refit keeps the best candidate; submit this one's parameters with action='fit'",
}


def _plain(value: JsonValue) -> Any:
    """A number of the wire."""
    return decode_value(value, _no_blobs)


def _no_blobs(sha256: str) -> bytes:
    raise KeyError(sha256)


def _arrays(scores: Mapping[str, Sequence[JsonValue]] | None) -> dict[str, Any] | None:
    if scores is None:
        return None
    lists = {name: [_plain(value) for value in values] for name, values in scores.items()}
    if find_spec("numpy") is None:
        return dict(lists)
    import numpy as np  # noqa: PLC0415 - only where it is installed

    return {name: np.asarray(values, dtype=float) for name, values in lists.items()}


def outcome_of(
    event: OutcomeEvent,
    definition: JobDefinition | None,
    own: OwnAxes,
    loader: Loader | None,
    best_artifact: str | None = None,
) -> Outcome:
    """The outcome of an event, with the user's own axes where this process has them."""
    named = {(axis.node, axis.param): axis.key for axis in definition.axes} if definition else {}
    axes: dict[Any, Any] = {}
    params: dict[str, Any] = {}
    for node, param, wire in event.axes:
        value = _own_value(own, node, param, wire)
        params[f"{node}__{param}"] = value
        known = own.get((node, param))
        axes[known.key if known else named.get((node, param)) or f"{node}__{param}"] = value
    return Outcome(
        candidate=event.candidate,
        path=event.path,
        axes=axes,
        object=event.object,
        scores=_arrays(event.scores),
        train_scores=_arrays(event.train_scores),
        mean=None if event.mean is None else _plain(event.mean),
        std=None if event.std is None else _plain(event.std),
        error=event.error,
        cached=event.cached,
        warnings=event.warnings,
        times=dict(event.times),
        lineage=event.lineage,
        artifact=event.artifact or best_artifact,
        params=params,
        advice=_ADVICE[definition.action] if definition else "",
        loader=loader,
    )


def _own_value(own: OwnAxes, node: str, param: str, wire: JsonValue) -> Any:
    known = own.get((node, param))
    try:
        return known.value(wire) if known else decode_value(wire, _no_blobs)
    except (KeyError, ImportError, AttributeError):  # staged bytes or code that this process has not
        return wire


@dataclass(frozen=True, slots=True)
class Result:
    """What a job gave; of a job that failed, what it had given until then."""

    outcomes: list[Outcome]
    """In candidate order."""
    job: JobView = field(repr=False)

    @property
    def stats(self) -> Stats:
        """What the engine counted: tasks, fits by node, hosts, runner."""
        return self.job.result.stats if self.job.result else Stats()

    @property
    def best(self) -> Outcome:
        """The first outcome with the best mean test score; of `fit` the only one.

        Raises AmbiguousBest where several pipelines were fitted, or nothing ranks the candidates.
        """
        if self.job.action is Action.FIT:
            fitted = [outcome for outcome in self.outcomes if outcome.error is None]
            if len(fitted) == 1:
                return fitted[0]
            raise AmbiguousBest(
                f"{len(fitted)} pipelines were fitted, and training scores do not rank models; choose one of "
                "result.outcomes, or compare them with action='cross_validate'"
            )
        ranked = [outcome for outcome in self.outcomes if outcome.mean is not None and not math.isnan(outcome.mean)]
        if not ranked:
            raise AmbiguousBest("no candidate has a mean test score; with several scorers, name one with refit=")
        chosen = self.job.result.best if self.job.result else None
        named = next((outcome for outcome in ranked if outcome.candidate == chosen), None)
        return named or max(ranked, key=lambda outcome: (outcome.mean, -outcome.candidate))

    def table(self) -> Any:
        """A pandas table of one row a candidate, with the columns of scikit-learn's `cv_results_`."""
        return cv_results(self.outcomes)


def result_of(
    view: JobView, events: Sequence[OutcomeEvent], own: OwnAxes, loader: Loader | None, artifacts: Sequence[str] = ()
) -> Result:
    """The result of a job that has ended."""
    best = view.result.best if view.result else None
    refitted = "best" if "best" in artifacts else None
    return Result(
        [
            outcome_of(event, view.definition, own, loader, refitted if event.candidate == best else None)
            for event in events
        ],
        view,
    )
