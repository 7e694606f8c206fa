"""Containers that come in any order: before the head, long after it, after the end. None lingers once the job is done."""

import random
import time
from contextlib import ExitStack

import pytest

from tests.worker.conftest import descendants_of, until
from tests.worker.test_supervisor_ray import WHERE, nodes_of

JOINS = "import time; print(\"ray start --address='127.0.0.1:1'\\nRay runtime started\", flush=True); time.sleep(600)"
"""A Ray that starts at once, as the head or as another node."""
GONE_SECONDS = 1.5
"""From the done mark until a container is gone; 1 s is what it takes on an idle machine at most."""


@pytest.mark.parametrize("seed", range(2))
def test_in_any_order_every_container_ends_well_and_soon_after_the_head_is_done(gateway_double, container, seed):
    draw = random.Random(seed)
    double = gateway_double(workers=3)
    begins = sorted((draw.choice([0.0, 0.3, 0.8]), index) for index in draw.sample(range(4), 4))
    with ExitStack() as stack:
        start, processes = time.monotonic(), {}
        for delay, index in begins:
            time.sleep(max(0.0, start + delay - time.monotonic()))
            processes[index] = stack.enter_context(
                container(double, index, driver="time.sleep(0.7); finish()", ray=JOINS)
            )
        until(lambda: double.manifest is not None, 30)
        done = time.monotonic()
        codes = {index: process.wait(10) for index, process in processes.items()}
        assert time.monotonic() - done < GONE_SECONDS
        assert codes == dict.fromkeys(range(4), 0)
        assert [descendants_of(process.pid) for process in processes.values()] == [[], [], [], []]
    assert double.manifest.succeeded


@pytest.mark.parametrize("forgotten", [False, True])
def test_a_worker_that_comes_after_the_end_is_gone_at_once_and_starts_no_ray(gateway_double, container, forgotten):
    double = gateway_double(workers=1)
    with container(double, 0) as head:
        assert head.wait(20) == 0
    double.over = forgotten  # the platform has said that nothing is left of the attempt
    begun = time.monotonic()
    with container(double, 1, ray="raise SystemExit(9)") as worker:
        assert worker.wait(10) == 0
    assert time.monotonic() - begun < 10, "it would wait for 25 seconds for a head"
    assert "joined" not in double.phases(1)


@pytest.mark.slow
def test_a_worker_that_comes_when_tasks_run_already_takes_its_part(gateway_double, container):
    double = gateway_double(workers=2)
    with ExitStack() as stack:
        driver = WHERE.replace("NODES", "3") + "finish()"
        early = stack.enter_context(container(double, 1, ray=None))
        until(lambda: double.phases(1) == ["booted"], 10)
        head = stack.enter_context(container(double, 0, driver=driver, ray=None))
        until(lambda: "joined" in double.phases(1), 60)
        late = stack.enter_context(container(double, 2, ray=None))
        assert head.wait(60) == 0
        done = time.monotonic()
        assert [early.wait(10), late.wait(10)] == [0, 0]
        assert time.monotonic() - done < GONE_SECONDS
    assert double.manifest.succeeded, double.manifest
    assert len(nodes_of(double)) == 3


@pytest.mark.slow
def test_a_gateway_that_is_away_while_the_cluster_forms_holds_up_neither_the_head_nor_the_workers(
    gateway_double, container
):
    double = gateway_double(workers=1, lease=30)
    driver = "report({'type': 'event', 'event': {'type': 'progress', 'time': '2026-01-01T00:00:00Z', 'attempt': 1,"
    driver += " 'done': 1, 'total': 9}}); time.sleep(1); finish()"
    with container(double, 1, ray=JOINS) as worker:
        until(lambda: double.phases(1) == ["booted"], 10)
        with container(double, 0, driver=driver, ray="import time; time.sleep(1)\n" + JOINS) as head:
            until(lambda: double.phases(0), 10)
            double.go_away()
            time.sleep(2)  # in which Ray is ready on the head
            double.start()
            until(lambda: "joined" in double.phases(1), 20)
            assert [head.wait(20), worker.wait(10)] == [0, 0]
    assert double.manifest.succeeded
