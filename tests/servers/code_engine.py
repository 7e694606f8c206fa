"""The Code Engine simulator on loopback, in a thread; its instances are processes of this machine."""

import contextlib
import json
import os
import sys
import threading
import time

import uvicorn

from flaregate.versions import here
from infra.code_engine.simulator.app import create
from infra.code_engine.simulator.asking import Simulator
from infra.code_engine.simulator.instances import Processes
from infra.code_engine.simulator.limits import Quota
from infra.code_engine.simulator.project import Pace, Project
from tests.conftest import gateway_on

PROJECT, KEY, JOB = "11111111-2222-3333-4444-555555555555", "canary-api-key", "flaregate-worker"
INHERITED = ("PATH", "HOME", "PYTHONPATH", "VIRTUAL_ENV", "SSL_CERT_FILE")


class CodeEngine:
    """A running simulator."""

    def __init__(self, folder, quota, pace, token_seconds=3600, starts=None):
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        starts = starts or Processes(folder, inherited=inherited)
        self.project = Project(starts, quota, pace, {"CE_REGION": "us-south"})
        self.simulator = Simulator(self.project, PROJECT, KEY, token_seconds)
        self.command()
        config = uvicorn.Config(
            create(self.simulator), port=0, log_level="error", lifespan="off", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._server.install_signal_handlers = lambda: None
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)
        self.url = f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"

    def command(self, *command):
        """What new instances run; without one, the worker."""
        self.simulator.templates[JOB] = {"image_reference": "local", "run_commands": list(command)}

    def program(self, text):
        self.command(sys.executable, "-c", text)

    @property
    def faults(self):
        return self.simulator.faults

    def settings(self, **changes):
        from gateway.launchers.code_engine import CodeEngineSettings

        given = {
            "project": PROJECT,
            "region": "us-south",
            "gateway": "test",
            "job": JOB,
            "key": KEY,
            "url": f"{self.url}/v2",
            "iam_url": self.url,
            "lease": 60.0,
            "environment": {"python": "3.11", "ray": "2", "cloudpickle": "3", "scikit-learn": "1", "numpy": "2"},
        }
        return CodeEngineSettings(**given | changes)

    def of_gateway(self, **changes):
        """Settings of a gateway that launches here, each without its FLAREGATE_."""
        given = {
            "LAUNCHER": "code_engine",
            "CODE_ENGINE_PROJECT": PROJECT,
            "CODE_ENGINE_KEY": KEY,
            "CODE_ENGINE_JOB": JOB,
            "CODE_ENGINE_URL": f"{self.url}/v2",
            "CODE_ENGINE_IAM_URL": self.url,
            "WORKER_ENVIRONMENT": json.dumps({**here(), "ray": "2", "pandas": "2"}),
            "PLATFORM_LEASE": "60",
        }
        return given | changes

    def close(self):
        self._server.should_exit = True
        self._thread.join()
        self.project.close()


@contextlib.contextmanager
def code_engine(folder, *, quota=None, pace=None, **options):
    simulator = CodeEngine(folder, quota or Quota(), pace or Pace(), **options)
    try:
        yield simulator
    finally:
        simulator.close()


def gateway_on_code_engine(home, simulator, **changes):
    """A gateway process that launches on the simulator, on a home of its own: a context."""
    given = simulator.of_gateway(**changes)
    return gateway_on(home, **{f"FLAREGATE_{name}": value for name, value in given.items()})
