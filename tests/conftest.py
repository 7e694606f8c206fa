"""Real gateways on loopback for the tests that need one; whatever a test starts is ended by process id."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from flaregate import Client

pytest_plugins = ["tests.servers.databases", "tests.servers.s3"]
ROOT = Path(__file__).parents[1]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a shell's background; what tests start would not hear Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)


def until(condition, seconds=30.0, every=0.05):
    """Wait for a condition; its last value is given, and a falsy one at the end fails the test."""
    end = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(every)
    assert found, f"not within {seconds} s: {condition}"
    return found


def runs(job_id):
    """Every live process of a job's attempts, found by the marker that descendants inherit."""
    found = []
    for process in psutil.process_iter():
        try:
            if job_id in process.environ().get("FLAREGATE_RUN", "") and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def supervisor(job_id, index=0):
    """The first process of one container of a job."""
    wanted = [sys.executable, "-m", "worker_image"]
    for process in runs(job_id):
        try:
            marker = process.environ()["FLAREGATE_RUN"]
            if marker.endswith(f"/{index}") and process.cmdline()[: len(wanted)] == wanted:
                return process
        except psutil.NoSuchProcess:
            continue
    return None


class Gateway:
    """A gateway process of `flaregate up` on a home of its own."""

    def __init__(self, home, settings):
        self.home = home
        self.settings = settings
        self.port = 0
        self.process = None

    def start(self):
        environment = {**os.environ, "FLAREGATE_HOME": str(self.home), "FLAREGATE_PORT": str(self.port)}
        for name in ("FLAREGATE_URL", "FLAREGATE_TOKEN"):
            environment.pop(name, None)
        environment.update(self.settings)
        log = (self.home.parent / f"{self.home.name}.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gateway"], env=environment, stdout=subprocess.PIPE, stderr=log, text=True
        )
        log.close()
        line = self.process.stdout.readline()
        assert line.startswith("flaregate gateway ready on http://"), line
        self.url = line.split()[-1]
        self.port = int(self.url.rpartition(":")[2])
        self.token = (self.home / "token").read_text().strip()
        return self

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(20)
        self.process.stdout.close()

    def client(self):
        return Client(self.url, token=self.token)


@contextmanager
def gateway_on(home, **settings):
    """`settings` are further variables of its environment."""
    home.mkdir(mode=0o700)
    gateway = Gateway(home, settings).start()
    try:
        yield gateway
    finally:
        try:
            with gateway.client() as client:
                for view in client.jobs():
                    if not view.state.terminal:
                        client.job(view.id).cancel()
                        client.job(view.id).wait(timeout=30)
        finally:
            gateway.stop()


@pytest.fixture(scope="session")
def gateway(tmp_path_factory):
    """One gateway for the tests that only talk to it."""
    with gateway_on(tmp_path_factory.mktemp("shared") / "home") as gateway:
        yield gateway


@pytest.fixture
def own_gateway(tmp_path):
    """A gateway that a test may kill."""
    with gateway_on(tmp_path / "home") as gateway:
        yield gateway


@pytest.fixture
def client(gateway):
    with gateway.client() as client:
        yield client
