"""Scores by scikit-learn's own scorers, and what stands in for them after an error. The one reader of `error_score`."""

import math
from collections.abc import Mapping
from numbers import Number
from typing import Any

from sklearn.metrics import check_scoring

from flaregate_wire.definitions import JobDefinition
from flaregate_wire.events import ErrorDetail

SCORE = "score"
"""The name of the scores where `scoring` is None, a string or a callable."""


def scorer_names(definition: JobDefinition) -> tuple[str, ...]:
    """The names of a job's scores."""
    scoring = definition.scoring
    return tuple(scoring) if isinstance(scoring, tuple | dict) else (SCORE,)


def stand_in(definition: JobDefinition) -> dict[str, float]:
    """The scores of a fold that failed. With `error_score='raise'` the candidate has its error, and no number."""
    given = definition.error_score
    if isinstance(given, dict):
        given = float(given.get("$float", "nan"))  # type: ignore[arg-type]
    value = float(given) if isinstance(given, int | float) else math.nan
    return dict.fromkeys(scorer_names(definition), value)


def score(
    estimator: Any,
    X: Any,  # noqa: N803 - scikit-learn's name
    y: Any,
    scoring: Any,
    instead: Mapping[str, float],
) -> tuple[dict[str, float], ErrorDetail | None]:
    """Scores by name. Of several scorers those that fail give what stands instead, and the first one's error.

    Raises what a single scorer raises.
    """
    scorer = check_scoring(estimator, scoring=scoring, raise_exc=False)
    given = scorer(estimator, X) if y is None else scorer(estimator, X, y)
    if not isinstance(given, Mapping):
        return {SCORE: _number(given, SCORE)}, None
    failed = {name: text for name, text in given.items() if isinstance(text, str)}
    scores = {
        name: instead.get(name, math.nan) if name in failed else _number(value, name) for name, value in given.items()
    }
    return scores, _as_error(*next(iter(failed.items()))) if failed else None


def _number(value: Any, name: str) -> float:
    if hasattr(value, "item"):
        value = value.item()
    if not isinstance(value, Number):
        msg = f"scoring must return a number, {name!r} gave {type(value).__name__}"
        raise TypeError(msg)
    return float(value)  # type: ignore[arg-type]


def _as_error(name: str, text: str) -> ErrorDetail:
    """scikit-learn gives a failed scorer's formatted traceback in place of its number."""
    last = text.strip().rpartition("\n")[2]
    kind, _, message = last.partition(": ")
    return ErrorDetail(type=kind.rpartition(".")[2], message=f"scorer {name!r}: {message}", traceback=text)
