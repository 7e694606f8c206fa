"""What AWS Batch tells of nodes, as sightings; and what the launcher asks of the API: a double where moto has less."""

import dataclasses
from datetime import UTC, datetime
from decimal import Decimal
from fnmatch import fnmatch

import pytest
from botocore.exceptions import ClientError

from gateway.launchers import aws_batch
from gateway.launchers.aws_batch import AwsBatchLauncher, AwsBatchSettings
from gateway.launchers.aws_batch_jobs import children, instances, part_of
from gateway.launchers.base import Barred, CannotSee, LaunchFailed, LaunchRefused, Phase, Price, Quota, Trouble
from tests.contracts.launchers import order

JOB = {
    "jobId": "1-2",
    "jobName": "flaregate-main-a",
    "status": "RUNNING",
    "startedAt": 1_000,
    "nodeProperties": {"numNodes": 3},
}


def node(index, **told):
    return {f"1-2#{index}": {"jobId": f"1-2#{index}", "status": "RUNNING", "startedAt": 1_000, **told}}


def test_names_tell_attempt_and_replacement():
    assert part_of("job-1-1") == ("job-1-1", None)
    assert part_of("job-1-1-r12") == ("job-1-1", 12)
    assert children(JOB) == ["1-2#0", "1-2#1", "1-2#2"]


def test_nodes_that_batch_shows_are_told_one_by_one():
    told = node(0, status="SUCCEEDED", stoppedAt=5_000, container={"exitCode": 0}) | node(1, status="STARTING")
    first, second, third = instances(JOB, None, told)
    assert (first.phase, first.exit_code, first.ended) == (Phase.ENDED, 0, datetime.fromtimestamp(5, UTC))
    assert (second.index, second.phase) == (1, Phase.PENDING)
    assert (third.index, third.phase) == (2, Phase.RUNNING), "not shown yet: as the job is"


@pytest.mark.parametrize(
    ("reason", "trouble"),
    [
        ("OutOfMemoryError: Container killed due to memory usage", Trouble.OUT_OF_MEMORY),
        ("CannotPullContainerError: pull image manifest has been retried 5 times", Trouble.IMAGE_RETRIED),
        ("CannotPullContainerError: pull access denied, repository does not exist", Trouble.IMAGE_PULL),
        ("CannotCreateContainerError: write /x: no space left on device", Trouble.OUT_OF_DISK),
        ("Host EC2 (instance i-0123) terminated.", None),
    ],
)
def test_reasons_become_troubles(reason, trouble):
    (head, *_) = instances(
        JOB, None, node(0, status="FAILED", stoppedAt=9, container={"exitCode": 137, "reason": reason})
    )
    assert (head.trouble, head.exit_code) == (trouble, -9)
    assert reason in head.story


@pytest.mark.parametrize(
    ("reason", "trouble"),
    [
        ("MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - no instance is as large", Trouble.MISCONFIGURED),
        ("CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - none just now", None),
        (None, None),
    ],
)
def test_what_its_queue_can_never_place_is_told(reason, trouble):
    waiting = JOB | {"status": "RUNNABLE", "statusReason": reason}
    assert {(one.phase, one.trouble, one.story) for one in instances(waiting, None, {})} == {
        (Phase.PENDING, trouble, reason or "")
    }


def test_a_job_that_failed_has_no_node_that_runs():
    failed = JOB | {"status": "FAILED", "statusReason": "the main node ended", "stoppedAt": 9_000}
    seen = instances(failed, None, node(1) | node(2, status="RUNNABLE"))
    assert {one.phase for one in seen} == {Phase.ENDED}
    assert {one.ended for one in seen} == {datetime.fromtimestamp(9, UTC)}


def test_a_replacement_has_its_own_number():
    (one,) = instances(JOB | {"nodeProperties": {"numNodes": 1}}, 7, {})
    assert (one.index, one.phase) == (7, Phase.RUNNING)


