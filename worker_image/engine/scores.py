"""Scores by scikit-learn's own scorers, and what stands in for them after an error. The one reader of `error_score`."""

import math
from collections.abc import Mapping
from numbers import Number
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin

from flaregate.routing import routed, routing
from flaregate_wire.definitions import JobDefinition
from flaregate_wire.events import ErrorDetail
from flaregate_wire.values import number_of
from worker_image.engine.rows import is_frozen
from worker_image.engine.running import READ_ONLY
from worker_image.engine.session import Session

SCORE = "score"
"""The name of the scores where `scoring` is None, a string or a callable."""
_COUNTED = "biu"


def scorer_names(definition: JobDefinition) -> tuple[str, ...]:
    """The names of a job's scores."""
    scoring = definition.scoring
    return tuple(scoring) if isinstance(scoring, tuple | dict) else (SCORE,)


def stand_in(definition: JobDefinition) -> dict[str, float]:
    """The scores of a fold that failed. With `error_score='raise'` the candidate has its error, and no number."""
    value = number_of(definition.error_score)
    return dict.fromkeys(scorer_names(definition), math.nan if value is None else value)


def score(
    session: Session,
    estimator: Any,
    instead: Mapping[str, float],
    X: Any,  # noqa: N803 - scikit-learn's name
    y: Any,
    weights: Any,
) -> tuple[dict[str, float], ErrorDetail | None]:
    """Scores by name. Of several scorers those that fail give what stands instead, and the first one's error.

    Args:
        session: Of the job.
        estimator: What is scored.
        instead: What stands for a number that could not be had.
        X: Rows.
        y: Targets.
        weights: `sample_weight`, which goes where metadata routing is enabled and the scorer asks for it.

    Raises what a single scorer raises, and ValueError where one of several wants to write into read-only rows.
    """
    params: dict[str, Any] = {}
    scorer = session.scorer(estimator)
    if weights is not None and routing():
        asked = estimator if session.scoring() is None else scorer
        params = routed(type(estimator).__name__, asked, "score", weights)
    accuracy = None if params else _accuracy(session, estimator, X, y)
    if accuracy is not None:
        return {SCORE: accuracy}, None
    given = scorer(estimator, X, **params) if y is None else scorer(estimator, X, y, **params)
    if not isinstance(given, Mapping):
        return {SCORE: _number(given, SCORE)}, None
    failed = {name: text for name, text in given.items() if isinstance(text, str)}
    if is_frozen(X) and any(READ_ONLY in text for text in failed.values()):
        raise ValueError(READ_ONLY)
    scores = {
        name: instead.get(name, math.nan) if name in failed else _number(value, name) for name, value in given.items()
    }
    return scores, _as_error(*next(iter(failed.items()))) if failed else None


def _accuracy(session: Session, estimator: Any, X: Any, y: Any) -> float | None:  # noqa: N803
    """The share of right predictions where that is what is asked for and both are whole numbers, else None.

    accuracy_score finds out the same in twenty times the time: what kinds of targets there are, and their labels.
    """
    if session.scoring() is None:
        asked = getattr(type(estimator), "score", None) is ClassifierMixin.score
    else:
        asked = session.scoring() == "accuracy" and isinstance(estimator, ClassifierMixin)
    if not (asked and type(y) is np.ndarray and y.ndim == 1 and y.dtype.kind in _COUNTED and len(y)):
        return None
    predicted = estimator.predict(X)
    if type(predicted) is np.ndarray and predicted.shape == y.shape and predicted.dtype.kind in _COUNTED:
        return float(np.mean(predicted == y))
    return None


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
