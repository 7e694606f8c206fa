"""One candidate on one fold where it runs: scikit-learn's own function, called with what the job carries."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sklearn.base import clone


@dataclass(frozen=True, slots=True)
class Rows:
    """What all candidates are evaluated on."""

    X: Any
    y: Any
    folds: Sequence[tuple[Any, Any]]


@dataclass(frozen=True, slots=True)
class Rest:
    """The other arguments of the function: scorer, fit parameters, what is to be returned."""

    arguments: Mapping[str, Any]


def run(
    *,
    function: Callable[..., Any],
    estimator: Any,
    rows: Rows,
    rest: Rest,
    parameters: Mapping[str, Any] | None,
    split: int,
) -> list[Any]:
    """What the function gives, in a list: a cell's dict of numbers would be taken for metrics."""
    train, test = rows.folds[split]
    own = {"parameters": parameters, "verbose": 0} if "scorer" in rest.arguments else {}
    return [function(clone(estimator), rows.X, rows.y, train=train, test=test, **rest.arguments, **own)]


def fit(*, estimator: Any, rows: Rows, rest: Rest) -> list[Any]:
    """A clone of the estimator, fitted on all rows."""
    fitted = clone(estimator)
    fitted.fit(rows.X, *(() if rows.y is None else (rows.y,)), **rest.arguments)
    return [fitted]
