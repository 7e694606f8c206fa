"""The Kubernetes launcher: what its pods are, what the API's answers mean, how much it asks."""

import asyncio
import json
import socket
import threading
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from pydantic import ValidationError

from gateway import platforms
from gateway.launchers.base import Barred, CannotSee, LaunchFailed, LaunchRefused, Phase, Price, Quota, Trouble
from gateway.launchers.conformance import DEAF, SLEEPS, gone, order, running, sighting
from gateway.launchers.kubernetes import KubernetesLauncher, KubernetesSettings
from gateway.settings import Settings, SettingsRefused, load
from tests.contracts.kubernetes import KubernetesBehaviour, another
from tests.contracts.launchers import KubernetesPlatform
from tests.gateway.test_kubernetes_pods import TAKEN, told
from tests.servers.kubernetes import ApiServer, kubeconfig, kubernetes


@pytest.fixture
async def platform(tmp_path):
    with kubernetes(tmp_path) as api:
        platform = KubernetesPlatform(api)
        yield platform
        for launcher in platform.made:
            await launcher.close()


async def test_a_pod_has_its_size_and_no_rights(platform):
    launcher = another(
        platform,
        service_account="worker",
        image_pull_secrets=("registry",),
        node_selector={"pool": "batch"},
        tolerations=({"key": "batch", "operator": "Exists"},),
        command=("sleep", "600"),
    )
    cluster = platform.cluster.model_copy(update={"cpus": 1.5, "memory": 3_000_000_000, "gpus": 2})
    asked = order(platform, cluster=cluster)
    handle = await launcher.launch(asked)
    jobs = platform.api.objects["jobs"]
    head, worker = jobs[f"{handle.name}-0"], jobs[f"{handle.name}-1"]
    assert worker["metadata"]["ownerReferences"][0]["uid"] == head["metadata"]["uid"]
    assert (head["spec"]["backoffLimit"], head["spec"]["activeDeadlineSeconds"]) == (0, 600)
    assert head["spec"]["ttlSecondsAfterFinished"] > 0
    pod = head["spec"]["template"]["spec"]
    assert (pod["restartPolicy"], pod["automountServiceAccountToken"]) == ("Never", False)
    assert pod["serviceAccountName"] == "worker"
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert pod["nodeSelector"] == {"pool": "batch"}
    assert pod["tolerations"][0]["key"] == "batch"
    assert pod["securityContext"]["runAsNonRoot"] is True
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"cpu": "1500m", "memory": "3G", "nvidia.com/gpu": "2"}
    assert container["resources"]["requests"] == container["resources"]["limits"]
    volumes = {one["name"]: one["emptyDir"] for one in pod["volumes"]}
    assert volumes == {"tmp": {"sizeLimit": "3G"}, "shm": {"medium": "Memory", "sizeLimit": "1200M"}}
    context = container["securityContext"]
    assert (context["readOnlyRootFilesystem"], context["allowPrivilegeEscalation"]) == (True, False)
    assert context["capabilities"] == {"drop": ["ALL"]}
    variables = {one["name"]: one["value"] for one in container["env"]}
    assert variables.keys() == {"FLAREGATE_URL", "FLAREGATE_ATTEMPT", "FLAREGATE_INDEX", "FLAREGATE_BOOTSTRAP", "HOME"}


async def test_over_quota_is_not_now_and_what_is_wrong_is_never(platform):
    launcher = platform.launcher(SLEEPS)
    platform.api.quota = 1
    with pytest.raises(LaunchFailed, match="quota"):
        await launcher.launch(order(platform))
    platform.api.quota = None
    with pytest.raises(LaunchRefused, match="63"):
        await launcher.launch(order(platform, f"job-{'x' * 60}-1"))
    with pytest.raises(LaunchRefused, match="FLAREGATE_KUBERNETES_CONFIG"):
        KubernetesLauncher(KubernetesSettings("flaregate", "image", "test", kubeconfig="/nothing/there"))


