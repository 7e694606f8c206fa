"""The Code Engine launcher and the simulator: limits, tokens, faults, words that nobody knows. IBM's SDK is the client."""

import asyncio
import json

import httpx
import pytest
from ibm_cloud_sdk_core import ApiException
from ibm_cloud_sdk_core.authenticators import IAMAuthenticator
from ibm_code_engine_sdk.code_engine_v2 import CodeEngineV2

from gateway.launchers.base import CannotSee, LaunchFailed, LaunchRefused, Phase, Trouble
from gateway.launchers.code_engine import API_VERSION, PAYLOAD_BYTES, SIZES, CodeEngineLauncher
from gateway.launchers.code_engine_runs import attempt_of, instances
from gateway.launchers.conformance import SLEEPS, gone, order, running, sighting
from infra.code_engine.simulator import limits
from infra.code_engine.simulator.limits import Quota
from infra.code_engine.simulator.project import Pace
from tests.contracts.launchers import CodeEnginePlatform
from tests.servers.code_engine import JOB, KEY, PROJECT, code_engine


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def simulator(tmp_path, request):
    with code_engine(tmp_path / "instances", **getattr(request, "param", {})) as simulator:
        yield simulator


@pytest.fixture
def platform(simulator):
    return CodeEnginePlatform(simulator)


@pytest.fixture
def api(simulator):
    """IBM's client, as anybody would make it."""
    client = CodeEngineV2(authenticator=IAMAuthenticator(KEY, url=simulator.url), version=API_VERSION)
    client.set_service_url(f"{simulator.url}/v2")
    return client


def create(api, **changes):
    size = {"scale_cpu_limit": "1", "scale_memory_limit": "4G"}
    return api.create_job_run(PROJECT, **{"job_name": JOB, "name": "r", **size} | changes).get_result()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"run_arguments": ["x" * limits.BODY_BYTES]}, "payload_too_large"),
        ({"name": "n" * 64}, "invalid_name"),
        ({"name": "Upper"}, "invalid_name"),
        ({"scale_cpu_limit": "3"}, "invalid_cpu_memory"),
        ({"scale_memory_limit": "1G"}, "invalid_cpu_memory"),
        ({"scale_memory_limit": "4GB"}, "invalid_size"),
        ({"scale_array_spec": "0-1000"}, "invalid_array_spec"),
        ({"scale_retry_limit": 6}, "invalid_scale"),
        ({"scale_max_execution_time": 86401}, "invalid_scale"),
        ({"scale_ephemeral_storage_limit": "5G"}, "invalid_storage"),
        ({"image_secret": "s"}, "invalid_template_override"),
        ({"job_name": "another"}, "job_not_found"),
    ],
)
def test_the_simulator_refuses_what_code_engine_refuses(api, changes, code):
    with pytest.raises(ApiException) as refused:
        create(api, **changes)
    assert refused.value.http_response.json()["errors"][0]["code"] == code


def test_the_simulator_takes_what_is_just_within_the_limits(api, simulator):
    simulator.command("true")
    create(api, name="n" * 63, scale_array_spec="0-3,7", scale_retry_limit=5, scale_max_execution_time=86400)
    body = json.dumps(
        {"job_name": JOB, "name": "r", "scale_cpu_limit": "1", "scale_memory_limit": "4G", "run_arguments": [""]}
    )
    create(api, run_arguments=["x" * (limits.BODY_BYTES - len(body))])
    listed = api.list_job_runs(PROJECT, limit=1).get_result()
    assert len(listed["job_runs"]) == 1
    assert api.list_job_runs(PROJECT, limit=1, start=listed["next"]["start"]).get_result()["job_runs"][0]["name"] == "r"


def test_the_simulators_sizes_are_the_launchers():
    assert [(float(cpus), int(size * 1e9)) for cpus, sizes in limits.SIZES.items() for size in sizes] == list(SIZES)


@pytest.mark.parametrize("simulator", [{"quota": Quota(runs=2)}], indirect=True)
async def test_over_the_number_of_runs_is_not_now_rather_than_never(platform):
    launcher = platform.launcher("pass")
    handles = [await launcher.launch(order(platform, f"job-{n}-1", workers=0)) for n in range(2)]
    with pytest.raises(LaunchFailed, match="limit"):
        await launcher.launch(order(platform, "job-3-1", workers=0))
    await gone(platform, launcher, handles[0])
    await launcher.forget(handles[0])
    async with asyncio.timeout(5):
        while len(await launcher.kept()) == 2:
            await asyncio.sleep(0.02)
    await launcher.launch(order(platform, "job-3-1", workers=0))


