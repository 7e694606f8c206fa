"""What a job gave, as Python objects: one outcome a candidate, a block or a source object; the best; a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Any, Protocol

from pydantic import JsonValue

from flaregate import ranking, tables
from flaregate.axes import OwnAxes
from flaregate.errors import JobFailed, NoArtifact
from flaregate.outputs import Outputs
from flaregate.values import decode_value
from flaregate_wire.definitions import APPLIES, Action, JobDefinition
from flaregate_wire.events import ErrorDetail, OutcomeEvent, WarningDetail
from flaregate_wire.jobs import JobView, Stats

BEST = "best"
"""The artifact of a search's best candidate, fitted on all rows."""
GIVES = frozenset({*APPLIES, Action.MAP, Action.SWEEP})
"""What gives outputs; the other actions give scores and fitted pipelines."""


class Source(Protocol):
    """The job that an outcome is of. Of AsyncClient, what its methods give is to be awaited."""

    @property
    def id(self) -> str: ...
    def pipeline(self, name: str | None = None) -> Any:
        """A fitted pipeline that it left."""
        ...

    def load(self, name: str) -> Any:
        """An output or object that it left."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one candidate gave; of `map` one block, of `predict`, `transform` and `score` one source object."""

    candidate: int
    """Its number: the place of a candidate or cell in the job's order, the number of a block."""
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
    metrics: dict[str, Any] | None = None
    """The numbers that a sweep's cell returned."""
    iteration: int | None = None
    """Of successive halving."""
    resources: int | None = None
    """Of successive halving: how much the candidate had."""
    artifact: str | None = field(default=None, repr=False)
    """The name of the artifact with its fitted pipeline or its output."""
    params: dict[str, Any] = field(default_factory=dict, repr=False)
    """The same as `axes`, by `node__parameter`."""
    advice: str = field(default="", repr=False)
    """How to get a fitted pipeline where there is none."""
    job: Source | None = field(default=None, repr=False, compare=False)
    gives: bool = field(default=False, repr=False)
    """Whether its artifact is an output, not a fitted pipeline."""
    held: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """Its output, once it is here."""

    @property
    def output(self) -> Any:
        """What a block, a cell or a fitted pipeline gave; None where it failed or gave nothing.

        A large one is loaded from the store when it is asked for first; of AsyncClient that is something to await.
        """
        if "output" not in self.held and self.gives and self.artifact is not None and self.job is not None:
            self.held["output"] = self.job.load(self.artifact)
        return self.held.get("output")

    @property
    def address(self) -> str:
        """`job:ID/artifact` of its fitted pipeline, for flaregate.ref; raises NoArtifact where there is none."""
        if self.artifact is None or self.job is None or self.gives:
            raise NoArtifact(f"candidate {self.candidate} was not fitted on all rows; {self.advice}")
        return f"job:{self.job.id}/{self.artifact}"

    def pipeline(self) -> Any:
        """The pipeline fitted on all rows, a flaregate.fitted.FittedPipeline; raises NoArtifact where there is none."""
        name = self.address.partition("/")[2]
        return self.job.pipeline(name) if self.job else None


_ADVICE = {
    Action.FIT: "its error says why",
    Action.CROSS_VALIDATE: "cross_validate fits on folds only; submit the pipeline with action='fit'",
    Action.SEARCH: "a search with refit keeps the best candidate; submit this one's parameters with action='fit'",
    Action.SWEEP: "a cell of a sweep leaves a model with flaregate.artifact(name, model)",
}