async def test_a_token_that_is_not_taken_bars(platform):
    launcher = platform.launcher(SLEEPS)
    platform.api.stranger = True
    with pytest.raises(Barred, match="401"):
        await launcher.launch(order(platform))
    with pytest.raises(Barred, match="401"):
        await launcher.observe([])
    platform.api.stranger = False
    handle = await launcher.launch(order(platform))
    assert not (await launcher.observe([handle]))[handle].gone


async def test_a_look_is_one_request_while_nothing_is_missing(platform):
    launcher = platform.launcher(SLEEPS)
    handle = await launcher.launch(order(platform, workers=2))
    await running(platform, launcher, handle)
    platform.api.requests.clear()
    await launcher.observe([handle])
    assert platform.api.requests == ["GET /api/v1/namespaces/flaregate/pods"]


async def test_a_run_that_is_stopped_gets_no_other_pods(platform):
    """A Job whose pod is deleted may make another one, so the Job goes first."""
    launcher = platform.launcher(SLEEPS)
    handle = await launcher.launch(order(platform))
    await running(platform, launcher, handle)
    made = platform.api.pods_made
    controller = threading.Event()
    platform.api.before = lambda asked: asked.startswith("DELETE") and "jobs" in asked and controller.wait(0.4)
    await launcher.stop(handle)
    await gone(platform, launcher, handle)
    assert (made, platform.api.pods_made) == (2, 2)


async def test_pods_have_the_grace_that_is_asked_for(platform):
    asked = []
    launcher = platform.launcher(DEAF)
    handle = await launcher.launch(order(platform, workers=0))
    await running(platform, launcher, handle)
    for force in (False, False, True):
        await launcher.stop(handle, force=force)
        (pod,) = platform.api.objects["pods"].values()
        asked.append(pod["metadata"]["deletionGracePeriodSeconds"])
    assert asked == [10, 10, 1]
    await gone(platform, launcher, handle)


async def test_gateways_of_one_namespace_do_not_see_each_other(platform):
    launcher, stranger = platform.launcher(SLEEPS), another(platform, gateway="other")
    handle = await launcher.launch(order(platform))
    await running(platform, launcher, handle)
    assert list(await stranger.list()) == []
    await stranger.stop(stranger.handle(handle.attempt), force=True)
    assert not (await sighting(launcher, handle)).gone


class TestKubernetes(KubernetesBehaviour):
    @pytest.fixture
    def platform(self, platform):
        return platform

    @pytest.fixture
    def admin(self, platform):
        return platform.api.configuration


@pytest.fixture
async def bare(tmp_path):
    """An API server without a node: what is made stays as it is."""
    api = ApiServer()
    api.configuration = kubeconfig(tmp_path / "kubeconfig.json", api.url)
    platform = KubernetesPlatform(api)
    yield platform
    for launcher in platform.made:
        await launcher.close()
    api.close()


async def test_a_job_without_a_pod_waits_for_one(bare):
    launcher = bare.launcher(SLEEPS)
    handle = await launcher.launch(order(bare))
    seen = await sighting(launcher, handle)
    assert [(one.index, one.phase) for one in seen.instances] == [(0, Phase.PENDING), (1, Phase.PENDING)]
    restarted = bare.launcher(SLEEPS)
    assert await sighting(restarted, handle) == seen
    assert list(await restarted.list()) == [handle]
    condition = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "active for too long"}
    bare.api.objects["jobs"][f"{handle.name}-1"]["status"] = {"conditions": [condition]}  # as 1.20.2 may have it
    worker = (await sighting(launcher, handle)).instances[1]
    assert (worker.phase, worker.story) == (Phase.ENDED, "DeadlineExceeded: active for too long")


def with_pod(api, handle, index, suffix="", **status):
    """Make the pod of a Job, as a node has it."""
    job = api.objects["jobs"][f"{handle.name}-{index}"]
    name = f"{handle.name}-{index}{suffix}"
    api.objects["pods"][name] = {
        "metadata": {"name": name, "labels": job["metadata"]["labels"]},
        "spec": job["spec"]["template"]["spec"] | {"nodeName": "node"},
        "status": {"phase": "Running"} | status,
    }
    return api.objects["pods"][name]


