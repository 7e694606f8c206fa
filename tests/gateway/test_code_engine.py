"""The Code Engine launcher and the simulator: limits, tokens, faults, words that nobody knows. IBM's SDK is the client."""

import asyncio
import json

import pytest

from gateway.launchers.base import Barred, CannotSee, LaunchFailed, LaunchRefused, Phase, Trouble
from gateway.launchers.code_engine import PAYLOAD_BYTES, CodeEngineLauncher
from gateway.launchers.code_engine_api import PATIENCE, retry_after
from gateway.launchers.code_engine_runs import attempt_of, instances
from gateway.launchers.conformance import SLEEPS, gone, order, running, sighting
from infra.code_engine.simulator.limits import Quota
from infra.code_engine.simulator.project import Pace
from tests.contracts.launchers import CodeEnginePlatform
from tests.servers.code_engine import KEY, PROJECT, code_engine


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


@pytest.mark.parametrize("simulator", [{"quota": Quota(runs=2)}], indirect=True)
async def test_over_the_number_of_runs_is_not_now_rather_than_never(platform):
    launcher = platform.launcher("pass")
    handles = [await launcher.launch(order(platform, f"job-{n}-1", workers=0)) for n in range(2)]
    with pytest.raises(LaunchFailed, match="limit"):
        await launcher.launch(order(platform, "job-3-1", workers=0))
    await gone(platform, launcher, handles[0])
    await launcher.forget(handles[0])
    async with asyncio.timeout(5):
        while True:
            try:
                await launcher.launch(order(platform, "job-3-1", workers=0))
                break
            except LaunchFailed:  # until the deleted one is really gone
                await asyncio.sleep(0.02)


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
        simulator.simulator.iam.tokens.clear()
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


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "3"}, 3),
        ({"Retry-After": "Wed, 25 Nov 2026 10:00:42 GMT", "Date": "Wed, 25 Nov 2026 10:00:00 GMT"}, 42),
        ({"Retry-After": "Wed, 25 Nov 2026 10:00:00 GMT", "Date": "Wed, 25 Nov 2026 10:00:42 GMT"}, 0),
        ({"Retry-After": "Wed, 25 Nov 2099 10:00:00 GMT"}, PATIENCE),
        ({"Retry-After": "86400"}, PATIENCE),
        ({"Retry-After": "-1"}, 0),
        ({"Retry-After": "soon"}, 1),
        ({}, 1),
    ],
)
def test_how_long_an_answer_asks_for_patience(headers, seconds):
    assert retry_after(headers) == seconds


async def test_patience_is_kept_where_it_is_asked_for_after_a_token_was_renewed(platform, simulator):
    clock = Clock()
    simulator.program(SLEEPS)
    launcher = CodeEngineLauncher(simulator.settings(), clock)
    handle = await launcher.launch(order(platform, workers=0))
    simulator.faults.next = ["unauthorized", "too_many"]
    with pytest.raises(CannotSee, match="429"):
        await launcher.observe([handle])
    asked = sum(simulator.simulator.requests.values())
    with pytest.raises(CannotSee, match="not to be asked"):
        await launcher.observe([handle])
    assert sum(simulator.simulator.requests.values()) == asked
    clock.now += 1.1
    assert not (await sighting(launcher, handle)).gone


async def test_a_wrong_key_bars_and_is_no_ones_fault_and_all_goes_on_when_it_is_mended(platform, simulator):
    launcher = platform.launcher(SLEEPS)
    simulator.simulator.iam.key = "another"
    for _ in range(3):
        async with asyncio.timeout(5):
            with pytest.raises(Barred, match=r"API key could not be found.*FLAREGATE_CODE_ENGINE_KEY"):
                await launcher.launch(order(platform, workers=0))
            with pytest.raises(Barred):
                await launcher.observe([])
    simulator.simulator.iam.key = KEY
    assert not (await sighting(launcher, await launcher.launch(order(platform, workers=0)))).gone


async def test_a_project_that_is_not_there_bars(platform, simulator):
    launcher = CodeEngineLauncher(simulator.settings(project="another"))
    with pytest.raises(Barred, match="FLAREGATE_CODE_ENGINE_PROJECT"):
        await launcher.launch(order(platform, workers=0))
    with pytest.raises(Barred, match="FLAREGATE_CODE_ENGINE_PROJECT"):
        await launcher.list()


