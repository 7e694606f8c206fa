"""Prints what is known of what a worker can import by name, so that a gateway can plan without importing any of it.

`python -m worker_image.catalogue > gateway/jobs/catalogue.json` (`make golden`).
"""

import json
import sys
import warnings
from importlib.metadata import version
from inspect import Parameter, getattr_static, signature
from typing import Literal

from sklearn.base import ClassifierMixin, ClusterMixin, RegressorMixin
from sklearn.utils import all_estimators, metaestimators

from flaregate.imports import import_path, resolve
from flaregate.signatures import estimator_signature
from flaregate_wire.catalogue import Row
from flaregate_wire.definitions import Ability

Kind = Literal["classifier", "regressor", "clusterer"]


_KINDS: tuple[tuple[type, Kind], ...] = (
    (ClassifierMixin, "classifier"),
    (RegressorMixin, "regressor"),
    (ClusterMixin, "clusterer"),
)
_EXPERIMENTAL = (
    "sklearn.impute:IterativeImputer",
    "sklearn.model_selection:HalvingGridSearchCV",
    "sklearn.model_selection:HalvingRandomSearchCV",
)
"""Of these scikit-learn tells only who asks by name."""
_FOLLOWED = ("steps", "estimator")
_CONDITIONAL = type(metaestimators.available_if(bool)(bool))


def rows() -> dict[str, Row]:
    """By import path, public and full; what only an object could tell is left to the head to check."""
    found: dict[str, Row] = {}
    for kind in (*(kind for _, kind in all_estimators()), *map(resolve, _EXPERIMENTAL)):
        try:
            made: Row | None = Row(**dict(estimator_signature(kind())))
        except TypeError:  # a required argument
            made = _class_row(kind)
        if made is not None:
            names = (f"{kind.__module__}:{kind.__qualname__}", import_path(kind))
            found |= dict.fromkeys(filter(None, names), made)
    return found


def _class_row(kind: type) -> Row | None:
    """What a class says of all its objects; None where it does not even say whose estimator decides their kind.

    Those of a kind of its own have the parameters of their estimators too, and may draw.
    """
    abilities = tuple(ability for ability in Ability if hasattr(kind, ability))
    params = signature(kind).parameters
    required = tuple(name for name, param in params.items() if param.default is Parameter.empty)
    known = next((word for mixin, word in _KINDS if issubclass(kind, mixin)), None)
    if known is None and (Ability.PREDICT in abilities or Ability.TRANSFORM not in abilities):
        return _following(kind, abilities, required)
    own = tuple(params)
    return Row(params=own, abilities=abilities, type=known or "other", draws=True, open=True, required=required)


def _following(kind: type, abilities: tuple[Ability, ...], required: tuple[str, ...]) -> Row | None:
    follows = next((name for name in _FOLLOWED if name in required and abilities), None)
    if follows is None:
        return None
    params = tuple(signature(kind).parameters)
    lent = tuple(ability for ability in abilities if isinstance(getattr_static(kind, ability), _CONDITIONAL))
    draws = "random_state" in params
    return Row(params=params, abilities=abilities, draws=draws, required=required, follows=follows, lent=lent)


def main() -> None:
    """Write the catalogue to standard output."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {path: made.model_dump(mode="json", exclude_defaults=True) for path, made in rows().items()}
    lines = ",\n".join(f"{json.dumps(path)}: {json.dumps(row)}" for path, row in sorted(found.items()))
    sys.stdout.write(f'{{"scikit-learn": "{version("scikit-learn")}", "estimators": {{\n{lines}\n}}}}\n')


if __name__ == "__main__":
    main()