async def test_a_pod_that_is_being_deleted_lives_is_not_asked_again_and_can_be_forced(bare):
    launcher = bare.launcher(SLEEPS)
    handle = await launcher.launch(order(bare, workers=0))
    pod = with_pod(bare.api, handle, 0)
    await launcher.stop(handle)
    assert (await sighting(launcher, handle)).gone is False
    assert handle in await launcher.list()
    bare.api.requests.clear()
    await launcher.stop(handle)
    assert not [line for line in bare.api.requests if line.startswith("DELETE")]
    await launcher.stop(handle, force=True)
    assert pod["metadata"]["deletionGracePeriodSeconds"] == 1


async def test_a_job_s_second_pod_counts_and_not_the_one_that_was_lost(bare):
    launcher = bare.launcher(SLEEPS)
    handle = await launcher.launch(order(bare, workers=0))
    with_pod(bare.api, handle, 0, "-b", phase="Pending")
    with_pod(bare.api, handle, 0, "-a", phase="Failed", reason="Preempting", message="for system-critical pods")
    assert (await sighting(launcher, handle)).head.phase is Phase.PENDING
    del bare.api.objects["pods"][f"{handle.name}-0-b"]
    head = (await sighting(launcher, handle)).head
    assert (head.phase, head.story) == (Phase.ENDED, "Preempting: for system-critical pods")


async def test_an_api_that_does_not_answer_in_time_is_not_believed(tmp_path, bare):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        bare.api.configuration = kubeconfig(tmp_path / "silent.json", f"http://127.0.0.1:{silent.getsockname()[1]}")
        launcher = another(bare, patience=0.2)
        with pytest.raises(CannotSee, match="Timeout"):
            await launcher.observe([])
        with pytest.raises(LaunchFailed, match="Timeout"):
            await launcher.launch(order(bare))


FAILED = {
    "type": "Failed",
    "status": "True",
    "reason": "BackoffLimitExceeded",
    "message": "Job has reached the specified backoff limit",
    "lastTransitionTime": "2026-11-25T01:00:00Z",
}


async def test_a_pod_that_was_taken_away_is_told_as_such_when_it_is_gone(bare):
    """Kubernetes removes the pod; its Job remains, and says nothing of why."""
    launcher = bare.launcher(SLEEPS)
    handle = await launcher.launch(order(bare, workers=0))
    made = with_pod(bare.api, handle, 0, containerStatuses=[told({"running": {}})], conditions=[TAKEN])
    seen = await sighting(launcher, handle)
    assert (seen.head.phase, "PreemptionByScheduler" in seen.head.story) == (Phase.RUNNING, True)
    del bare.api.objects["pods"][made["metadata"]["name"]]
    bare.api.objects["jobs"][f"{handle.name}-0"]["status"] = {"failed": 1, "conditions": [FAILED]}
    for _ in range(2):
        seen = (await sighting(launcher, handle)).head
        assert (seen.phase, seen.ended) == (Phase.ENDED, datetime(2026, 11, 25, 1, tzinfo=UTC))
        assert "PreemptionByScheduler" in seen.story
        assert "BackoffLimitExceeded" in seen.story
    other = bare.launcher(SLEEPS)
    assert (await sighting(other, handle)).head.phase is Phase.ENDED
    assert list(await other.kept()) == [handle]
    await other.forget(handle)
    assert not bare.api.objects["jobs"]


async def test_a_conflict_with_what_is_not_there_is_not_now(bare):
    """As where two write one quota at once, or a Job of that name goes at the moment."""
    launcher = bare.launcher(SLEEPS)
    asked = order(bare, workers=0)
    handle = await launcher.launch(asked)
    name = f"{handle.name}-0"
    bare.api.before = lambda asked: asked.endswith(name) and bare.api.objects["jobs"].pop(name)
    with pytest.raises(LaunchFailed, match="already exists"):
        await launcher.launch(asked)
    assert await launcher.launch(asked) == handle