@pytest.mark.parametrize("simulator", [{"quota": Quota(cpus=2.0)}], indirect=True)
async def test_over_quota_is_queued_by_the_platform(platform):
    launcher = platform.launcher(SLEEPS)
    handle = await launcher.launch(order(platform, workers=2))
    async with asyncio.timeout(10):
        while sorted(one.phase for one in (await sighting(launcher, handle)).instances) != sorted(
            [Phase.RUNNING, Phase.RUNNING, Phase.PENDING]
        ):
            await asyncio.sleep(0.05)
    await launcher.stop(handle)
    await gone(platform, launcher, handle)


async def test_a_token_that_has_expired_is_renewed(platform, simulator):
    launcher = platform.launcher(SLEEPS)
    handle = await launcher.launch(order(platform, workers=0))
    for _ in range(2):
        simulator.simulator.tokens.clear()
        assert not (await sighting(launcher, handle)).gone
    simulator.faults.left["unauthorized"] = 2
    with pytest.raises(CannotSee, match="401"):
        await launcher.observe([handle])
    assert not (await sighting(launcher, handle)).gone


async def test_a_platform_that_asks_for_patience_is_left_alone_as_long_as_it_says(platform, simulator):
    clock = Clock()
    simulator.program(SLEEPS)
    launcher = CodeEngineLauncher(simulator.settings(), clock)
    handle = await launcher.launch(order(platform, workers=0))
    simulator.faults.left["too_many"] = 1
    with pytest.raises(CannotSee):
        await launcher.observe([handle])
    asked = sum(simulator.simulator.requests.values())
    with pytest.raises(CannotSee):
        await launcher.observe([handle])
    with pytest.raises(LaunchFailed):
        await launcher.launch(order(platform, workers=0))
    assert sum(simulator.simulator.requests.values()) == asked
    clock.now += 1.1
    assert not (await sighting(launcher, handle)).gone


async def test_one_look_is_one_request_however_many_runs_there_are(platform, simulator):
    launcher = platform.launcher(SLEEPS)
    handles = [await launcher.launch(order(platform, f"job-{n}-1", workers=0)) for n in range(5)]
    simulator.simulator.requests.clear()
    await launcher.observe(handles)
    await launcher.observe(handles)
    assert dict(simulator.simulator.requests) == {f"GET /v2/projects/{PROJECT}/job_runs": 2}


@pytest.mark.parametrize("simulator", [{"pace": Pace(visible=0.5)}], indirect=True)
async def test_a_run_that_is_not_listed_yet_is_pending_and_not_gone(platform):
    launcher = platform.launcher(SLEEPS)
    handle = await launcher.launch(order(platform))
    seen = await sighting(launcher, handle)
    assert [one.phase for one in seen.instances] == [Phase.PENDING]
    await running(platform, launcher, handle)


async def test_words_and_fields_that_are_unknown_or_missing_end_nothing(platform, simulator, caplog):
    launcher = platform.launcher(SLEEPS)
    handle = await launcher.launch(order(platform))
    await running(platform, launcher, handle)
    simulator.faults.left["odd_word"] = 1
    seen = await sighting(launcher, handle)
    assert [(one.index, one.phase) for one in seen.instances] == [(0, Phase.RUNNING), (1, Phase.RUNNING)]
    assert "hibernating" in seen.instances[0].story
    assert "hibernating" in caplog.text
    simulator.faults.left["no_details"] = 1
    seen = await sighting(launcher, handle)
    assert [(one.index, one.phase) for one in seen.instances] == [(0, Phase.RUNNING), (1, Phase.RUNNING)]


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ({}, [(0, Phase.RUNNING)]),
        ({"status": "pending", "scale_array_spec": "0-1"}, [(0, Phase.PENDING), (1, Phase.PENDING)]),
        ({"status": "completed", "status_details": None}, [(0, Phase.ENDED)]),
        ({"status_details": {"failed_indices": "0", "running_indices": "1-2"}}, [(1, Phase.RUNNING), (2, Phase.RUNNING), (0, Phase.ENDED)]),
        ({"status_details": {"indices_details": {"3": {"status": "failed", "finished_at": "never"}}}}, [(3, Phase.ENDED)]),
    ],
)  # fmt: skip
def test_what_is_left_of_an_answer_is_read(run, expected):
    assert [(one.index, one.phase) for one in instances(run, None)] == expected


