"""Which kind of job evaluates candidates, and its outcomes as what scikit-learn's own functions give.

A search over nodes shares prefixes between candidates, and serves wherever it gives the same numbers. Everything else
is a sweep of scikit-learn's own function over candidates and folds: scorers of the user's own, metadata for scorers,
fitted estimators to be returned, precomputed kernels, predictions. So are candidates that failed in a search: what
failed, and why, is told in scikit-learn's words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Number
from typing import Any

import numpy as np
from sklearn.model_selection._validation import _fit_and_score
from sklearn.utils import get_tags

from flaregate.outcomes import Outcome
from flaregate.sklearn.callbacks import around
from flaregate.sklearn.calls import Call
from flaregate.sklearn.chains import Nodes, nodes_of
from flaregate.sklearn.jobs import Jobs
from flaregate.sklearn.raising import raised
from flaregate.sklearn.scorers import Unsaid, by_name, scoring_of
from flaregate.sklearn.telling import tell
from flaregate.sklearn.work import Evaluation, as_they_are, evaluation_of

_RAISE = "raise"
_LOST = frozenset({"WorkerDied", "TaskTimedOut"})
"""Errors of a process, not of the code in it: for scikit-learn a fit that failed."""


@dataclass(slots=True)
class Evaluator:
    """Evaluates scikit-learn's calls by jobs."""

    jobs: Jobs
    refit: bool | str = False
    """Whether a search fits on all rows what it finds best: True, or the name of the scorer that chooses."""
    _rounds: list[tuple[Sequence[Outcome], Nodes]] = field(default_factory=list)
    """Of searches, in their order."""

    def __call__(self, calls: Sequence[Call]) -> Sequence[Any]:
        """What the calls give, in their order."""
        evaluation = evaluation_of(calls)
        way = _as_search(evaluation)
        with around(calls):
            results = _swept(self.jobs, evaluation) if way is None else self._searched(evaluation, *way)
        tell(evaluation, results)
        return results

    def _searched(self, evaluation: Evaluation, nodes: Nodes, scoring: Any) -> Sequence[Any]:
        named = isinstance(scoring, Mapping)
        refit = self.refit if named == isinstance(self.refit, str) else False
        outcomes = self.jobs.search(evaluation, nodes, scoring, refit=refit)
        self._rounds.append((outcomes, nodes))
        failed = [place for place, outcome in enumerate(outcomes) if outcome.error is not None]
        if failed and evaluation.rest["error_score"] == _RAISE:
            raise raised(outcomes[failed[0]].error)  # type: ignore[arg-type]  # it has one
        again = iter(_swept(self.jobs, evaluation.only(failed)) if failed else ())
        return [
            next(again) if outcomes[candidate].error else _scored(evaluation, outcomes[candidate], fold)
            for candidate, fold in evaluation.pairs()
        ]

    def fitted(self, place: int, estimator: Any, X: Any, y: Any, params: Mapping[str, Any]) -> Any:  # noqa: N803
        """The candidate at a place, fitted on all rows: by the only search, if that found it best, or by a further job.

        Args:
            place: The candidate's number.
            estimator: The same with its parameters, not fitted.
            X: All rows.
            y: Their targets.
            params: What `fit` gets beside them.
        """
        if self.refit and len(self._rounds) == 1:
            ((outcomes, nodes),) = self._rounds
            if outcomes[place].artifact is not None:
                return nodes.fitted(estimator, outcomes[place].pipeline().named_nodes)
        return self.jobs.fit(estimator, X, y, params)


def _as_search(evaluation: Evaluation) -> tuple[Nodes, Any] | None:
    """The nodes and the scoring of a search that gives the same; None if there is none."""
    if evaluation.function is not _fit_and_score or not _plain(evaluation):
        return None
    if not evaluation.estimator.get_params().keys() >= set(evaluation.keys):
        return None  # scikit-learn says itself what is wrong
    try:
        scoring = scoring_of(evaluation.scorer)
    except Unsaid:
        return None
    return nodes_of(evaluation.estimator, (*evaluation.keys, *(evaluation.rest["fit_params"] or ()))), scoring


def _plain(evaluation: Evaluation) -> bool:
    rest = evaluation.rest
    return (
        not rest.get("score_params")
        and not rest.get("return_estimator")
        and (rest["error_score"] == _RAISE or isinstance(rest["error_score"], Number))
        and as_they_are(evaluation.X, evaluation.y, rest["fit_params"] or {})
        and not get_tags(evaluation.estimator).input_tags.pairwise
        and all(len(train) and len(test) for train, test in evaluation.folds)
    )


def _scored(evaluation: Evaluation, outcome: Outcome, fold: int) -> dict[str, Any]:
    """One fold of an outcome as `_fit_and_score` gives it."""
    rest = evaluation.rest
    result = {"fit_error": None, "test_scores": _fold(evaluation, outcome.scores, fold)}
    if rest["return_train_score"]:
        result["train_scores"] = _fold(evaluation, outcome.train_scores, fold)
    if rest.get("return_n_test_samples"):
        result["n_test_samples"] = _count(evaluation.folds[fold][1])
    if rest.get("return_times"):
        result["fit_time"] = outcome.times["fit_folds"][fold]
        result["score_time"] = outcome.times["score_folds"][fold]
    return result


def _fold(evaluation: Evaluation, scores: Mapping[str, Any] | None, fold: int) -> Any:
    numbers = [float(values[fold]) for values in (scores or {}).values()]
    names = by_name(evaluation.scorer)
    if not names:
        return numbers[0]
    return dict(zip(names if len(names) == 1 else scores or (), numbers, strict=True))


def _count(test: Any) -> int:
    rows = np.asarray(test)
    return int(np.count_nonzero(rows)) if rows.dtype == bool else len(rows)


def _swept(jobs: Jobs, evaluation: Evaluation) -> Sequence[Any]:
    return [_given(evaluation, outcome) for outcome in jobs.sweep(evaluation)]


def _given(evaluation: Evaluation, outcome: Outcome) -> Any:
    """What scikit-learn's function gave in a cell, or raised there."""
    if outcome.error is None:
        return outcome.output[0]
    score = evaluation.rest.get("error_score")
    if outcome.error.type not in _LOST or not isinstance(score, Number):
        raise raised(outcome.error)
    scores: Any = dict.fromkeys(by_name(evaluation.scorer), score) or score
    text = outcome.error.traceback or f"{outcome.error.type}: {outcome.error.message}\n"
    nothing = {"fit_error": text, "test_scores": scores, "train_scores": scores}
    return nothing | {"n_test_samples": 0, "fit_time": 0.0, "score_time": 0.0, "estimator": None}
