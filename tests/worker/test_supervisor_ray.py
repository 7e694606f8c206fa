"""Containers with real Ray: forming a cluster, keeping strangers out, keeping runs apart, leaving nothing."""

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.worker.conftest import descendants_of, until

WHERE = """
import ray
ray.init(address=address, _node_ip_address=address.split(":")[0], log_to_driver=False, logging_level="error")
@ray.remote(num_cpus=1)
def where(i):
    time.sleep(0.1)
    print("task", i)
    return ray.util.get_node_ip_address()
end = time.monotonic() + 30
nodes = set()
while len(nodes) < NODES and time.monotonic() < end:
    nodes |= set(ray.get([where.remote(i) for i in range(40)]))
print("nodes", sorted(nodes))
"""


def nodes_of(double):
    (line,) = [line for line in double.log().splitlines() if line.startswith("nodes")]
    return set(eval(line.removeprefix("nodes ")))


def test_head_and_worker_of_two_runs_at_once_form_two_clusters(gateway_double, container):
    doubles = [gateway_double(workers=1), gateway_double(workers=1)]
    doubles[1].ray_token = "s" * 64
    driver = WHERE.replace("NODES", "2") + "finish()"
    began = time.monotonic()
    with ExitStack() as stack:
        containers = [
            stack.enter_context(container(double, index, driver=driver, ray=None))
            for double in doubles
            for index in (0, 1)
        ]
        for process in containers:
            assert process.wait(90) == 0
            until(lambda session=process.pid: descendants_of(session) == [], 2)
    print("both done after", time.monotonic() - began)
    for double in doubles:
        assert double.manifest.succeeded, double.manifest
        assert double.phases(0) == ["booted", "inputs_ready", "ray_ready"]
        assert double.phases(1) == ["booted", "joined"]
        assert "task" in double.log(1)
        lines = double.log(0).splitlines() + double.log(1).splitlines()
        assert [line for line in lines if not line.startswith(("task", "nodes"))] == []
    first, second = map(nodes_of, doubles)
    assert len(first) == len(second) == 2
    assert not first & second


def asked_by_a_stranger(address, **environment):
    code = f"""
from ray._raylet import GcsClient
try:
    print(GcsClient(address="{address}").internal_kv_get(b"session_name", b"session", timeout=10))
except Exception as exc:
    print(type(exc).__name__)
"""
    environment = {"PATH": os.environ["PATH"], "RAY_AUTH_MODE": "token", **environment}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_ray_refuses_who_has_no_token_and_nothing_outlives_a_killed_first_process(gateway_double, container):
    double = gateway_double(workers=1)
    driver = "print('temp', os.environ['TMPDIR'])\n" + WHERE.replace("NODES", "2") + "time.sleep(600)"
    with container(double, 0, driver=driver, ray=None) as head, container(double, 1, ray=None) as worker:
        until(lambda: "nodes" in double.log(0), 60)
        (temp,) = [line.removeprefix("temp ") for line in double.log(0).splitlines() if line.startswith("temp ")]
        assert Path(temp).is_dir()
        assert "AuthenticationError" in asked_by_a_stranger(double.head.address, RAY_AUTH_TOKEN="w" * 64)
        assert "AuthenticationError" in asked_by_a_stranger(double.head.address, RAY_AUTH_MODE="disabled")
        assert "session_" in asked_by_a_stranger(double.head.address, RAY_AUTH_TOKEN=double.ray_token)
        psutil.Process(head.pid).kill()
        head.wait(5)
        until(lambda: descendants_of(head.pid) == [], 3)
        assert not Path(temp).parent.exists()
        assert worker.wait(15) == 0  # its head is gone
        assert descendants_of(worker.pid) == []


@pytest.mark.parametrize("victim", ["raylet", "gcs_server"])
def test_a_ray_that_dies_under_the_driver_is_a_fault_of_the_platform(gateway_double, container, victim):
    double = gateway_double()
    with container(double, driver="time.sleep(600)", ray=None) as process:
        until(lambda: "ray_ready" in double.phases(), 60)
        (ray,) = [child for child in psutil.Process(process.pid).children(recursive=True) if child.name() == victim]
        ray.kill()
        assert process.wait(20) == 0
    assert double.manifest.reason == "platform_error"
