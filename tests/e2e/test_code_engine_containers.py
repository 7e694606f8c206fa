"""The Code Engine simulator with instances that are containers of Podman: their limits, their ends, what they are told."""

import re
import time

import pytest
from ibm_cloud_sdk_core.authenticators import IAMAuthenticator
from ibm_code_engine_sdk.code_engine_v2 import CodeEngineV2

from gateway.launchers.code_engine_api import API_VERSION
from infra.code_engine.simulator.instances import Containers
from tests.conftest import until
from tests.servers.code_engine import JOB, KEY, PROJECT, code_engine
from tests.servers.podman import BASE, Podman

pytestmark = [pytest.mark.platforms, pytest.mark.timeout(300)]
LABEL = "io.flaregate.simulator=test"
SMALL = {"scale_cpu_limit": "0.125", "scale_memory_limit": "0.25G", "scale_retry_limit": 0}


@pytest.fixture
def podman(tmp_path):
    podman = Podman(tmp_path)
    podman.base()
    yield podman
    podman.remove(LABEL)


@pytest.fixture(params=[BASE])
def simulator(podman, tmp_path, request):
    starts = Containers(request.param, "podman", tmp_path / "instances", podman.environment, LABEL)
    with code_engine(tmp_path / "instances", starts=starts) as simulator:
        yield simulator


@pytest.fixture
def run(simulator):
    """Start a run of a program; gives how to look at an instance of it."""
    api = CodeEngineV2(authenticator=IAMAuthenticator(KEY, url=simulator.url), version=API_VERSION)
    api.set_service_url(f"{simulator.url}/v2")

    def started(name, program, **changes):
        command = {"run_commands": ["python3", "-c"], "run_arguments": [program]}
        api.create_job_run(PROJECT, job_name=JOB, name=name, **{**command, **SMALL, **changes})
        return lambda index=0: api.get_job_run(PROJECT, name).get_result()["status_details"]["indices_details"][
            str(index)
        ]

    started.api = api
    return started


def over(look, index=0):
    until(lambda: look(index)["status"] in ("succeeded", "failed"), 60)
    return look(index)


def test_instances_run_in_containers_and_end_as_such(run, simulator, podman, tmp_path):
    shows = (
        "import os, socket; print(os.environ['JOB_INDEX'], os.environ['CE_JOBRUN'], socket.gethostname()); "
        "print(open('/proc/self/status').read())"
    )
    looks = {
        "shows": run("shows", shows, scale_array_spec="0-1"),
        "eats": run("eats", "x = bytearray(500_000_000)"),
        "killed": run("killed", "import os; os.kill(os.getpid(), 9)"),
        "exits": run("exits", "raise SystemExit(7)"),
        "waits": run("waits", "import time; time.sleep(600)"),
    }
    assert over(looks["shows"], 0)["status"] == over(looks["shows"], 1)["status"] == "succeeded"
    text = (tmp_path / "instances" / "shows-1-0.log").read_text()
    assert text.splitlines()[0] == "1 shows shows-1-0"
    assert re.search(r"CapEff:\s0+\n", text)
    assert re.search(r"NoNewPrivs:\s1\n", text)
    assert over(looks["eats"])["last_failure_reason"] == "OOMKilled"
    assert over(looks["killed"])["last_failure_reason"] == "ContainerExitedCode137"
    assert over(looks["exits"])["last_failure_reason"] == "ContainerExitedCode7"
    until(lambda: looks["waits"]()["status"] == "running", 30)
    until(lambda: "waits-0-0" in podman.run("ps", "--format", "{{.Names}}", "--filter", f"label={LABEL}"), 30)
    run.api.delete_job_run(PROJECT, "waits")
    until(lambda: not simulator.project.living(), 30)
    until(lambda: podman.run("ps", "--all", "--quiet", "--filter", f"label={LABEL}") == "", 10)


@pytest.mark.parametrize("simulator", ["localhost/no-such-image:1"], indirect=True)
def test_an_image_that_is_not_there_is_told_and_nobody_waits_for_podman(run, simulator, caplog):
    look = run("none", "pass")
    slowest = 0.0
    while look()["status"] not in ("succeeded", "failed"):
        began = time.monotonic()
        run.api.list_job_runs(PROJECT)
        slowest = max(slowest, time.monotonic() - began)
    assert look()["last_failure_reason"] == "ContainerExitedCode125"
    assert "podman did not start none-0-0" in caplog.text
    assert slowest < 1