async def test_a_key_that_may_look_and_not_create_is_told_as_such(platform, simulator):
    launcher = platform.launcher(SLEEPS)
    simulator.faults.next = ["forbidden"]
    with pytest.raises(LaunchRefused, match=r"403 .*; the key needs the role Writer"):
        await launcher.launch(order(platform, workers=0))


async def test_iam_that_does_not_answer_says_nothing_of_the_key(platform, simulator):
    launcher = platform.launcher(SLEEPS)
    simulator.faults.left["broken"] = 1
    with pytest.raises(LaunchFailed, match="IAM gave no token: 500") as failed:
        await launcher.launch(order(platform, workers=0))
    assert not isinstance(failed.value, Barred)
    async with asyncio.timeout(5):
        assert not (await sighting(launcher, await launcher.launch(order(platform, workers=0)))).gone


async def test_threads_share_one_token(platform, simulator):
    launcher = platform.launcher(SLEEPS)
    await asyncio.gather(*(launcher.observe([]) for _ in range(8)))
    assert simulator.simulator.requests["POST /identity/token"] == 1


async def test_who_waits_for_iam_has_its_answer_and_does_not_ask_again(platform, simulator):
    launcher = platform.launcher(SLEEPS)
    simulator.faults.slow, simulator.simulator.iam.key = 0.5, "another"
    answers = await asyncio.gather(*(launcher.observe([]) for _ in range(6)), return_exceptions=True)
    assert {type(answer) for answer in answers} == {Barred}
    assert dict(simulator.simulator.requests) == {"POST /identity/token": 1}


async def test_a_platform_that_takes_its_time_keeps_no_one_else_in_the_gateway_waiting(platform, simulator):
    launcher = platform.launcher(SLEEPS)
    simulator.faults.slow = 3
    looks = [asyncio.create_task(launcher.observe([])) for _ in range(40)]
    await asyncio.sleep(0.1)
    async with asyncio.timeout(2.5):
        await asyncio.to_thread(str)
    simulator.faults.slow = 0.0
    await asyncio.gather(*looks)


async def test_a_restarted_gateway_ends_the_replacements_too(platform, simulator):
    launcher = platform.launcher(SLEEPS)
    handle = await launcher.launch(order(platform, "job-1-1", workers=0, replacements=(1, 2)))
    await running(platform, launcher, handle)
    restarted = platform.launcher(SLEEPS)
    await restarted.stop(handle)
    await gone(platform, restarted, handle)
    async with asyncio.timeout(5):
        while simulator.project.visible():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("renamed", [{"runs": []}, {"job_runs": None}, {"job_runs": [{"title": "fg-test-job-1"}]}, []])
async def test_a_list_that_cannot_be_read_says_nothing(platform, simulator, renamed):
    launcher = platform.launcher(SLEEPS)
    await launcher.launch(order(platform, workers=0))
    simulator.faults.list = renamed
    with pytest.raises(CannotSee, match="cannot be read"):
        await launcher.list()


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
        ({"status_details": {"failed_indices": "0", "running_indices": "1-2"}}, [(0, Phase.ENDED), (1, Phase.RUNNING), (2, Phase.RUNNING)]),
        ({"status": "failed"}, [(0, Phase.ENDED)]),
        ({"status": "failed", "scale_array_spec": "0-1"}, [(0, Phase.RUNNING), (1, Phase.RUNNING)]),
        ({"status": "running", "scale_array_spec": "0-1", "status_details": {"indices_details": {"1": {"status": "failed"}}}}, [(0, Phase.RUNNING), (1, Phase.ENDED)]),
        ({"status": "running", "status_details": {"indices_details": {"zero": {"status": "failed"}}}}, [(0, Phase.RUNNING)]),
        ({"status": "running", "status_details": {"indices_details": {"0": None}, "failed_indices": "all"}}, [(0, Phase.RUNNING)]),
        ({"status_details": {"indices_details": {"3": {"status": "failed", "finished_at": "never"}}}}, [(0, Phase.RUNNING), (3, Phase.ENDED)]),
    ],
)  # fmt: skip
def test_what_is_left_of_an_answer_is_read(run, expected):
    assert [(one.index, one.phase) for one in instances(run, None)] == expected