class Api:
    """The requests of Batch's API that the launcher makes."""

    def __init__(self):
        self.asked, self.listed, self.fails, self.resources = [], [], {}, {"type": "EC2", "maxvCpus": 64}

    def __getattr__(self, name):
        def answer(**given):
            self.asked.append((name, given))
            if name in self.fails:
                raise ClientError({"Error": {"Code": self.fails[name], "Message": "no"}}, name)
            return {
                "describe_job_queues": {"jobQueues": [{"computeEnvironmentOrder": [{"computeEnvironment": "c"}]}]},
                "describe_compute_environments": {"computeEnvironments": [{"computeResources": self.resources}]},
                "describe_job_definitions": {"jobDefinitions": []},
                "describe_jobs": {"jobs": []},
                "submit_job": {"jobId": f"id-{len(self.asked)}"},
            }.get(name, {})

        return answer

    def get_paginator(self, name):
        return self

    def paginate(self, **given):
        self.asked.append(("list_jobs", given))
        if "list_jobs" in self.fails:
            raise ClientError({"Error": {"Code": self.fails["list_jobs"], "Message": "no"}}, "list_jobs")
        wanted = given["filters"][0]["values"]
        yield {"jobSummaryList": [job for job in self.listed if any(fnmatch(job["jobName"], one) for one in wanted)]}

    def of(self, name):
        return [given for asked, given in self.asked if asked == name]


@pytest.fixture
def api():
    return Api()


def launcher(api, **changes):
    given = {"queue": "q", "gateway": "main", "image": "worker:1", "region": "us-east-1", **changes}
    return AwsBatchLauncher(AwsBatchSettings(**given), connect=lambda settings: api)


async def test_a_launch_is_one_job_with_a_node_for_each_container_and_nothing_secret_but_the_code(api):
    await launcher(api).launch(order("a-1", workers=2, replacements=(3,)))
    job, replacement = api.of("submit_job")
    assert (job["jobName"], job["nodeOverrides"]["numNodes"]) == ("flaregate-main-a-1", 3)
    assert (replacement["jobName"], replacement["nodeOverrides"]["numNodes"]) == ("flaregate-main-a-1-r3", 1)
    assert job["retryStrategy"] == {"attempts": 1}
    assert job["timeout"] == {"attemptDurationSeconds": 60}
    assert job["tags"] == {"flaregate-gateway": "main", "flaregate-attempt": "a-1"}
    (override,) = job["nodeOverrides"]["nodePropertyOverrides"]
    container = override["containerOverrides"]
    assert {one["name"] for one in container["environment"]} == {
        "FLAREGATE_URL",
        "FLAREGATE_ATTEMPT",
        "FLAREGATE_BOOTSTRAP",
    }
    assert {one["type"]: one["value"] for one in container["resourceRequirements"]} == {"VCPU": "1", "MEMORY": "953"}


async def test_definitions_are_registered_once_a_size_and_confine_the_container(api):
    await launcher(api).launch(order("a-1"))
    (made,) = api.of("register_job_definition")
    (nodes,) = made["nodeProperties"]["nodeRangeProperties"]
    assert nodes["targetNodes"] == "0:"
    assert nodes["container"]["readonlyRootFilesystem"] is True
    assert nodes["container"]["privileged"] is False
    await launcher(api).launch(order("a-2"))
    assert len({one["jobDefinitionName"] for one in api.of("register_job_definition")}) == 1


async def test_a_definition_of_the_operators_is_used_as_it_is(api):
    await launcher(api, image=None, job_definition="mine:3").launch(order("a-1"))
    assert api.of("submit_job")[0]["jobDefinition"] == "mine:3"
    assert api.of("register_job_definition") == []