@pytest.mark.parametrize(
    ("story", "code", "trouble"),
    [
        ("OOMKilled", None, Trouble.OUT_OF_MEMORY),
        ("ExceededEphemeralStorage", None, Trouble.OUT_OF_DISK),
        ("ContainerExitedCode7", 7, None),
        ("ImagePullBackOff", None, Trouble.IMAGE_PULL),
        ("SomethingElse", None, None),
    ],
)
def test_reasons_of_failures(story, code, trouble):
    detail = {"status": "failed", "last_failure_reason": story, "started_at": "2026-11-25T01:00:00Z"}
    (seen,) = instances({"status_details": {"indices_details": {"0": detail}}}, None)
    assert (seen.exit_code, seen.trouble, seen.story) == (code, trouble, story)


async def test_instances_that_die_and_that_never_start(platform, simulator):
    launcher = platform.launcher(SLEEPS)
    simulator.project.broken = {"die"}
    died = await gone(platform, launcher, await launcher.launch(order(platform, workers=0)))
    assert (died.head.exit_code, died.head.story) == (1, "ContainerExitedCode1")
    simulator.project.broken = {"never"}
    handle = await launcher.launch(order(platform, workers=0))
    assert (await sighting(launcher, handle)).head.phase is Phase.PENDING
    await launcher.stop(handle)
    seen = await gone(platform, launcher, handle)
    assert seen.head is None or seen.head.started is None  # and is not paid for
    assert simulator.project.billed.runs.get(handle.name) is None


async def test_what_can_never_run_is_refused(platform, simulator):
    launcher = platform.launcher(SLEEPS)
    odd = platform.cluster.model_copy(update={"cpus": 3.0})
    with pytest.raises(LaunchRefused, match=r"these are: 0\.125 vCPU with 0\.25 GB"):
        await launcher.launch(order(platform, cluster=odd))
    with pytest.raises(LaunchRefused, match="at most 8192"):
        await launcher.launch(order(platform, bootstrap="x" * PAYLOAD_BYTES))
    with pytest.raises(LaunchRefused, match=r"job_not_found|there is no job"):
        await CodeEngineLauncher(simulator.settings(job="another")).launch(order(platform))
    with pytest.raises(LaunchRefused, match="12 lower-case"):
        CodeEngineLauncher(simulator.settings(gateway="Not-a-name"))
    with pytest.raises(LaunchFailed):
        await CodeEngineLauncher(simulator.settings(url="http://127.0.0.1:9/v2")).launch(order(platform))


async def test_the_platform_gets_a_code_for_once_and_no_key(platform, simulator):
    launcher = platform.launcher(SLEEPS)
    handle = await launcher.launch(order(platform))
    body = simulator.project.get(handle.name).body
    assert KEY not in json.dumps(body)
    variables = {one["name"]: one["value"] for one in body["run_env_variables"]}
    assert variables.keys() == {"FLAREGATE_URL", "FLAREGATE_ATTEMPT", "FLAREGATE_BOOTSTRAP"}
    assert (body["scale_retry_limit"], body["scale_max_execution_time"]) == (0, 600)
    assert body["scale_ephemeral_storage_limit"] == body["scale_memory_limit"] == "4G"


def test_names_tell_the_attempt_and_the_replacement():
    assert attempt_of("job-01abc-2") == ("job-01abc-2", None)
    assert attempt_of("job-01abc-2-x17") == ("job-01abc-2", 17)


async def test_the_simulator_has_a_door_for_faults_and_tells_its_bill(simulator, platform):
    launcher = platform.launcher("pass")
    await gone(platform, launcher, await launcher.launch(order(platform, workers=1)))
    async with httpx.AsyncClient(base_url=simulator.url) as http:
        assert (await http.post("/_simulator/faults", content=json.dumps({"broken": 1}))).json()["left"]["broken"] == 1
        bill = (await http.get("/_simulator/bill")).json()
        assert bill["living"] == 0
        assert bill["vcpu_seconds"] == pytest.approx(bill["gb_seconds"] / 4)
        assert (await http.get("/_simulator/requests")).json()
