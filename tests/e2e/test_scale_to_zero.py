"""A gateway that its platform starts for requests and ends without them, while jobs run; nothing is lost or twice."""

import contextlib
import secrets
import threading
import time
from pathlib import Path

import pytest

from flaregate import Client
from tests.conftest import until
from tests.servers.activator import activator
from tests.servers.code_engine import code_engine
from tests.servers.s3 import environment

pytestmark = [pytest.mark.services, pytest.mark.timeout(150)]
TOKEN = secrets.token_hex(32)
LEASE = 30
CUT = 6.0
QUICK = 6.0
"""Seconds for an end, on a machine that has other things to do."""


def cell(number, gate):
    """Says something, works, and in the third cell is silent until there is a file."""
    print(f"cell {number} begins")
    time.sleep(0.3)
    while number == 3 and not Path(gate).exists():
        time.sleep(0.1)
    print(f"cell {number} ends")
    return {"square": number * number}


LINES = sorted(f"[cell {number}] cell {number} {word}" for number in range(6) for word in ("begins", "ends"))


@pytest.fixture
def simulator(tmp_path):
    with code_engine(tmp_path / "instances") as simulator:
        yield simulator


@pytest.fixture
def platform(tmp_path, simulator, swift, postgres):
    """Starts an activator whose gateways have Code Engine's simulator, PostgreSQL and S3, and no disk that lasts."""
    given = simulator.of_gateway(
        TOKEN=TOKEN,
        SECRET=secrets.token_hex(32),
        DATABASE_URL=postgres.database(),
        PLATFORM_LEASE=LEASE,
        HOLD=5,
        AWAKE=0.3,
    )
    bucket = swift.bucket()
    with contextlib.ExitStack() as stack:

        def start(**pace):
            settings = environment(tmp_path, swift, bucket, **given)
            return stack.enter_context(activator(tmp_path, settings, **pace))

        yield start


def submitted(client, gate):
    axes = {"number": [0, 1, 2, 3, 4, 5], "gate": [str(gate)]}
    return client.sweep(cell, axes=axes, cache="off", cpus=1, memory=2_000_000_000)


def looked_at(client, job, events):
    """Every event was there exactly once, and what they say is the result."""
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    assert [event.type for event in events].count("end") == 1
    outcomes = {event.candidate for event in events if event.type == "outcome"}
    assert outcomes == set(range(6))
    result = client.job(job.id).result(timeout=30)
    assert sorted(outcome.metrics["square"] for outcome in result.outcomes) == [0, 1, 4, 9, 16, 25]
    assert len(job.view().attempts) == 1


def nothing_left(simulator, proxy):
    until(lambda: not simulator.project.living() and not simulator.project.visible(), 30)
    assert "Traceback" not in (proxy.folder / "gateway.log").read_text()


def test_a_job_goes_on_while_there_is_no_gateway_and_wakes_one(tmp_path, platform, simulator):
    proxy = platform(cut=CUT, idle=1.5)
    assert proxy.at_zero
    with Client(proxy.url, token=TOKEN) as client:
        job = submitted(client, gate=tmp_path / "gate")
        proxy.stop()
        until(simulator.project.living, 60)
        until(lambda: proxy.at_zero and len(proxy.ends) >= 2, 90)
        asked = len(proxy.requests)
        until(lambda: len(proxy.requests) > asked, LEASE)
        assert proxy.requests[asked][1].startswith(f"/v1/attempts/{job.id}-1/"), "the head calls, and nobody else"
        threading.Timer(1.2 * CUT, (tmp_path / "gate").touch).start()
        events = list(job.events())
        looked_at(client, job, events)
        assert sorted(job.logs()) == LINES
    assert proxy.starts >= 3
    assert proxy.cuts >= 1, "a stream is as long as a request may be"
    nothing_left(simulator, proxy)
    until(lambda: proxy.at_zero, 20)
    (_, first), *others = proxy.ends
    assert first < QUICK + 10, "it waits until its successor answers"
    assert all(code == 0 and seconds < QUICK for code, seconds in others), proxy.ends


def test_streams_that_an_end_or_a_kill_cuts_go_on_at_the_next_gateway(platform, simulator):
    proxy = platform(cut=300, idle=60)
    with Client(proxy.url, token=TOKEN) as client, Client(proxy.url, token=TOKEN) as other:
        job = submitted(client, gate="/")
        events, lines = [], []
        ends = iter((proxy.stop, proxy.kill, proxy.stop))
        log = threading.Thread(target=lambda: lines.extend(other.job(job.id).logs(follow=True)))
        log.start()
        for event in job.events():
            events.append(event)
            if event.type == "outcome" and (end := next(ends, None)):
                until(lambda: not proxy.at_zero)
                end()
        looked_at(client, job, events)
        log.join(60)
    assert sorted(lines) == LINES
    assert len(proxy.ends) == 2
    assert all(code == 0 and seconds < QUICK for code, seconds in proxy.ends), proxy.ends
    nothing_left(simulator, proxy)
