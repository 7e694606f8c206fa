"""The Ray Job API, which users would take instead: a cluster by `ray start`, jobs by `ray job submit`."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from benchmarks import harness
from benchmarks.cold_start import trivial
from benchmarks.harness import Claim, Row, timed
from benchmarks.platforms import gateway
from tests.servers.processes import free_ports

RAY = (sys.executable, "-m", "ray.scripts.scripts")
TRIVIAL = """
from sklearn.datasets import load_iris
from sklearn.model_selection import cross_val_score
from sklearn.tree import DecisionTreeClassifier
print(cross_val_score(DecisionTreeClassifier(random_state=0), *load_iris(return_X_y=True), cv=2))
"""
PRINTS = """
import sys, time
for _ in range(int(sys.argv[1])):
    print(time.time(), flush=True)
    time.sleep(float(sys.argv[2]))
"""
TAIL = """
import asyncio, contextlib, sys, time
from ray.job_submission import JobSubmissionClient
client = JobSubmissionClient(sys.argv[1])
async def tail(entrypoint):
    start, rest = time.time(), ""
    async for piece in client.tail_job_logs(client.submit_job(entrypoint=entrypoint)):
        *lines, rest = (rest + piece).split("\\n")
        for line in lines:
            with contextlib.suppress(ValueError):
                print(start, float(line), time.time(), flush=True)
asyncio.run(tail(sys.argv[2]))
"""
ABOUT = (
    "Seconds of one cross-validation of a decision tree over iris (2 folds). flaregate: from submit() at a gateway "
    "that serves and has no head, until the client knows that it succeeded and its containers are gone. Job API: from "
    "`ray start --head` with its dashboard, then `ray job submit` of a script that does the same without a task of "
    "Ray, until that command has returned; start: of this, `ray start`."
)


@contextmanager
def cluster(script: str) -> Iterator[tuple[str, str, float]]:
    """The dashboard's URL, a file of the script, and the seconds of `ray start`; every process of it is ended."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        (port, dashboard), file = free_ports(2), Path(folder, "script.py")
        file.write_text(script)
        options = [f"--port={port}", f"--dashboard-port={dashboard}", f"--temp-dir={folder}", "--num-cpus=2"]
        command = [*RAY, "start", "--head", "--include-dashboard=true", "--disable-usage-stats", *options]
        begun = time.perf_counter()
        with subprocess.Popen(command, env=_environment(), stdout=subprocess.DEVNULL, start_new_session=True) as start:
            try:
                if start.wait(60) != 0:
                    msg = f"ray start ended with {start.returncode}"
                    raise RuntimeError(msg)
                yield f"http://127.0.0.1:{dashboard}", str(file), time.perf_counter() - begun
            finally:
                _end(start.pid, folder)


def logs(lines: int, between: float) -> Row:
    """Milliseconds from the print of a line to its reader, and from the submission to the first, on a warm cluster."""
    with cluster(PRINTS) as (url, file, _):
        command = [sys.executable, "-c", TAIL, url, f"{sys.executable} {file} {lines} {between}"]
        read = subprocess.run(command, env=_environment(), stdout=subprocess.PIPE, text=True, check=True).stdout
    told = [[float(one) for one in line.split()] for line in read.splitlines()]
    late = sorted((arrived - printed) * 1000 for _, printed, arrived in told)
    first = min((arrived - start) * 1000 for start, _, arrived in told)
    return {
        "Job API, p50 ms": statistics.median(late),
        "Job API, p99 ms": late[int(len(late) * 0.99)],
        "Job API, first line ms": first,
    }


def run(name: str, pairs: int = harness.PAIRS) -> None:
    """Measure pairs of a trivial job at a gateway without a head and by the Job API without a cluster."""
    with (
        tempfile.TemporaryDirectory(prefix="flaregate-bench-") as folder,
        gateway(Path(folder) / "gateway", {"LAUNCHER": "local"}) as client,
    ):
        rows = [_cold() | {"flaregate": timed(trivial, client)[0]} for _ in range(pairs)]
    told = [
        Claim("cold, faster than ray start and ray job submit", "Job API", "flaregate", "at least", 1.5, 2.5),
        Claim("the same against ray start alone", "Job API, start", "flaregate"),
    ]
    harness.keep(name, rows, told, ABOUT)


def _cold() -> Row:
    begun = time.perf_counter()
    with cluster(TRIVIAL) as (url, file, started):
        command = [*RAY, "job", "submit", f"--address={url}", "--", sys.executable, file]
        subprocess.run(command, env=_environment(), stdout=subprocess.DEVNULL, check=True)
        return {"Job API": time.perf_counter() - begun, "Job API, start": started}


def _environment() -> dict[str, str]:
    return {**os.environ, "RAY_AUTH_MODE": "disabled"}


def _end(session: int, folder: str) -> None:
    """What `ray start` left: of its session, or with its folder in the command."""
    left = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getsid(process.pid) == session or any(folder in word for word in process.cmdline()):
                left.append(process)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, 10)
