"""scikit-learn's own seam: the joblib backend that hands the calls of a search or cross-validation to a job.

scikit-learn validates, makes folds, draws candidates, warns, tabulates and chooses; this takes only the loop over
(candidate, fold) from it. What it does not know (a user's own joblib calls in a scorer, say) runs here and now.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

from joblib import parallel_config
from joblib.parallel import ParallelBackendBase
from sklearn.model_selection._validation import _fit_and_predict, _fit_and_score

KNOWN = (_fit_and_score, _fit_and_predict)
"""What fits and scores, or fits and predicts, one candidate on one fold."""


@dataclass(frozen=True, slots=True)
class Call:
    """One fit that scikit-learn wants."""

    function: Callable[..., Any]
    arguments: dict[str, Any]
    """All by name."""


Evaluate = Callable[[Sequence[Call]], Sequence[Any]]
"""Gives what the calls give, in their order."""


@dataclass(slots=True)
class _Round:
    """The calls of one loop, evaluated together when the first result is asked for."""

    evaluate: Evaluate
    calls: list[Call] = field(default_factory=list)
    results: Sequence[Any] | None = None

    def result(self, place: int) -> Any:
        if self.results is None:
            self.results = self.evaluate(self.calls)
        return self.results[place]


@dataclass(frozen=True, slots=True)
class _Pending:
    """What joblib holds for a batch, which is of one call."""

    give: Callable[[], list[Any]]
    counted: Callable[[Any], None]
    """joblib waits until it has counted every batch."""

    def get(self) -> list[Any]:
        given = self.give()
        self.counted(given)
        return given


class JobBackend(ParallelBackendBase):  # type: ignore[misc]  # joblib has no types
    """Takes all calls before it gives any result."""

    def __init__(self, evaluate: Evaluate) -> None:
        super().__init__(nesting_level=0)
        self._evaluate = evaluate
        self._round = _Round(evaluate)

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Anything but one, which joblib would not ask a backend for."""
        return 2

    def configure(self, n_jobs: int = 1, parallel: Any = None, **rest: Any) -> int:
        """Have all calls handed over at once; `pre_dispatch` saves memory where calls run one by one."""
        parallel.pre_dispatch = "all"
        return int(super().configure(n_jobs, parallel, **rest))

    def start_call(self) -> None:
        """Begin another loop."""
        self._round = _Round(self._evaluate)

    def submit(self, func: Any, callback: Any) -> _Pending:
        """Take a call in."""
        ((wrapped, args, kwargs),) = func.items
        function = getattr(wrapped, "function", wrapped)
        if function not in KNOWN:
            return _Pending(func, callback)
        place, current = len(self._round.calls), self._round
        current.calls.append(Call(function, dict(signature(function).bind(*args, **kwargs).arguments)))
        return _Pending(lambda: [current.result(place)], callback)


@contextmanager
def calls_to(evaluate: Evaluate) -> Iterator[None]:
    """In this thread, scikit-learn's loops over candidates and folds are evaluated so."""
    with parallel_config(backend=JobBackend(evaluate)):
        yield
