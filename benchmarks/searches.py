"""A search through flaregate, its ephemeral Ray included, against GridSearchCV(n_jobs=2), in pairs."""

from collections.abc import Callable
from datetime import datetime

import flaregate as fg
from benchmarks import harness
from benchmarks.workloads import Workload, w1, w2

WORKLOADS: dict[str, Callable[[], Workload]] = {"w1": w1, "w2": w2}


def run(name: str) -> None:
    """Measure one workload.

    `wall`: submit to result with the gateway open and Ray cold. `engine`: first task to last task, what a warm
    cluster would take. `peer`: GridSearchCV with its worker processes warm.
    """
    work = WORKLOADS[name]()
    rows: list[dict[str, float]] = []
    work.scikit_learn(n_jobs=2)
    with fg.Client() as client:
        for _ in range(harness.PAIRS):
            peer, search = harness.timed(work.scikit_learn, n_jobs=2)
            wall, (job, result) = harness.timed(work.flaregate, client)
            work.same(result, search)
            times: dict[str, datetime] = job.view().timeline
            engine = (times["last_task"] - times["first_task"]).total_seconds()
            rows.append({"peer": round(peer, 4), "wall": round(wall, 4), "engine": round(engine, 4)})
    harness.keep(
        name,
        rows,
        {"faster, cold, from submit to result": ("peer", "wall"), "faster, engine alone": ("peer", "engine")},
        f"{work.flaregate.__doc__} {run.__doc__}",
    )
