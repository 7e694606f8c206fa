"""A job on AWS Batch as moto has it: unmodified boto3, one multi-node job, real Ray on three containers."""

import json

import pytest

from flaregate.versions import here
from flaregate_wire.states import State
from tests.conftest import until
from tests.e2e.digits import SIZE, assert_as_local, search
from tests.servers.aws_batch import QUEUE, REGION, aws_batch, client
from tests.servers.containers import gateway_of, machine, store_of
from tests.servers.podman import WORKER

pytestmark = [pytest.mark.services, pytest.mark.timeout(400)]


@pytest.fixture
def host(tmp_path):
    folder = tmp_path / "machine"
    folder.mkdir()
    with machine(folder) as made:
        yield made


@pytest.fixture
def batch(tmp_path, host):
    with aws_batch(tmp_path, host.podman, host.network) as url:
        yield url


@pytest.fixture
def on_batch(tmp_path, host, batch, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "canary-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-key")
    given = {
        "LAUNCHER": "aws_batch",
        "AWS_BATCH_QUEUE": QUEUE,
        "AWS_BATCH_IMAGE": WORKER,
        "AWS_BATCH_REGION": REGION,
        "AWS_BATCH_ENDPOINT": batch,
        "WORKER_ENVIRONMENT": json.dumps({**here(), "ray": "2", "pandas": "3"}),
        "PLATFORM_LEASE": 60,
    }
    swift = tmp_path / "swift"
    swift.mkdir()
    with store_of(swift, host) as store, gateway_of(tmp_path, host, store, **given) as gateway:
        yield gateway


def test_a_search_on_three_nodes_of_one_job(on_batch, batch, host):
    with on_batch.client() as flaregate:
        job = search(flaregate, **SIZE)
        result = job.result(timeout=300)
        assert len(result.stats.hosts) == 3
        assert_as_local(result)
        assert job.view().state is State.SUCCEEDED
    (listed,) = client(batch).list_jobs(jobQueue=QUEUE, filters=[{"name": "JOB_NAME", "values": ["*"]}])[
        "jobSummaryList"
    ]
    (told,) = client(batch).describe_jobs(jobs=[listed["jobId"]])["jobs"]
    assert told["nodeProperties"]["numNodes"] == 3
    assert told["tags"]["flaregate-gateway"] == host.name
    assert "canary" not in json.dumps(told, default=str)
    until(lambda: not host.podman.run("ps", "--quiet", "--filter=name=flaregate-.*-attempt"), 30)