async def test_a_job_that_is_not_listed_yet_is_not_submitted_again_and_is_seen_and_stopped(api):
    now = [0.0]
    made = AwsBatchLauncher(AwsBatchSettings("q", "main", "i"), clock=lambda: now[0], connect=lambda settings: api)
    for _ in range(2):
        handle = await made.launch(order("a-1"))
    assert len(api.of("submit_job")) == 1
    (seen,) = (await made.observe([handle]))[handle].instances
    assert seen.phase is Phase.PENDING
    await made.stop(handle)
    assert len(api.of("terminate_job")) == 1
    now[0] = aws_batch.NEW_SECONDS + 1
    assert (await made.observe([handle]))[handle].instances == ()


async def test_all_runs_are_one_list_and_nodes_are_described_a_hundred_at_once(api):
    api.listed = [
        {**JOB, "jobId": f"{number}", "jobName": f"flaregate-main-a-{number}", "createdAt": number}
        for number in range(60)
    ]
    made = launcher(api)
    handles = [made.handle(f"a-{number}") for number in range(60)]
    seen = await made.observe(handles)
    assert all(len(seen[handle].instances) == 3 for handle in handles)
    assert len(api.of("list_jobs")) == 1
    assert [len(asked["jobs"]) for asked in api.of("describe_jobs")] == [100, 80]


async def test_of_two_jobs_with_one_name_the_older_one_counts(api):
    api.listed = [
        {**JOB, "jobId": "new", "createdAt": 9},
        {**JOB, "jobId": "old", "createdAt": 5, "status": "SUCCEEDED"},
    ]
    made = launcher(api)
    seen = (await made.observe([made.handle("a")]))[made.handle("a")]
    assert {one.phase for one in seen.instances} == {Phase.ENDED}


@pytest.mark.parametrize(
    ("code", "error"),
    [("AccessDeniedException", LaunchRefused), ("ClientException", LaunchRefused), ("TooManyRequestsException", LaunchFailed), ("ServerException", LaunchFailed)],
)  # fmt: skip
async def test_refusals_and_failures_of_a_launch(api, code, error):
    made = launcher(api)
    api.fails["submit_job"] = code
    with pytest.raises(error, match=code):
        await made.launch(order("a-1"))


@pytest.mark.parametrize("code", ["UnrecognizedClientException", "ExpiredTokenException"])
async def test_credentials_that_are_not_taken_bar(api, code):
    made = launcher(api)
    api.fails["list_jobs"] = code
    with pytest.raises(Barred, match=code):
        await made.launch(order("a-1"))
    for look in (made.list(), made.observe([made.handle("a-1")]), made.observe([])):
        with pytest.raises(Barred):
            await look
    api.fails.clear()
    await made.launch(order("a-1"))


async def test_no_answer_is_not_guessed_at(api):
    made = launcher(api)
    api.fails["list_jobs"] = "ServerException"
    with pytest.raises(CannotSee):
        await made.list()
    with pytest.raises(LaunchFailed):
        await made.launch(order("a-1"))
    with pytest.raises(CannotSee):
        await made.stop(made.handle("a-1"))


def test_a_queue_on_fargate_and_gpus_are_refused(api):
    api.resources = {"type": "FARGATE", "maxvCpus": 4}
    with pytest.raises(LaunchRefused, match="Fargate"):
        launcher(api)


async def test_gpus_are_refused(api):
    asked = order("a-1")
    with pytest.raises(LaunchRefused, match="GPU"):
        await launcher(api).launch(dataclasses.replace(asked, cluster=asked.cluster.model_copy(update={"gpus": 1})))


@pytest.mark.parametrize(("cpus", "most"), [(None, 64), (16, 16), (128, 64)])
def test_the_queue_s_machines_bound_the_quota_and_the_price_is_the_operator_s(api, cpus, most):
    price = Price(Decimal("0.00001"), Decimal("0.000002"), "USD", "list price")
    can = launcher(api, quota=Quota(cpus=cpus, instances=40), price=price).capabilities
    assert (can.quota, can.price) == (Quota(cpus=most, instances=40), price)
