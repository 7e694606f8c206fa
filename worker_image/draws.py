"""Whether fitting an estimator draws random numbers that no seed fixes: what it gives then serves no other job.

`random_state=None` counts as drawing unless the table here says that the estimator with these parameters does not.
tests/worker/test_draws.py fits scikit-learn's estimators under two global seeds to see that it is right.
"""

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from numbers import Integral
from typing import Any

import numpy as np

from flaregate.imports import import_path

Shape = tuple[int, int]
"""Rows and columns of dense training data."""
Params = Mapping[str, Any]
_Rule = Callable[[Params, Shape | None], bool]

_PLAIN = (bool, int, float, str, bytes, np.ndarray)
_STREAMS = (np.random.RandomState, np.random.Generator, np.random.BitGenerator)
_FULL_ROWS, _FULL_SIDE, _TALL, _COLUMNS, _MANY = 10_000, 500, 10, 1000, 0.8


def draws(estimator: Any, shapes: Collection[Shape] = ()) -> bool:
    """Whether an unfitted estimator, or anything that its parameters hold, draws without a seed.

    Args:
        estimator: Any object with the scikit-learn contract.
        shapes: Of all that it is fitted on, where that is known and dense: some solvers go by it.
    """
    known: Collection[Shape | None] = shapes or (None,)
    return any(
        _draws_itself(part, params, known if part is estimator else (None,)) for part, params in _parts(estimator)
    )


def _parts(estimator: Any) -> Iterator[tuple[Any, Params]]:
    """An estimator and all that its parameters hold, however deep, each with its own parameters."""
    seen: dict[int, Any] = {}
    waiting = [estimator]
    while waiting:
        part = waiting.pop()
        if id(part) in seen or part is None or isinstance(part, _PLAIN):
            continue
        seen[id(part)] = part
        params = _params(part)
        yield part, params
        if isinstance(part, list | tuple | set | frozenset):
            waiting.extend(part)
        elif isinstance(part, Mapping):
            waiting.extend(part.values())
        elif type(part).__name__ != "FrozenEstimator":  # which is not fitted
            waiting.extend(params.values())


def _params(part: Any) -> Params:
    """Parameters of an estimator or a splitter; none of anything else."""
    if isinstance(part, type):
        return {}
    if callable(getattr(part, "get_params", None)):
        return dict(part.get_params(deep=False))
    if any(callable(getattr(part, method, None)) for method in ("fit", "split")):
        return dict(getattr(part, "__dict__", {}))
    return {}


def _draws_itself(part: Any, params: Params, shapes: Collection[Shape | None]) -> bool:
    if isinstance(part, _STREAMS) or part is np.random:  # each use moves it on
        return True
    if not params:
        return callable(part) and not isinstance(part, type) and _unseeded_function(part)
    if "random_state" not in params or isinstance(params["random_state"], Integral):
        return False
    if params["random_state"] not in (None, "deprecated"):
        return True
    if not hasattr(part, "fit"):  # a splitter
        return bool(params.get("shuffle", True))
    rule = _rule_of(type(part))  # type: ignore[arg-type]  # classes are hashable
    return rule is None or any(rule(params, shape) for shape in shapes)


@cache
def _rule_of(kind: type) -> _Rule | None:
    return _RULES.get(import_path(kind) or "")


def _unseeded_function(function: Any) -> bool:
    """Such as mutual_info_classif: a seed that nobody has given."""
    try:
        seed = inspect.signature(function).parameters.get("random_state")
    except (ValueError, TypeError):  # some builtins have no signature
        return False
    return seed is not None and seed.default is None


def _where(name: str, values: Collection[Any]) -> _Rule:
    """It draws where a parameter has one of these values."""
    return lambda params, _: not isinstance(params[name], np.ndarray) and params[name] in values


def _unless(name: str, values: Collection[Any]) -> _Rule:
    """It draws where a parameter has none of these values."""
    return lambda params, _: isinstance(params[name], np.ndarray) or params[name] not in values


