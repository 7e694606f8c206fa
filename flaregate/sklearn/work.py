"""A set of scikit-learn's calls as what it is: candidates of one estimator on one set of folds."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Self

import numpy as np
from scipy import sparse
from sklearn.utils.metadata_routing import _routing_enabled

from flaregate.sklearn.calls import Call

_EACH = frozenset({"estimator", "X", "y", "train", "test", "parameters"})
_HERE = frozenset({"caller", "callback_ctx", "split_progress", "candidate_progress", "verbose"})
"""What stays in the caller."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Every candidate on every fold."""

    function: Callable[..., Any]
    estimator: Any
    X: Any
    y: Any
    folds: Sequence[tuple[Any, Any]]
    candidates: Sequence[dict[str, Any] | None]
    """Parameters; None leaves the estimator as it is."""
    rest: dict[str, Any]
    """The other arguments of the function, the same for all."""
    verbose: int = 0
    """How much of each fit is printed in the caller."""

    @property
    def scorer(self) -> Any:
        """What scores; None where nothing does."""
        return self.rest.get("scorer")

    @property
    def keys(self) -> tuple[str, ...]:
        """Every parameter that some candidate sets."""
        return tuple(dict.fromkeys(key for candidate in self.candidates for key in candidate or ()))

    @property
    def estimators(self) -> list[Any]:
        """The estimator, and those that candidates put into it."""
        values = [value for candidate in self.candidates for value in (candidate or {}).values()]
        return [self.estimator, *(value for value in values if hasattr(value, "get_params"))]

    def only(self, places: Sequence[int]) -> Self:
        """The same for some of the candidates."""
        return replace(self, candidates=[self.candidates[place] for place in places])

    def pairs(self) -> list[tuple[int, int]]:
        """(candidate, fold) of each call, in scikit-learn's order."""
        return list(product(range(len(self.candidates)), range(len(self.folds))))


def evaluation_of(calls: Sequence[Call]) -> Evaluation:
    """The evaluation that calls amount to: scikit-learn makes them candidate by candidate, fold by fold."""
    first = calls[0].arguments
    _, count = first.get("candidate_progress") or (0, 1)
    per = len(calls) // count
    return Evaluation(
        calls[0].function,
        first["estimator"],
        first["X"],
        first["y"],
        [(call.arguments["train"], call.arguments["test"]) for call in calls[:per]],
        [call.arguments.get("parameters") for call in calls[::per]],
        {name: value for name, value in first.items() if name not in _EACH | _HERE},
        int(first.get("verbose") or 0),
    )


def as_they_are(X: Any, y: Any, fit_params: Mapping[str, Any]) -> bool:  # noqa: N803 - scikit-learn's name
    """Whether a job's inputs and fit parameters reach the estimator in the very type that they have here."""
    pandas = sys.modules.get("pandas")
    frames = (pandas.DataFrame, pandas.Series) if pandas is not None else ()
    return (
        (type(X) in (np.ndarray, *frames) or sparse.issparse(X))
        and (y is None or type(y) in (np.ndarray, *frames))
        and not (fit_params and _routing_enabled())  # which the estimator itself answers
        and all(type(value) is np.ndarray and len(value) == X.shape[0] for value in fit_params.values())
    )
