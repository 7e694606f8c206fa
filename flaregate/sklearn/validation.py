"""The drop-in functions: scikit-learn's cross-validation, whose fits are done by jobs."""

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from sklearn import model_selection

from flaregate.sklearn.arguments import DOCUMENTED, extended, jobs_of
from flaregate.sklearn.calls import calls_to
from flaregate.sklearn.evaluating import Evaluator


def _by_jobs(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def called(*args: Any, client: Any = None, job_options: Any = None, **given: Any) -> Any:
        jobs = jobs_of(client, job_options)
        if jobs is None:
            return function(*args, **given)
        with calls_to(Evaluator(jobs)):
            return function(*args, **given)

    made = cast("Any", called)
    made.__signature__ = extended(function)
    made.__doc__ = f"scikit-learn's {function.__name__} {DOCUMENTED}"
    made.__module__ = __name__
    return called


cross_validate = _by_jobs(model_selection.cross_validate)
cross_val_score = _by_jobs(model_selection.cross_val_score)
cross_val_predict = _by_jobs(model_selection.cross_val_predict)
