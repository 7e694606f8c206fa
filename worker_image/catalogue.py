"""Prints the signatures of what a worker can import by name, so that a gateway can plan without importing any of it.

`python -m worker_image.catalogue > gateway/jobs/catalogue.json` (`make golden`).
"""

import json
import sys
import warnings
from importlib.metadata import version
from inspect import signature
from typing import Literal

from sklearn.base import ClassifierMixin, ClusterMixin, RegressorMixin
from sklearn.utils import all_estimators

from flaregate.imports import import_path
from flaregate.signatures import estimator_signature
from flaregate_wire.definitions import Ability, Signature

Kind = Literal["classifier", "regressor", "clusterer"]


_KINDS: tuple[tuple[type, Kind], ...] = (
    (ClassifierMixin, "classifier"),
    (RegressorMixin, "regressor"),
    (ClusterMixin, "clusterer"),
)


def signatures() -> dict[str, Signature]:
    """By import path, public and full; what only an object could tell is left to the head to check."""
    found: dict[str, Signature] = {}
    for _, kind in all_estimators():
        try:
            made: Signature | None = estimator_signature(kind())
        except TypeError:  # a required argument
            made = _class_signature(kind)
        if made is not None:
            names = (f"{kind.__module__}:{kind.__qualname__}", import_path(kind))
            found |= dict.fromkeys(filter(None, names), made)
    return found


def _class_signature(kind: type) -> Signature | None:
    """What a class says of all its objects; None where their kind depends on the estimators that they are given.

    Those have parameters of their own, and may draw.
    """
    abilities = tuple(ability for ability in Ability if hasattr(kind, ability))
    known = next((word for mixin, word in _KINDS if issubclass(kind, mixin)), None)
    if known is None and (Ability.PREDICT in abilities or Ability.TRANSFORM not in abilities):
        return None
    params = tuple(name for name in signature(kind).parameters)
    return Signature(params=params, abilities=abilities, type=known or "other", draws=True, open=True)


def main() -> None:
    """Write the catalogue to standard output."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {path: made.model_dump(mode="json", exclude_defaults=True) for path, made in signatures().items()}
    rows = ",\n".join(f"{json.dumps(path)}: {json.dumps(row)}" for path, row in sorted(found.items()))
    sys.stdout.write(f'{{"scikit-learn": "{version("scikit-learn")}", "estimators": {{\n{rows}\n}}}}\n')


if __name__ == "__main__":
    main()
