"""W5 and W6: a function mapped over many rows, and a function swept over its arguments."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import joblib
import numpy as np
from sklearn.datasets import make_classification
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import ParameterGrid

import flaregate as fg
from benchmarks.work import JOBS, Answer, Crew


@dataclass(frozen=True)
class Rows:
    """A slow function over many rows."""

    rows: Any
    pieces: int = 16
    """Into so many the peers cut the rows; flaregate finds its own size."""

    def flaregate(self, client: fg.Client, **options: Any) -> tuple[Any, Answer]:
        job = client.map(explain, self.rows, **options)
        return job, _whole(job.result().outputs)

    def peer(self) -> Answer:
        pieces = np.array_split(self.rows, self.pieces)
        return _whole(joblib.Parallel(n_jobs=JOBS)(joblib.delayed(explain)(piece) for piece in pieces))

    def plan(self, crew: Crew) -> Answer:
        handles = [crew.call(explain, piece) for piece in np.array_split(self.rows, self.pieces)]
        return _whole([crew.get(handle) for handle in handles])


def explain(rows: Any) -> Any:
    """How much each feature moves the answer of a small model, row by row, as explainers over samples do it."""
    weights = np.linspace(-1, 1, rows.shape[1])
    answer = np.empty_like(rows)
    for place, row in enumerate(rows):
        whole = math.tanh(float(row @ weights))
        for feature, value in enumerate(row):
            answer[place, feature] = whole - math.tanh(float(row @ weights) - value * weights[feature])
    return answer


def _whole(blocks: Sequence[Any]) -> Answer:
    return {"rows": np.concatenate(list(blocks))}


def w5() -> Rows:
    """A map of a slow function over 100,000 rows."""
    return Rows(np.random.default_rng(0).normal(size=(100_000, 40)))


@dataclass(frozen=True)
class Cells:
    """A function of a task, a seed and a rate, in every combination."""

    axes: dict[str, list[Any]]

    def flaregate(self, client: fg.Client, **options: Any) -> tuple[Any, Answer]:
        job = client.sweep(tune, axes=self.axes, **options)
        return job, {_cell(one.axes): one.metrics["accuracy"] for one in job.result().outcomes}

    def peer(self) -> Answer:
        cells = list(ParameterGrid(self.axes))
        made = joblib.Parallel(n_jobs=JOBS)(joblib.delayed(tune)(**cell) for cell in cells)
        return {_cell(cell): one["accuracy"] for cell, one in zip(cells, made, strict=True)}

    def plan(self, crew: Crew) -> Answer:
        cells = list(ParameterGrid(self.axes))
        handles = [crew.call(tune, cell["task"], cell["seed"], cell["rate"]) for cell in cells]
        return {_cell(cell): crew.get(handle)["accuracy"] for cell, handle in zip(cells, handles, strict=True)}


def tune(task: int, seed: int, rate: float) -> dict[str, float]:
    """Train a small model on one of several tasks, from one seed, at one learning rate."""
    X, y = make_classification(1_000, 40, n_informative=10, random_state=task)
    model = SGDClassifier(
        loss="log_loss", learning_rate="constant", eta0=rate, max_iter=200, tol=None, random_state=seed
    )
    return {"accuracy": float(model.fit(X[:800], y[:800]).score(X[800:], y[800:]))}


def w6() -> Cells:
    """A sweep of 10 tasks × 10 seeds × 2 rates."""
    return Cells({"task": list(range(10)), "seed": list(range(10)), "rate": [0.001, 0.01]})


def _cell(axes: dict[str, Any]) -> Any:
    return tuple(sorted(axes.items()))
