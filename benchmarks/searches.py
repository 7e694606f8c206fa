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
    rows = []
    work.scikit_learn(n_jobs=2)
    with fg.Client() as client:
        for _ in range(harness.PAIRS):
            search = work.scikit_learn
            row: dict[str, float] = {}
            found = []
            row["peer"] = harness.seconds(lambda: found.append(search(n_jobs=2)))
            ran = []
            row["wall"] = harness.seconds(lambda: ran.append(work.flaregate(client)))
            job, result = ran[0]
            work.same(result, found[0])
            times: dict[str, datetime] = job.view().timeline
            row["engine"] = (times["last_task"] - times["first_task"]).total_seconds()
            rows.append({key: round(value, 4) for key, value in row.items()})
    harness.keep(
        name,
        rows,
        {"faster, cold, from submit to result": ("peer", "wall"), "faster, engine alone": ("peer", "engine")},
        f"{work.flaregate.__doc__} {run.__doc__}",
    )
