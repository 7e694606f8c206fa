"""scikit-learn's own test modules, imported from the installed wheel with our drop-ins in the place of its classes."""

import sys
from contextlib import contextmanager
from importlib import import_module

from sklearn import model_selection
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.utils import estimator_checks  # noqa: F401 - it keeps tables by class: it must see scikit-learn's own
from sklearn.utils._test_common import instance_generator  # noqa: F401 - the same

from flaregate import sklearn as ours

PACKAGE = "sklearn.model_selection.tests"


@contextmanager
def _substituted():
    """While a module is imported, scikit-learn gives our drop-ins under its names: parametrized tests hold them too."""
    before = {name: getattr(model_selection, name) for name in ours.__all__}
    for name in ours.__all__:
        setattr(model_selection, name, getattr(ours, name))
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(model_selection, name, value)


def taken_from(module):
    """The tests of a module of scikit-learn's, by name. The module keeps its own name, so that workers can import it."""
    sys.modules.pop(f"{PACKAGE}.{module}", None)
    with _substituted():
        theirs = import_module(f"{PACKAGE}.{module}")
    return {name: value for name, value in vars(theirs).items() if name.startswith("test_") and callable(value)}
