"""The start of an ephemeral cluster by phase, against a bare `ray.init` without dashboard in the same run."""

import subprocess
import sys
import time
from typing import Any

import flaregate as fg
from benchmarks import harness
from benchmarks.harness import Claim
from benchmarks.work import new_client

ABOUT = (
    "Seconds since a job of one candidate was queued at an open embedded gateway whose heads do not wait for another "
    "job, by phase, containers included; ray_ready: of a job that works until Ray is there. Bare: in a new Python "
    "process."
)
PHASES = ("launched", "booted", "inputs_ready", "first_task", "first_outcome", "committed", "gone")
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


def trivial(client: fg.Client, **resources: Any) -> dict[str, float]:
    """Seconds from the submission of a one-candidate job to each phase, and from its last word to nothing left."""
    from sklearn.datasets import load_iris
    from sklearn.tree import DecisionTreeClassifier

    pipe = fg.Pipeline("trivial")
    pipe.node("tree", DecisionTreeClassifier(random_state=0))
    X, y = load_iris(return_X_y=True)
    job = client.submit(pipe, action="cross_validate", X=X, y=y, cv=2, cache="off", **resources)
    job.result()
    times = job.wait().timeline
    start = times["queued"]
    row = {phase: (times[phase] - start).total_seconds() for phase in PHASES if phase in times}
    return row | {"teardown": row["gone"] - row["committed"]}


def rest(cell: int) -> int:
    """A cell of a sweep that lasts until Ray is there."""
    time.sleep(0.5)
    return cell


def cluster(client: fg.Client, **resources: Any) -> dict[str, float]:
    """Seconds from the submission of a job that lasts until Ray can be used; then it is cancelled."""
    pipe = fg.Pipeline("rest")
    pipe.node("rest", rest, memory=1_000_000)  # only Ray keeps memory free, so it is started at once
    job = client.sweep(pipe, axes={"rest__cell": list(range(500))}, cache="off", **resources)
    for event in job.events():
        if event.type == "attempt" and event.phase == "ray_ready":
            break
    job.cancel()
    times = job.wait().timeline
    return {"ray_ready": (times["ray_ready"] - times["queued"]).total_seconds()}


def run(name: str, pairs: int = harness.PAIRS) -> None:
    """Measure pairs of both."""
    with new_client(warm=0) as client:
        rows = [bare() | trivial(client) | cluster(client) for _ in range(pairs)]
    told = [
        Claim("Ray ready, against bare ray.init without dashboard", "ray_ready", "bare_ready", "at most", 1.4, 1.1),
        Claim("first outcome, against the first task of bare ray.init", "first_outcome", "bare_first_task", "at most"),
        Claim("teardown after the last result, s", "teardown", None, "at most", 3, 1.5),
    ]
    harness.keep(name, rows, told, ABOUT)