@pytest.mark.parametrize(
    ("story", "trouble"),
    [
        ("ImagePullBackOff", Trouble.IMAGE_RETRIED),
        ("ErrImagePull", Trouble.IMAGE_RETRIED),
        ("ErrImagePull: worker:1: not found", Trouble.IMAGE_PULL),
        ("InvalidImageName", Trouble.IMAGE_PULL),
        ("CreateContainerConfigError", Trouble.MISCONFIGURED),
        ("OOMKilled", None),
    ],
)
def test_what_does_not_start_is_told_while_it_is_tried(story, trouble):
    detail = {"status": "pending", "last_failure_reason": story}
    (seen,) = instances({"status_details": {"indices_details": {"0": detail}}}, None)
    assert (seen.phase, seen.trouble, seen.story) == (Phase.PENDING, trouble, story)


@pytest.mark.parametrize(
    ("story", "code", "trouble"),
    [
        ("OOMKilled", None, Trouble.OUT_OF_MEMORY),
        ("ExceededEphemeralStorage", None, Trouble.OUT_OF_DISK),
        ("ContainerExitedCode7", 7, None),
        ("ImagePullBackOff", None, Trouble.IMAGE_RETRIED),
        ("SomethingElse", None, None),
    ],
)
def test_reasons_of_failures(story, code, trouble):
    detail = {"status": "failed", "last_failure_reason": story, "started_at": "2026-11-25T01:00:00Z"}
    (seen,) = instances({"status_details": {"indices_details": {"0": detail}}}, None)
    assert (seen.exit_code, seen.trouble, seen.story) == (code, trouble, story)


async def test_instances_that_die_and_that_never_start(platform, simulator):
    launcher = platform.launcher(SLEEPS)
    simulator.faults.instances = {"die"}
    died = await gone(platform, launcher, await launcher.launch(order(platform, workers=0)))
    assert (died.head.exit_code, died.head.story) == (1, "ContainerExitedCode1")
    simulator.faults.instances = {"never"}
    handle = await launcher.launch(order(platform, workers=0))
    assert (await sighting(launcher, handle)).head.phase is Phase.PENDING
    await launcher.stop(handle)
    seen = await gone(platform, launcher, handle)
    assert seen.head is None or seen.head.started is None  # and is not paid for
    assert simulator.project.billed.runs.get(handle.name) is None


async def test_what_can_never_run_is_refused(platform, simulator):
    launcher = platform.launcher(SLEEPS)
    odd = platform.cluster.model_copy(update={"cpus": 3.0})
    with pytest.raises(LaunchRefused, match=r"resources.cpus and .*: 3 vCPU with 4 GB .* the next is 4 vCPU with 8 GB"):
        await launcher.launch(order(platform, cluster=odd))
    with pytest.raises(LaunchRefused, match="the largest is 12 vCPU with 48 GB"):
        await launcher.launch(order(platform, cluster=odd.model_copy(update={"cpus": 16.0})))
    with pytest.raises(LaunchRefused, match="at most 8192"):
        await launcher.launch(order(platform, bootstrap="x" * PAYLOAD_BYTES))
    with pytest.raises(LaunchRefused, match="there is no job another; see FLAREGATE_CODE_ENGINE_JOB"):
        await CodeEngineLauncher(simulator.settings(job="another")).launch(order(platform))
    with pytest.raises(LaunchRefused, match="FLAREGATE_CODE_ENGINE_KEY"):
        CodeEngineLauncher(simulator.settings(key="{key}"))
    with pytest.raises(LaunchRefused, match="12 lower-case"):
        CodeEngineLauncher(simulator.settings(gateway="Not-a-name"))
    with pytest.raises(LaunchFailed):
        await CodeEngineLauncher(simulator.settings(url="http://127.0.0.1:9/v2")).launch(order(platform))


async def test_the_platform_gets_a_code_for_once_and_no_key(platform, simulator):
    launcher = platform.launcher(SLEEPS)
    handle = await launcher.launch(order(platform))
    body = simulator.project.get(handle.name).order.body
    assert KEY not in json.dumps(body)
    variables = {one["name"]: one["value"] for one in body["run_env_variables"]}
    assert variables.keys() == {"FLAREGATE_URL", "FLAREGATE_ATTEMPT", "FLAREGATE_BOOTSTRAP"}
    assert (body["scale_retry_limit"], body["scale_max_execution_time"]) == (0, 600)
    assert body["scale_ephemeral_storage_limit"] == body["scale_memory_limit"] == "4G"


def test_names_tell_the_attempt_and_the_replacement():
    assert attempt_of("job-01abc-2") == ("job-01abc-2", None)
    assert attempt_of("job-01abc-2-x17") == ("job-01abc-2", 17)
