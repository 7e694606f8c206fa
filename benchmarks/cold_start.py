"""The start of an ephemeral cluster by phase, against a bare `ray.init` without dashboard in the same run."""

import subprocess
import sys

import flaregate as fg
from benchmarks import harness

BARE = """
import time
start = time.perf_counter()
import ray
ray.init(include_dashboard=False, num_cpus=2, log_to_driver=False, configure_logging=False)
ready = time.perf_counter() - start
ray.get(ray.remote(lambda: 1).remote())
print(ready, time.perf_counter() - start, flush=True)
import os; os._exit(0)
"""


def bare() -> dict[str, float]:
    """Seconds in a new process: import and init; until the first task's answer."""
    done = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True, check=True)
    ready, first = map(float, done.stdout.split())
    return {"bare_ready": ready, "bare_first_task": first}


def trivial(client: fg.Client) -> dict[str, float]:
    """Seconds from the submission of a one-candidate job to each phase."""
    from sklearn.datasets import load_iris
    from sklearn.tree import DecisionTreeClassifier

    pipe = fg.Pipeline("trivial")
    pipe.node("tree", DecisionTreeClassifier(random_state=0))
    X, y = load_iris(return_X_y=True)
    job = client.submit(pipe, action="cross_validate", X=X, y=y, cv=2)
    job.result()
    times = job.wait().timeline
    phases = ("launched", "booted", "inputs_ready", "ray_ready", "first_task", "first_outcome", "committed", "gone")
    start = times["queued"]
    return {phase: (times[phase] - start).total_seconds() for phase in phases if phase in times}


def run(name: str) -> None:
    """Measure pairs of both."""
    with fg.Client() as client:
        rows = [
            {key: round(value, 4) for key, value in (bare() | trivial(client)).items()} for _ in range(harness.PAIRS)
        ]
    harness.keep(
        name,
        rows,
        {
            "Ray ready against bare ray.init (gateway open, containers included)": ("ray_ready", "bare_ready"),
            "first outcome against first task of bare ray.init": ("first_outcome", "bare_first_task"),
        },
        "Seconds since the job was queued at an open embedded gateway, by phase; bare: in a new Python process.",
    )
