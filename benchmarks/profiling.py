"""Where the time of a search goes: the engine and its tasks in one process, under cProfile."""

import cProfile
import pstats
import sys

from benchmarks.engine_alone import run_engine
from benchmarks.harness import RESULTS, timed
from benchmarks.workloads import workload

LINES = 60


def profile(name: str) -> None:
    """Write results/profile_NAME.txt for one of w1 to w4."""
    from worker_image.engine.runner import SequentialRunner

    work = workload(name)
    run_engine(*work.job(), SequentialRunner())
    plain, _ = timed(run_engine, *work.job(), SequentialRunner())
    profiler = cProfile.Profile()
    profiler.runcall(run_engine, *work.job(), SequentialRunner())
    path = RESULTS / f"profile_{name}.txt"
    with path.open("w") as file:
        file.write(f"{name}, engine with SequentialRunner, one thread: {plain:.3f} s without the profiler\n")
        stats = pstats.Stats(profiler, stream=file).strip_dirs()
        for order in ("cumulative", "tottime"):
            stats.sort_stats(order).print_stats(LINES)
    sys.stdout.write(f"{path}\n")