async def test_an_image_that_cannot_be_pulled_is_told(platform):
    launcher = another(platform, image="missing/image", command=("true",))
    handle = await launcher.launch(order(platform, workers=0))
    async with asyncio.timeout(10):
        while (seen := (await sighting(launcher, handle)).head).trouble is None:
            await asyncio.sleep(0.05)
    assert (seen.phase, seen.trouble, seen.story) == (Phase.PENDING, Trouble.IMAGE_PULL, "ErrImagePull: no such image")
    await launcher.stop(handle, force=True)
    await gone(platform, launcher, handle)


async def test_a_server_that_breaks_is_not_believed(platform):
    launcher = platform.launcher(SLEEPS)
    handle = await launcher.launch(order(platform))
    with platform.blind():
        for look in (launcher.observe([handle]), launcher.list(), launcher.kept(), launcher.stop(handle)):
            with pytest.raises(CannotSee):
                await look
    assert handle in await launcher.list()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"launcher": "kubernetes"}, "FLAREGATE_KUBERNETES_IMAGE"),
        ({"launcher": "container"}, "FLAREGATE_CONTAINER_IMAGE"),
        ({"launcher": "code_engine"}, "FLAREGATE_CODE_ENGINE_PROJECT"),
        ({"launcher": "kubernetes", "kubernetes_image": "i", "spare": 5}, "FLAREGATE_SPARE"),
    ],
)
def test_a_launcher_without_its_settings_is_refused(given, told, tmp_path):
    with pytest.raises(ValidationError, match=told):
        Settings(home=tmp_path, **given)


GIVEN = {
    "FLAREGATE_LAUNCHER": "kubernetes",
    "FLAREGATE_KUBERNETES_IMAGE": "image",
    "FLAREGATE_KUBERNETES_GPU_RESOURCE": "amd.com/gpu",
    "FLAREGATE_PLATFORM_QUOTA": json.dumps({"cpus": 64, "instances": 40}),
    "FLAREGATE_PLATFORM_PRICE": json.dumps(
        {"vcpu_second": "0.00001", "gib_second": "0.000002", "currency": "EUR", "source": "our contract"}
    ),
}


@pytest.fixture
def environment(monkeypatch, tmp_path, platform):
    given = GIVEN | {
        "FLAREGATE_HOME": str(tmp_path / "home"),
        "FLAREGATE_KUBERNETES_CONFIG": str(platform.api.configuration),
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


async def test_quota_price_and_gpus_are_as_set(environment, platform):
    launcher = platforms.launcher(load())
    platform.made.append(launcher)
    can = launcher.capabilities
    assert can.quota == Quota(cpus=64, instances=40)
    assert can.price == Price(Decimal("0.00001"), Decimal("0.000002"), "EUR", "our contract")
    assert can.max_cpus == 64
    handle = await launcher.launch(order(platform, cluster=platform.cluster.model_copy(update={"gpus": 1})))
    spec = platform.api.objects["jobs"][f"{handle.name}-0"]["spec"]["template"]["spec"]
    assert spec["containers"][0]["resources"]["limits"]["amd.com/gpu"] == "1"


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("PLATFORM_QUOTA", '{"cpu": 1}', "FLAREGATE_PLATFORM_QUOTA: cpu: "),
        ("PLATFORM_QUOTA", '{"cpus": 0}', "FLAREGATE_PLATFORM_QUOTA: cpus: .*greater than 0"),
        ("PLATFORM_PRICE", '{"vcpu_second": 1, "gib_second": 1, "source": ""}', "FLAREGATE_PLATFORM_PRICE: currency: "),
        ("KUBERNETES_GPU_RESOURCE", "gpu", "FLAREGATE_KUBERNETES_GPU_RESOURCE: "),
        ("LAUNCHER", "local", "FLAREGATE_PLATFORM_QUOTA is for remote platforms"),
    ],
)
def test_a_quota_or_price_that_cannot_be_meant_is_refused(environment, name, value, told):
    environment.setenv(f"FLAREGATE_{name}", value)
    with pytest.raises(SettingsRefused, match=told):
        load()
