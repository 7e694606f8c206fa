"""Jobs whose pods are real containers of the worker's image: head and workers of one cluster, and a head that starves."""

import json

import pytest

from flaregate.versions import here
from flaregate_wire.states import Reason, State
from tests.conftest import gateway_on, until
from tests.e2e.digits import SIZE, assert_as_local, search
from tests.e2e.test_containers import Heavy, look
from tests.servers.containers import machine
from tests.servers.kubelet import Containers
from tests.servers.kubernetes import kubernetes

pytestmark = [pytest.mark.platforms, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    with machine(tmp_path_factory.mktemp("machine")) as made:
        yield made


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, host):
    folder = tmp_path_factory.mktemp("cluster")
    with kubernetes(folder, Containers(host.podman, host.network, host.label, folder / "pods")) as api:
        yield api


@pytest.fixture(scope="module")
def client(tmp_path_factory, host, cluster):
    given = {
        "LAUNCHER": "kubernetes",
        "KUBERNETES_IMAGE": host.image,
        "KUBERNETES_CONFIG": str(cluster.configuration),
        "HOST": host.address,
        "GATEWAY": host.name,
        "WORKER_ENVIRONMENT": json.dumps({**here(), "ray": "2", "pandas": "3"}),
        "PLATFORM_LEASE": "60",
    }
    settings = {f"FLAREGATE_{name}": value for name, value in given.items()}
    with gateway_on(tmp_path_factory.mktemp("gateway") / "home", **settings) as gateway, gateway.client() as client:
        yield client


@pytest.fixture(autouse=True)
def _nothing_is_left(cluster, host):
    yield
    until(lambda: not cluster.objects["pods"] and not cluster.objects["jobs"] and not host.left(), 30)


def test_a_search_on_a_head_and_two_workers_has_scikit_learns_numbers(client):
    job = search(client)
    result = job.result(timeout=200)
    assert len(result.stats.hosts) == 3
    assert_as_local(result)
    assert job.view().state is State.SUCCEEDED


def test_a_head_without_memory_is_told_as_such(client):
    job = client.map(look, [Heavy()], cache="off", workers=0, **SIZE)
    view = job.wait(timeout=200)
    assert (view.state, view.reason) == (State.FAILED, Reason.OOM_KILLED), view
    assert "its container has 1.50 GB" in str(view.message)
    assert "resources.memory" in str(view.hint)
