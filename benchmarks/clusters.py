"""A head and a worker with and without TLS between them: forming, working with large arrays, ending."""

import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from sklearn.linear_model import SGDClassifier
from sklearn.preprocessing import StandardScaler

import flaregate as fg
from benchmarks import harness
from benchmarks.harness import Claim, Row
from benchmarks.platforms import gateway

ABOUT = (
    "Seconds of a job on a head and a worker of one CPU each, on loopback, with TLS between the two nodes and without: "
    "from its submission until the worker has joined, and until the results are committed, with 32 MB of rows that go "
    "to the worker and as much from step to step; and from there until every container is gone."
)
SHAPE = (40_000, 100)
COUNT = 8


def measured(client: fg.Client, rows: np.ndarray, target: np.ndarray) -> Row:
    """One job."""
    pipe = fg.Pipeline("clusters")
    pipe.node("sgd", SGDClassifier(random_state=0, max_iter=5, tol=None), after=pipe.node("scale", StandardScaler()))
    axes = {"scale__with_mean": [True, False], "sgd__alpha": [10.0**-power for power in range(1, COUNT // 2 + 1)]}
    sizes = {"workers": 1, "min_workers": 1, "cpus": 1, "memory": 2_000_000_000}
    job = client.submit(pipe, X=rows, y=target, axes=axes, cv=3, cache="off", refit=False, **sizes)
    hosts = job.result().stats.hosts
    if len(hosts) != 2:
        msg = f"tasks ran on {hosts}"
        raise AssertionError(msg)
    times = job.wait().timeline
    return {
        "joined": (times["joined"] - times["queued"]).total_seconds(),
        "committed": (times["committed"] - times["queued"]).total_seconds(),
        "teardown": (times["gone"] - times["committed"]).total_seconds(),
    }


def run(name: str, pairs: int = harness.PAIRS) -> None:
    """Measure pairs of both."""
    rows = np.random.default_rng(0).normal(size=SHAPE)
    target = (rows[:, 0] + rows[:, 1] > 0).astype(int)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flaregate-bench-")))
        clients = {
            way: stack.enter_context(gateway(folder / way, {"LAUNCHER": "local", "NODE_TLS": str(way == "tls")}))
            for way in ("plain", "tls")
        }
        measurements = []
        for number in range(pairs):
            row: Row = {}
            for way in sorted(clients, reverse=number % 2 == 1):
                times = measured(clients[way], rows, target)
                row |= {f"{way}_{phase}": seconds for phase, seconds in times.items()}
            measurements.append(row)
    told = [
        Claim("a worker joins by TLS, against without", "tls_joined", "plain_joined", "at most", 1.2, 1.05),
        Claim("results of two nodes by TLS, against without", "tls_committed", "plain_committed", "at most", 1.2, 1.05),
        Claim("results committed to head and worker gone, s", "plain_teardown", None, "at most", 1, 0.3),
        Claim("the same with TLS, s", "tls_teardown", None, "at most", 1, 0.3),
    ]
    harness.keep(name, measurements, told, ABOUT)
