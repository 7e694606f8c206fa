"""What a workload is: one piece of work in all the ways in which it can be done, each with the same numbers."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np

import flaregate as fg

JOBS = 2
"""Processes of those who must be told."""
Answer = dict[Any, Any]
"""Numbers, or arrays of them, by candidate."""


@contextmanager
def new_client(**options: Any) -> Iterator[fg.Client]:
    """A client whose embedded gateway has a home of its own; its heads wait for the next job unless `warm` is 0."""
    with TemporaryDirectory(prefix="flaregate-bench-") as home, fg.Client(home=home, **options) as client:
        yield client


class Crew(Protocol):
    """Who carries out a plan by hand: this process, or Ray."""

    def put(self, data: Any) -> Any: ...

    def call(self, function: Callable[..., Any], *given: Any) -> Any: ...

    def get(self, handle: Any) -> Any: ...


class Workload(Protocol):
    """One piece of work, in all the ways in which it can be done. Every way gives the same numbers."""

    def flaregate(self, client: fg.Client, **options: Any) -> tuple[Any, Answer]:
        """Submit and wait; the job and its numbers."""
        ...

    def peer(self) -> Answer:
        """By scikit-learn or joblib on JOBS processes, on joblib's backend of the moment."""
        ...

    def plan(self, crew: Crew) -> Answer:
        """By hand: rows put once, each prefix once a fold, short work in batches."""
        ...


def same(one: Answer, other: Answer) -> None:
    """Stop the benchmark if numbers differ: a fast wrong answer is no answer."""
    if one.keys() != other.keys():
        msg = f"other candidates: {list(one)[:3]}… and {list(other)[:3]}…"
        raise AssertionError(msg)
    np.testing.assert_allclose([one[key] for key in other], list(other.values()), rtol=1e-12)


class Submitted(ABC):
    """A workload that is a pipeline with axes and folds."""

    @abstractmethod
    def job(self) -> tuple[fg.Pipeline, dict[str, Any]]:
        """What is submitted: the pipeline, and the options beside it."""

    @abstractmethod
    def numbers(self, outcomes: Iterable[Any]) -> Answer:
        """The mean scores of outcomes, by candidate as every other way names it."""

    def flaregate(self, client: fg.Client, **options: Any) -> tuple[Any, Answer]:
        pipe, given = self.job()
        job = client.submit(pipe, **given, **options)
        return job, self.numbers(job.result().outcomes)
