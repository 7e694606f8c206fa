"""100,000 candidates × 5 folds of an estimator that does nothing: what is left is the framework."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

import flaregate as fg
from benchmarks import harness
from benchmarks.engine_alone import run_engine
from benchmarks.harness import Claim, CpuMeter, Row, peak_memory, timed
from benchmarks.work import new_client

FOLDS = 5
ABOUT = (
    "Wall and CPU seconds for each (candidate, fold) of a search whose estimator's fit and score do nothing, on two "
    "CPUs; and the most memory that the driver's process had. Engine: on a runner, without gateway. Gateway: from "
    "submit to result, 100,000 outcomes in the caller's hands."
)


class Nothing(ClassifierMixin, BaseEstimator):
    """Fits nothing, and is always half right."""

    def __init__(self, a: int = 0, b: int = 0, c: int = 0) -> None:
        self.a, self.b, self.c = a, b, c

    def fit(self, X: Any, y: Any) -> "Nothing":
        return self

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        return 0.5


def given(candidates: int) -> tuple[fg.Pipeline, dict[str, Any]]:
    """The pipeline, and what is submitted beside it."""
    pipe = fg.Pipeline("scale")
    pipe.node("nothing", Nothing())
    sizes = {"a": 100, "b": 100, "c": candidates // 10_000} if candidates >= 10_000 else {"a": candidates}
    axes = {f"nothing__{name}": list(range(size)) for name, size in sizes.items()}
    y = np.arange(50) % 2
    return pipe, {"X": np.zeros((50, 1)), "y": y, "axes": axes, "cv": FOLDS, "refit": False}


def run(name: str, pairs: int = harness.PAIRS, candidates: int = 100_000) -> None:
    """Measure each way in turn, several times; each in a process of its own: its peak is not another's."""
    rows = []
    for _ in range(pairs):
        row: Row = {}
        for way in (_sequential, _ray, _gateway):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                row |= process.submit(way, candidates).result()
        rows.append(row)
    told = [
        Claim("engine on Ray, wall ms a (candidate, fold)", "Ray, ms", None, "at most", 1, 0.2),
        Claim("engine on Ray, CPU ms a (candidate, fold)", "Ray, CPU ms", None, "at most", 1, 0.2),
        Claim("sequential engine, wall ms a (candidate, fold)", "sequential, ms", None, "at most", 1, 0.2),
        Claim("through the gateway, wall ms a (candidate, fold)", "gateway, ms", None, "at most", 1, 0.2),
        Claim("driver's peak memory on Ray, MB", "Ray, peak MB", None, "at most"),
        Claim("driver's memory for its candidates on Ray, MB", "Ray, grown MB", None, "at most"),
    ]
    harness.keep(name, rows, told, ABOUT, notes={"candidates": candidates, "folds": FOLDS})


def _sequential(candidates: int) -> Row:
    from worker_image.engine.runner import SequentialRunner

    return _engine("sequential", SequentialRunner(), candidates)


def _ray(candidates: int) -> Row:
    import ray

    from worker_image.ray_runner import Connection, RayRunner

    ray.init(include_dashboard=False, num_cpus=2, log_to_driver=False, configure_logging=False)
    try:
        return _engine("Ray", RayRunner(Connection(ray.get_runtime_context().get_node_id())), candidates)
    finally:
        ray.shutdown()


def _engine(title: str, runner: Any, candidates: int) -> Row:
    run_engine(*given(100), runner)  # imports and processes are there
    before = peak_memory()
    with CpuMeter() as meter:
        wall, ran = timed(run_engine, *given(candidates), runner, keep=False)
    assert ran.result is not None
    assert ran.result.outcomes == candidates, ran.result
    assert ran.result.stats.fits == {"nothing": candidates * FOLDS}
    return {
        f"{title}, s": wall,
        f"{title}, ms": wall / candidates / FOLDS * 1000,
        f"{title}, CPU ms": meter.seconds / candidates / FOLDS * 1000,
        f"{title}, peak MB": peak_memory(),
        f"{title}, grown MB": peak_memory() - before,
        f"{title}, tasks": ran.result.stats.tasks,
    }


def _gateway(candidates: int) -> Row:
    with new_client() as client:
        pipe, small = given(100)
        client.submit(pipe, **small).result()
        pipe, whole = given(candidates)
        wall, result = timed(lambda: client.submit(pipe, **whole).result())
        assert [outcome.mean for outcome in result.outcomes] == [0.5] * candidates
    return {
        "gateway, s": wall,
        "gateway, ms": wall / candidates / FOLDS * 1000,
        "gateway, caller's peak MB": peak_memory(),
    }