@dataclass(frozen=True, slots=True)
class Result:
    """What a job gave; of a job that failed, what it had given until then."""

    outcomes: list[Outcome]
    """In candidate order; several source objects of one candidate in their order."""
    job: JobView = field(repr=False)

    @property
    def stats(self) -> Stats:
        """What the engine counted: tasks, fits by node, hosts, runner."""
        return self.job.result.stats if self.job.result else Stats()

    @property
    def best(self) -> Outcome:
        """The first outcome with the best mean test score; of `fit` the only one; of a sweep by its `best` metric.

        Raises AmbiguousBest where several pipelines were fitted, or nothing ranks the outcomes.
        """
        return ranking.best(self.outcomes, self.job)

    @property
    def outputs(self) -> Outputs:
        """What came out, in order: one entry a block of `map`, an object of `predict`, a cell of a sweep.

        Raises JobFailed that names the first block, object or cell that failed; `outcomes` has the others.
        """
        failed = next((outcome for outcome in self.outcomes if outcome.error is not None), None)
        if failed is not None and failed.error is not None:
            error, message = failed.error, f"{_named(failed, self.job.action)} failed"
            told = error.traceback or f"{error.type}: {error.message}"
            raise JobFailed(f"{message}: {told}", job=failed.job, reason=self.job.reason, result=self)
        return Outputs(outcome.output for outcome in self.outcomes)

    def table(self, group_by: Sequence[Any] | None = None) -> Any:
        """A pandas table: of a search one row a candidate with the columns of scikit-learn's `cv_results_`.

        Of a sweep one row a cell: its axes, its metrics, its error. With `group_by`, a list of axes, one row a group:
        of each metric, or of a search's mean test scores, the mean and standard deviation (numpy.mean, numpy.std) over
        its cells; `n` cells that gave them and `failed` ones; and, where the sweep has a `best` metric, in `best` the
        candidate number of the best cell.
        """
        if group_by is not None:
            return tables.groups(self.outcomes, group_by, ranking.chooser(self.job))
        return (tables.cells if self.job.action is Action.SWEEP else tables.cv_results)(self.outcomes)


def _named(outcome: Outcome, action: Action) -> str:
    if action is Action.MAP:
        return f"block {outcome.candidate}"
    if action is Action.SWEEP:
        return f"cell {outcome.candidate} ({outcome.axes})"
    return "the input" if outcome.object is None else f"the object {outcome.object!r}"


def _plain(value: JsonValue) -> Any:
    """A value of the wire that refers to nothing."""
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
    job: Source | None,
) -> Outcome:
    """The outcome of an event, with the user's own axes where this process has them."""
    axes, params = _axes(event, definition, own)
    action = definition.action if definition else Action.FIT
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
        metrics=None if event.metrics is None else {name: _plain(value) for name, value in event.metrics.items()},
        iteration=event.iteration,
        resources=event.resources,
        artifact=event.artifact,
        params=params,
        advice=_ADVICE.get(action, f"{action.value!r} fits nothing"),
        job=job,
        gives=action in GIVES,
        held={} if event.output is None else {"output": _plain(event.output)},
    )


def _axes(event: OutcomeEvent, definition: JobDefinition | None, own: OwnAxes) -> tuple[dict[Any, Any], dict[str, Any]]:
    """The axes by the user's own keys, and by `node__parameter`."""
    named = {(axis.node, axis.param): axis.key for axis in definition.axes} if definition else {}
    axes: dict[Any, Any] = {}
    params: dict[str, Any] = {}
    for node, param, wire in event.axes:
        value = _own_value(own, node, param, wire)
        params[f"{node}__{param}"] = value
        known = own.get((node, param))
        axes[known.key if known else named.get((node, param)) or f"{node}__{param}"] = value
    return axes, params


def _own_value(own: OwnAxes, node: str, param: str, wire: JsonValue) -> Any:
    known = own.get((node, param))
    try:
        return known.value(wire) if known else _plain(wire)
    except (KeyError, ImportError, AttributeError):  # staged bytes or code that this process has not
        return wire


def result_of(
    view: JobView, events: Sequence[OutcomeEvent], own: OwnAxes, job: Source | None, artifacts: Sequence[str] = ()
) -> Result:
    """The result of a job that has ended."""
    objects = [one.name for one in view.definition.objects] if view.definition else []

    def order(event: OutcomeEvent) -> tuple[int, int, int]:
        place = objects.index(event.object) if event.object in objects else 0
        return event.iteration or 0, event.candidate, place

    outcomes = [outcome_of(event, view.definition, own, job) for event in sorted(events, key=order)]
    best = ranking.numbered(outcomes, view.result.best if view.result else None)
    if best is not None and best.artifact is None and BEST in artifacts:
        outcomes[outcomes.index(best)] = replace(best, artifact=BEST)
    return Result(outcomes, view)
