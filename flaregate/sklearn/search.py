"""The drop-in searches: scikit-learn's classes, whose fits are done by jobs."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sklearn import model_selection
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - it is what imports them
from sklearn.model_selection._search import BaseSearchCV
from sklearn.model_selection._search_successive_halving import BaseSuccessiveHalving

from flaregate.sklearn.arguments import DOCUMENTED, extended, jobs_of
from flaregate.sklearn.calls import calls_to
from flaregate.sklearn.evaluating import Evaluator
from flaregate.sklearn.jobs import JobClient

_BEST = "best_estimator_"


class _JobSearch(BaseSearchCV):  # type: ignore[misc]  # scikit-learn has no types
    """What the searches have in common; stands before scikit-learn's class."""

    client: JobClient | None
    job_options: Mapping[str, Any] | None

    def fit(self, X: Any, y: Any = None, **params: Any) -> Any:  # noqa: N803 - scikit-learn's name
        """Evaluate all candidates by jobs, one for each set that scikit-learn asks for, and refit the best.

        Arguments, attributes, errors and warnings are scikit-learn's.
        """
        jobs = jobs_of(self.client, self.job_options)
        if jobs is None:
            return super().fit(X, y, **params)
        known = isinstance(self.refit, bool | str) and not isinstance(self, BaseSuccessiveHalving)
        evaluator = Evaluator(jobs, self.refit if known else False)
        with self._fitting(evaluator), calls_to(evaluator):
            return super().fit(X, y, **params)

    @property
    def best_estimator_(self) -> Any:
        """The best candidate, fitted on all rows."""
        try:
            return self.__dict__[_BEST]
        except KeyError:
            msg = f"{type(self).__name__!r} object has no attribute {_BEST!r}"
            raise AttributeError(msg) from None

    @best_estimator_.setter
    def best_estimator_(self, estimator: Any) -> None:
        evaluator = self.__dict__.get("_evaluator")
        self.__dict__[_BEST] = estimator if evaluator is None else _Unfitted(self, estimator, evaluator)

    @best_estimator_.deleter
    def best_estimator_(self) -> None:
        del self.__dict__[_BEST]

    @contextmanager
    def _fitting(self, evaluator: Evaluator) -> Iterator[None]:
        self._evaluator = evaluator
        try:
            yield
        finally:
            del self._evaluator
            if isinstance(self.__dict__.get(_BEST), _Unfitted):
                del self.best_estimator_

    def __getstate__(self) -> dict[str, Any]:
        """Without the client where that is of this process alone."""
        state: dict[str, Any] = super().__getstate__()
        if getattr(self.client, "embedded", True):
            state = state | {"client": None}
        return state


class _Unfitted:
    """Stands for the best estimator while scikit-learn's `fit` is about to fit it: that is done by jobs."""

    def __init__(self, search: _JobSearch, estimator: Any, evaluator: Evaluator) -> None:
        self._search = search
        self._estimator = estimator
        self._evaluator = evaluator

    def fit(self, X: Any, y: Any = None, **params: Any) -> None:  # noqa: N803
        """Fit it, and put it in its place."""
        search = self._search
        search.__dict__[_BEST] = self._evaluator.fitted(search.best_index_, self._estimator, X, y, params)


def _by_jobs(search: Any) -> Any:
    """The class with scikit-learn's own `__init__` and two arguments more."""
    own = search.__mro__[2].__init__

    def init(self: Any, *args: Any, client: Any = None, job_options: Any = None, **given: Any) -> None:
        own(self, *args, **given)
        self.client = client
        self.job_options = job_options

    search.__init__ = init
    search.__init__.__signature__ = extended(own)
    return search


@_by_jobs
class GridSearchCV(_JobSearch, model_selection.GridSearchCV):  # type: ignore[misc]
    __doc__ = f"""scikit-learn's GridSearchCV {DOCUMENTED}"""


@_by_jobs
class RandomizedSearchCV(_JobSearch, model_selection.RandomizedSearchCV):  # type: ignore[misc]
    __doc__ = f"""scikit-learn's RandomizedSearchCV {DOCUMENTED}"""


@_by_jobs
class HalvingGridSearchCV(_JobSearch, model_selection.HalvingGridSearchCV):  # type: ignore[misc]
    __doc__ = f"""scikit-learn's HalvingGridSearchCV, a job for each of its iterations, {DOCUMENTED}"""


@_by_jobs
class HalvingRandomSearchCV(_JobSearch, model_selection.HalvingRandomSearchCV):  # type: ignore[misc]
    __doc__ = f"""scikit-learn's HalvingRandomSearchCV, a job for each of its iterations, {DOCUMENTED}"""
