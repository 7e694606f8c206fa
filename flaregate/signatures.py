"""What the planner must know of a node, read from the live object; nothing is imported for it."""

import inspect
import sys
from collections.abc import Callable
from typing import Any, Literal

from flaregate_wire.definitions import Ability, Signature

_DRAWN = "random_state"


def estimator_signature(obj: Any) -> Signature:
    """The signature of an estimator: nested parameters, abilities, kind, and whether a seed is missing."""
    params = obj.get_params(deep=True) if callable(getattr(obj, "get_params", None)) else None
    drawn = (value for name, value in (params or {}).items() if name.rpartition("__")[2] == _DRAWN)
    return Signature(
        params=tuple(params or ()),
        abilities=tuple(ability for ability in Ability if hasattr(obj, ability)),
        type=_kind(obj),
        draws=any(value is None for value in drawn),
        open=params is None,
    )


def function_signature(function: Callable[..., Any], *, rows: bool = True) -> Signature:
    """What a function may be given by name: all but the rows of a node `f(X, **params)`, or all without `rows`."""
    try:
        rest = list(inspect.signature(function).parameters.values())
        if rows:
            _, *rest = rest
    except ValueError:  # no signature (some builtins), or one without parameters
        return Signature(params=(), abilities=(Ability.TRANSFORM,), open=True)
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return Signature(
        params=tuple(param.name for param in rest if param.kind in by_name),
        abilities=(Ability.TRANSFORM,),
        open=any(param.kind is inspect.Parameter.VAR_KEYWORD for param in rest),
    )


def _kind(obj: Any) -> Literal["classifier", "regressor", "clusterer", "other"]:
    if "sklearn" in sys.modules:
        from sklearn.base import is_classifier, is_clusterer, is_regressor  # noqa: PLC0415

        try:
            if is_classifier(obj):
                return "classifier"
            if is_regressor(obj):
                return "regressor"
            return "clusterer" if is_clusterer(obj) else "other"
        except AttributeError:  # no tags: the class does not derive from BaseEstimator
            pass
    declared = getattr(obj, "_estimator_type", None)
    return declared if declared in ("classifier", "regressor", "clusterer") else "other"
