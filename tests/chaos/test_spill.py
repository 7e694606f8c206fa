"""The gateway is killed, then the container, then the gateway is back: what the code had done meanwhile is there."""

import re
import time
from pathlib import Path

import pytest

from flaregate_wire.events import EndEvent, OutcomeEvent
from flaregate_wire.states import Reason, State
from tests.conftest import gateway_on, runs, until
from tests.servers.s3 import environment

pytestmark = [pytest.mark.chaos, pytest.mark.services]
CELLS = 16


def work(cell, folder):
    """Slow enough for a gateway to be killed under it; what is done is seen in the folder."""
    time.sleep(0.25)
    print("done")
    Path(folder, str(cell)).touch()
    return {"score": float(cell)}


@pytest.fixture(params=["moto", "swift"])
def bucketed(request, tmp_path):
    """A gateway on a real S3 service, and a way to read what is in its bucket in a folder of that name."""
    server = request.getfixturevalue(request.param)
    bucket = server.bucket()
    settings = environment(tmp_path / "home", server, bucket)
    with gateway_on(tmp_path / "home", **settings) as gateway:
        s3 = server.client()

        def kept(folder):
            listed = s3.list_objects_v2(Bucket=bucket).get("Contents", [])
            keys = [item["Key"] for item in listed if f"/{folder}/" in item["Key"]]
            return b"".join(s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys)

        yield gateway, kept
        s3.close()


def submit(client, done, **options):
    done.mkdir()
    axes = {"cell": list(range(CELLS)), "folder": [str(done)]}
    return client.sweep(work, axes=axes, cache="off", workers=0, cpus=1, timeout=120, **options)


def told(job):
    events = list(job.events())
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    assert isinstance(events[-1], EndEvent)
    return [event.candidate for event in events if isinstance(event, OutcomeEvent)]


def lines(text):
    """Which cells have said in a log that they are done."""
    return sorted(map(int, re.findall(r"\[cell (\d+)\] done", text)))


def work_without_gateway(gateway, kept, job, done):
    """Kill the gateway when the first outcome is told, and wait until the last one and the log are in the store."""
    next(event for event in job.events() if isinstance(event, OutcomeEvent))
    gateway.kill()
    until(lambda: len(list(done.iterdir())) == CELLS)
    until(lambda: b'"done":%d' % CELLS in kept("spill"))
    until(lambda: len(lines(kept("logs").decode())) == CELLS)


def test_a_container_that_dies_under_a_dead_gateway_has_lost_no_outcome(bucketed, tmp_path):
    gateway, kept = bucketed
    done = tmp_path / "done"
    with gateway.client() as client:
        job = submit(client, done, retries=0)
        work_without_gateway(gateway, kept, job, done)
        for process in runs(job.id):
            process.kill()
        until(lambda: not runs(job.id))
        gateway.start()
        view = job.wait(timeout=60)
        assert (view.state, view.reason) == (State.FAILED, Reason.HEAD_LOST)
        assert sorted(told(job)) == list(range(CELLS))
        assert lines("".join(job.logs())) == list(range(CELLS))
        assert kept("spill") == b""


def test_a_container_that_lives_goes_on_when_the_gateway_is_back(bucketed, tmp_path):
    gateway, kept = bucketed
    done = tmp_path / "done"
    with gateway.client() as client:
        job = submit(client, done)
        work_without_gateway(gateway, kept, job, done)
        gateway.start()
        assert job.wait(timeout=60).state is State.SUCCEEDED
        assert sorted(told(job)) == list(range(CELLS))
        assert lines("".join(job.logs())) == list(range(CELLS))