def _pca(params: Params, shape: Shape | None) -> bool:
    solver, components = params["svd_solver"], params["n_components"]
    if solver != "auto" or shape is None:  # a sparse matrix would be given to arpack
        return solver not in ("full", "covariance_eigh")
    rows, columns = shape
    exact = (columns <= _COLUMNS and rows >= _TALL * columns) or max(shape) <= _FULL_SIDE
    few = isinstance(components, Integral) and 1 <= int(components) < _MANY * min(rows, columns)
    return few and not exact


def _linear_svm(params: Params, _: Shape | None) -> bool:
    plain = params.get("penalty", "l2") == "l2" and params.get("multi_class", "ovr") == "ovr"
    return params["dual"] is not False or not plain


def _gradient_descent(params: Params, _: Shape | None) -> bool:
    return bool(params["shuffle"] or params.get("early_stopping"))


def _histogram_boosting(params: Params, shape: Shape | None) -> bool:
    small = shape is not None and shape[0] <= _FULL_ROWS
    stops = params["early_stopping"] if params["early_stopping"] != "auto" else not small
    return bool(stops or not small or params["max_features"] < 1)


def _quantiles(params: Params, shape: Shape | None) -> bool:
    return params["subsample"] is not None and (shape is None or shape[0] > params["subsample"])


def _imputation(params: Params, _: Shape | None) -> bool:
    some = params["n_nearest_features"] is not None
    return bool(params["sample_posterior"] or some or params["imputation_order"] == "random")


def _centres(params: Params, _: Shape | None) -> bool:
    return isinstance(params["init"], str) or callable(params["init"])


def _threshold(params: Params, _: Shape | None) -> bool:
    return isinstance(params["cv"], float)  # one shuffled split


_LASSOS = (
    "Lasso LassoCV MultiTaskLasso MultiTaskLassoCV ElasticNet ElasticNetCV MultiTaskElasticNet MultiTaskElasticNetCV"
)
_DESCENDING = (
    "SGDClassifier SGDRegressor SGDOneClassSVM Perceptron PassiveAggressiveClassifier PassiveAggressiveRegressor"
)
_TABLE: tuple[tuple[str, str, _Rule], ...] = (
    ("cluster", "KMeans", _centres),
    ("decomposition", "FactorAnalysis", _where("svd_method", ("randomized",))),
    ("decomposition", "FastICA", _where("w_init", (None,))),
    ("decomposition", "KernelPCA", _unless("eigen_solver", ("dense",))),
    ("decomposition", "PCA", _pca),
    ("dummy", "DummyClassifier", _where("strategy", ("stratified", "uniform"))),
    ("ensemble", "HistGradientBoostingClassifier HistGradientBoostingRegressor", _histogram_boosting),
    ("gaussian_process", "GaussianProcessClassifier GaussianProcessRegressor", _unless("n_restarts_optimizer", (0,))),
    ("impute", "IterativeImputer", _imputation),
    ("linear_model", "Lars LassoLars", _unless("jitter", (None,))),
    ("linear_model", "LogisticRegression LogisticRegressionCV", _where("solver", ("liblinear", "sag", "saga"))),
    ("linear_model", "Ridge RidgeClassifier", _where("solver", ("sag", "saga"))),
    ("linear_model", _DESCENDING, _gradient_descent),
    ("linear_model", _LASSOS, _where("selection", ("random",))),
    ("manifold", "LocallyLinearEmbedding", _unless("eigen_solver", ("dense",))),
    ("model_selection", "TunedThresholdClassifierCV", _threshold),
    ("multioutput", "ClassifierChain RegressorChain", _where("order", ("random",))),
    ("neighbors", "NeighborhoodComponentsAnalysis", _where("init", ("auto", "pca", "random"))),
    ("preprocessing", "KBinsDiscretizer QuantileTransformer", _quantiles),
    ("preprocessing", "TargetEncoder", _unless("shuffle", (False,))),
    ("svm", "LinearSVC LinearSVR", _linear_svm),
    ("svm", "NuSVC SVC", _where("probability", (True,))),
)
"""Modules and names of exact classes, since a subclass may do anything, and whether they draw."""

_RULES = {f"sklearn.{module}:{name}": rule for module, names, rule in _TABLE for name in names.split()}
