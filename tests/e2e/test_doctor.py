"""`flaregate doctor` where all is well, where head and worker cannot talk, and where a platform has no workers."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest

from flaregate_wire.states import State
from tests.servers.code_engine import code_engine, gateway_on_code_engine

NAMES = [
    "the platform took the launch",
    "the head started and reached the gateway",
    "Ray started on the head",
    "the worker started and reached the gateway",
    "the worker reached the head",
    "the head reached the store",
    "the head reached the worker",
    "the worker reached the store",
    "the outcome was committed",
    "every container is gone",
]
ELSEWHERE = """
import os, runpy
if os.environ["JOB_INDEX"] == "1":
    os.environ["FLAREGATE_NODE_IP"] = "192.0.2.1"  # an address for documentation: no packet ever arrives there
runpy.run_module("worker_image", run_name="__main__")
"""


COMMAND = [sys.executable, "-c", "from flaregate.cli import main; main()", "doctor"]


def environment_of(gateway):
    return {**os.environ, "FLAREGATE_URL": gateway.url, "FLAREGATE_TOKEN": gateway.token}


def doctor(gateway, *options):
    environment = environment_of(gateway)
    return subprocess.run(
        [*COMMAND, *options], env=environment, capture_output=True, text=True, timeout=170, check=False
    )


@pytest.mark.slow
def test_on_this_machine_every_step_happens(gateway):
    done = doctor(gateway, "--platform", "local", "--output", "json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["platform"], told["state"]) == ("local", "succeeded")
    assert [step["name"] for step in told["steps"]] == NAMES
    assert all(0 <= step["seconds"] < 120 for step in told["steps"])
    assert all(step["advice"] is None for step in told["steps"])


def test_it_tells_what_happens_meanwhile_and_ctrl_c_cancels_its_job(gateway, client):
    told = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(COMMAND, env=environment_of(gateway), start_new_session=True, **told) as run:
        first = run.stderr.readline()
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=60)
    assert "queued" in first
    (job,) = re.findall("cancelling (job-[a-z0-9]+)", errors)
    assert run.returncode == 3, errors
    assert client.job(job).view().state is State.CANCELLED


def test_another_platform_than_the_gateways_is_refused_with_what_to_do(gateway):
    done = doctor(gateway, "--platform", "code_engine")
    assert done.returncode == 2
    assert "launches on 'local', not 'code_engine'" in done.stderr
    assert "FLAREGATE_LAUNCHER=code_engine" in done.stderr


@pytest.fixture
def on_code_engine(tmp_path):
    """Start a gateway on a simulator whose instances run a program: `with on_code_engine(...)`."""
    with code_engine(tmp_path / "instances") as simulator:

        def start(program=None, **more):
            if program is not None:
                simulator.program(program)
            return gateway_on_code_engine(tmp_path / "home", simulator, **more)

        yield start


@pytest.mark.platforms
def test_where_head_and_worker_cannot_talk_it_says_so_and_what_to_do(on_code_engine):
    with on_code_engine(ELSEWHERE, JOIN_TIMEOUT="20") as gateway:
        done = doctor(gateway, "--platform", "code_engine")
    assert done.returncode == 5, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    print(done.stdout)
    (advice,) = [number for number, line in enumerate(lines) if "→" in line]
    assert lines[advice - 1].startswith("no")
    assert "the worker reached the head" in lines[advice - 1]
    assert "containers of a run must reach each other by TCP on all ports" in lines[advice]
    assert "failed: 0 of the 1 workers that min_workers asks for joined within 20 s" in lines


@pytest.mark.platforms
def test_where_a_platform_is_set_to_have_no_workers_the_head_alone_is_looked_at(on_code_engine):
    with on_code_engine(CODE_ENGINE_PEER_TCP="false") as gateway:
        done = doctor(gateway)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "on a head alone: 0 workers were asked for" in done.stdout
    assert not [line for line in done.stdout.splitlines() if "the worker" in line or "→" in line]
