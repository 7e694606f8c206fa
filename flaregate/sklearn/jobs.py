"""What the drop-ins ask a client for: a search over nodes, a sweep of single fits, one fit on all rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from numbers import Number
from typing import Any, Protocol

from flaregate.axes import MadeAxis, own_axes
from flaregate.endings import warn_once
from flaregate.errors import JobFailed
from flaregate.outcomes import Outcome, Result
from flaregate.payload import Staged
from flaregate.pipelines import Pipeline
from flaregate.signatures import estimator_signature
from flaregate.sklearn import cells
from flaregate.sklearn.chains import Nodes, whole
from flaregate.sklearn.raising import raised
from flaregate.sklearn.work import Evaluation, as_they_are
from flaregate.submission import JobOptions, Submission, prepare, refuse
from flaregate_wire.states import Reason


class _Job(Protocol):
    def result(self) -> Result: ...


class JobClient(Protocol):
    """What sends jobs: flaregate.Client, or whatever stands for it in a test."""

    def send(self, submission: Submission) -> _Job: ...


@dataclass(frozen=True, slots=True)
class Jobs:
    """A client, and the options of every job that is sent through it."""

    client: JobClient
    options: Mapping[str, Any] = field(default_factory=dict)

    def search(self, evaluation: Evaluation, nodes: Nodes, scoring: Any, *, refit: bool | str) -> Sequence[Outcome]:
        """An outcome for each candidate; with `refit` the best one is fitted on all rows."""
        rest = evaluation.rest
        made = self._prepared(
            nodes.pipeline(_name(evaluation.estimator)),
            action="search",
            X=evaluation.X,
            y=evaluation.y,
            cv=evaluation.folds,
            scoring=scoring,
            fit_params=nodes.by_node(rest["fit_params"] or {}),
            refit=refit,
            return_train_score=rest["return_train_score"],
            error_score=rest["error_score"],
        )
        return self._outcomes(_with_samples(made, nodes, evaluation.candidates), len(evaluation.candidates))

    def sweep(self, evaluation: Evaluation) -> Sequence[Outcome]:
        """An outcome for each candidate and fold, candidate by candidate; its output is what the function gives."""
        cell = partial(
            cells.run,
            function=evaluation.function,
            estimator=evaluation.estimator,
            rows=cells.Rows(evaluation.X, evaluation.y, evaluation.folds),
            rest=cells.Rest(evaluation.rest),
        )
        axes = {"parameters": evaluation.candidates, "split": range(len(evaluation.folds))}
        made = self._of_cells(
            evaluation.estimators,
            cell,
            axes=axes,
            fail_fast=not isinstance(evaluation.rest.get("error_score"), Number),
        )
        return self._outcomes(made, len(evaluation.pairs()))

    def fit(self, estimator: Any, X: Any, y: Any, fit_params: Mapping[str, Any]) -> Any:  # noqa: N803
        """The estimator as it is when fitted on all rows; raises what its `fit` raises."""
        plain = as_they_are(X, y, fit_params)
        if plain:
            nodes = whole(estimator)
            pipe = nodes.pipeline(_name(estimator))
            made = self._prepared(pipe, action="fit", X=X, y=y, fit_params=nodes.by_node(fit_params))
        else:
            cell = partial(cells.fit, estimator=estimator, rows=cells.Rows(X, y, ()), rest=cells.Rest(fit_params))
            made = self._of_cells([estimator], cell)
        (outcome,) = self._outcomes(made, 1)
        if outcome.error is not None:
            raise raised(outcome.error)
        (fitted,) = [node.state for node in outcome.pipeline().nodes] if plain else outcome.output
        return fitted

    def _of_cells(self, estimators: Sequence[Any], cell: Callable[..., Any], **own: Any) -> Submission:
        """A sweep of cells. What may draw serves no other job: nobody sees the estimator within the function."""
        pipe = Pipeline(_name(estimators[0]))
        pipe.node("evaluate", cell, cache=not any(estimator_signature(one).draws for one in estimators))
        return self._prepared(pipe, action="sweep", **own)

    def _prepared(self, pipe: Pipeline, **own: Any) -> Submission:
        return prepare(pipe, JobOptions(**{**self.options, **own}))

    def _outcomes(self, submission: Submission, count: int) -> Sequence[Outcome]:
        """All of them, those of failed fits too; raises the error of a fit where that ended the job."""
        try:
            return self.client.send(submission).result().outcomes
        except JobFailed as failure:
            outcomes: Sequence[Outcome] = failure.result.outcomes
            error = next((outcome.error for outcome in outcomes if outcome.error is not None), None)
            if failure.reason == Reason.USER_ERROR and len(outcomes) == count:  # every fit failed, or the refit
                warn_once(failure.result)
                return outcomes
            if failure.reason == Reason.USER_ERROR and error is not None:
                raise raised(error) from failure
            raise


def _name(estimator: Any) -> str:
    return type(estimator).__name__


def _with_samples(made: Submission, nodes: Nodes, candidates: Sequence[Mapping[str, Any] | None]) -> Submission:
    """The candidates one by one: the places of their values in the axes, None where one is not set."""
    blobs = dict(made.blobs)

    def stage(item: Staged) -> str:
        blobs[item.sha256] = item
        return item.sha256

    keys = dict.fromkeys(key for candidate in candidates for key in candidate or ())
    axes = {key: MadeAxis(*nodes.place(key), key, stage) for key in keys}
    samples = tuple(
        (0, *(axis.place(candidate[key]) if candidate and key in candidate else None for key, axis in axes.items()))
        for candidate in candidates
    )
    wire = tuple(axis.axis() for axis in axes.values())
    definition = made.definition.model_copy(update={"axes": wire, "samples": samples})
    refuse(definition)
    own = own_axes({(axis.node, axis.param): axis for axis in axes.values()})
    return replace(made, definition=definition, blobs=blobs, own=own)
