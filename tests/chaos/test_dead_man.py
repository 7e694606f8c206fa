"""A gateway that is killed for good: its containers end themselves within a lease, and its successor ends what it finds."""

import time

import httpx
import pytest

from flaregate_wire.events import AttemptEvent
from tests.conftest import until
from tests.servers.code_engine import code_engine, gateway_on_code_engine

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180)]
LEASE = 30


@pytest.fixture
def simulator(tmp_path):
    with code_engine(tmp_path / "instances") as simulator:
        yield simulator


@pytest.fixture
def gateway(tmp_path, simulator):
    given = {"PLATFORM_LEASE": str(LEASE), "REAP_INTERVAL": "4"}
    with gateway_on_code_engine(tmp_path / "home", simulator, **given) as gateway:
        yield gateway


def rest(number):
    """A cell that outlives its gateway."""
    time.sleep(120)
    return {"number": number}


def at_rest(client, **more):
    """A job whose head and worker run, and say nothing."""
    job = client.sweep(rest, axes={"number": [0, 1]}, workers=1, cpus=1, memory=4_000_000_000, retries=0, **more)
    booted = set()
    for event in job.events():
        if isinstance(event, AttemptEvent) and event.phase == "booted":
            booted.add(event.index)
        if booted == {0, 1}:
            return job
    raise AssertionError(job.view())


def figures(gateway):
    """What /metrics says now, by name."""
    shown = {"Authorization": f"Bearer {gateway.token}"}
    text = httpx.get(f"{gateway.url}/metrics", headers=shown, trust_env=False).text
    return {name: float(value) for name, value in (line.split() for line in text.splitlines() if line[0] != "#")}


def test_a_gateway_that_never_comes_back_is_outlived_by_one_lease_and_no_more(gateway, simulator):
    with gateway.client() as client:
        job = at_rest(client)
    until(lambda: len(simulator.project.living()) == 2)
    gateway.kill()
    killed = time.monotonic()
    until(lambda: not simulator.project.living(), 1.5 * LEASE)
    assert time.monotonic() - killed > LEASE / 2, "a gateway that comes back in time finds them"
    (run,) = simulator.project.visible()
    assert {one.failure for one in run.instances.values()} == {"ContainerExitedCode3"}
    bill = simulator.project.billed.vcpu_seconds
    gateway.start()
    with gateway.client() as client:
        view = until(lambda: (view := client.job(job.id).view()).state.terminal and view, 30)
    assert view.reason == "head_lost"
    assert simulator.project.billed.vcpu_seconds == bill, "nothing has run since"
    assert view.usage.vcpu_seconds == pytest.approx(bill, rel=0.01)


def test_a_gateway_that_has_lost_its_database_ends_the_runs_it_does_not_know_and_says_so(gateway, simulator):
    with gateway.client() as client:
        at_rest(client)
    until(lambda: figures(gateway)["flaregate_platform_runs"] == 1)
    assert figures(gateway)["flaregate_orphaned_runs"] == 0
    gateway.kill()
    for file in gateway.home.glob("gateway.db*"):
        file.unlink()
    gateway.start()
    until(lambda: figures(gateway)["flaregate_orphaned_runs"] == 1)
    until(lambda: not simulator.project.living(), 30)
    until(lambda: figures(gateway)["flaregate_platform_runs"] == 0, 30)
    seen = figures(gateway)
    assert (seen["flaregate_orphaned_runs"], seen["flaregate_orphaned_runs_ended_total"] >= 1) == (0, True)
    until(lambda: not simulator.project.visible(), 30)
