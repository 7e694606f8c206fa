"""Prints the signatures of what a worker can import by name, so that a gateway can plan without importing any of it.

`python -m worker_image.catalogue > gateway/jobs/catalogue.json` (`make golden`).
"""

import json
import sys
import warnings
from importlib.metadata import version

from sklearn.utils import all_estimators

from flaregate.imports import import_path
from flaregate.signatures import estimator_signature
from flaregate_wire.definitions import Signature


def signatures() -> dict[str, Signature]:
    """By import path, public and full; what cannot be made without arguments is left to the head to check."""
    found = {}
    for _, kind in all_estimators():
        try:
            estimator = kind()
        except TypeError:  # a required argument
            continue
        signature = estimator_signature(estimator)
        found[f"{kind.__module__}:{kind.__qualname__}"] = signature
        public = import_path(kind)
        if public is not None:
            found[public] = signature
    return found


def main() -> None:
    """Write the catalogue to standard output."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {path: made.model_dump(mode="json", exclude_defaults=True) for path, made in signatures().items()}
    rows = ",\n".join(f"{json.dumps(path)}: {json.dumps(row)}" for path, row in sorted(found.items()))
    sys.stdout.write(f'{{"scikit-learn": "{version("scikit-learn")}", "estimators": {{\n{rows}\n}}}}\n')


if __name__ == "__main__":
    main()
