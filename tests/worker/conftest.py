"""Containers as real processes against the double of the gateway."""

import os
import subprocess
import sys
import time
from contextlib import contextmanager

import psutil
import pytest

from tests.worker.gateway_double import BOOTSTRAP, GatewayDouble

# Runs the container with the driver replaced by a script, and with Ray replaced too unless it is about Ray.
_CONTAINER = """
import sys
from pathlib import Path
from worker_image.keeper import keep
def supervise(scratch):
    import worker_image.ray_cluster as ray_cluster
    from worker_image.supervisor import main
    if sys.argv[1] == "fake":
        ray_cluster._RAY = (sys.executable, "-c", sys.argv[2])
    return main(scratch, driver_command=(sys.executable, "-c", sys.argv[3]))
if __name__ == "__main__":
    sys.exit(keep(supervise))
"""
FAKE_RAY = "import time; print(\"ray start --address='127.0.0.1:1'\", flush=True); time.sleep(600)"

# What a driver of a test starts with: `work` and `address` have been read, `report(...)` writes a line.
_DRIVER = """
import json, os, sys, time
fd = int(sys.argv[-1].split("=")[1])
def report(line):
    os.write(fd, json.dumps(line).encode() + b"\\n")
def progress(done):
    report({"type": "event", "event": {"type": "progress", "time": "2026-01-01T00:00:00Z", "attempt": 1, "done": done, "total": 9}})
def finish(**more):
    report({"type": "finished", "succeeded": True, **more})
work = json.loads(sys.stdin.readline())
address = json.loads(sys.stdin.readline())["address"]
"""


def until(condition, seconds=30.0, every=0.02):
    """Wait for a condition; its last value is given, and a falsy one at the end fails the test."""
    end = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(every)
    assert found, f"not within {seconds} s: {condition}"
    return found


def descendants_of(session):
    """Live processes of a session."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, ProcessLookupError):
            continue
    return found


@pytest.fixture
def container(tmp_path):
    """Start a container: `with container(double, driver="...") as process`."""

    @contextmanager
    def start(double, index=0, driver="finish()", ray=FAKE_RAY, stdin=None, **environment):
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environment = {
            **kept,
            "FLAREGATE_URL": double.url,
            "FLAREGATE_ATTEMPT": double.attempt,
            "FLAREGATE_INDEX": str(index),
            "FLAREGATE_BOOTSTRAP": BOOTSTRAP,
            **environment,
        }
        arguments = ["real" if ray is None else "fake", ray or "", _DRIVER + driver]
        log = tmp_path / f"container-{double.attempt}-{index}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-c", _CONTAINER, *arguments],
                env=environment,
                stdin=stdin,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            for left in descendants_of(process.pid):
                left.kill()
            process.wait(10)
            print(log.read_text())

    return start


@pytest.fixture
def gateway_double():
    """A double that is gone at the end; `gateway_double(lease=1)` makes one with other settings."""
    made = []

    def make(**settings):
        made.append(GatewayDouble(**settings))
        return made[-1]

    yield make
    for double in made:
        double.__exit__()
