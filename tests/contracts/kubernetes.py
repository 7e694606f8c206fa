"""What a Kubernetes does with Jobs and pods, for the small one of the tests and for a real one alike."""

import asyncio

import lightkube
import pytest
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import Pod
from lightkube.types import CascadeType

from gateway.launchers.base import CannotSee, LaunchRefused
from gateway.launchers.conformance import DEAF, SLEEPS, gone, order, patience, running, sighting
from gateway.launchers.kubernetes import KubernetesLauncher, KubernetesSettings
from tests.servers.kubelet import NAMESPACE


class KubernetesBehaviour:
    """Give fixtures `platform` and `admin`, which names a configuration without limits."""

    @pytest.fixture
    def api(self, admin):
        client = lightkube.Client(lightkube.KubeConfig.from_file(admin).get(), namespace=NAMESPACE)
        client._client._client.headers["User-Agent"] = "node"
        yield client
        client.close()

    async def test_without_a_gateway_all_goes_with_the_head_s_job(self, platform, api):
        launcher = platform.launcher(SLEEPS)
        handle = await launcher.launch(order(platform, workers=2))
        await running(platform, launcher, handle)
        await asyncio.to_thread(api.delete, Job, f"{handle.name}-0", cascade=CascadeType.BACKGROUND)
        await gone(platform, launcher, handle)
        await nothing_left(platform, api)

    async def test_what_was_stopped_leaves_nothing(self, platform, api):
        launcher = platform.launcher(SLEEPS)
        handle = await launcher.launch(order(platform, workers=2))
        await running(platform, launcher, handle)
        await launcher.stop(handle)
        await nothing_left(platform, api)
        assert (await sighting(launcher, handle)).gone

    async def test_an_ended_job_goes_by_itself(self, platform, api):
        launcher = platform.launcher("pass")
        handle = await launcher.launch(order(platform, workers=0))
        await gone(platform, launcher, handle)
        assert api.get(Job, f"{handle.name}-0").spec.ttlSecondsAfterFinished > 0
        api.patch(Job, f"{handle.name}-0", {"spec": {"ttlSecondsAfterFinished": 1}})
        await nothing_left(platform, api)

    async def test_a_run_past_its_deadline_is_ended_and_told(self, platform, api):
        launcher = platform.launcher(SLEEPS)
        handle = await launcher.launch(order(platform))
        await running(platform, launcher, handle)
        for index in (0, 1):
            api.patch(Job, f"{handle.name}-{index}", {"spec": {"activeDeadlineSeconds": 1}})
        await gone(platform, launcher, handle)
        async with patience(platform):
            while pods(platform, api):
                await asyncio.sleep(0.05)
        seen = await sighting(launcher, handle)
        assert [one.index for one in seen.instances] == [0, 1]
        assert all("DeadlineExceeded" in one.story for one in seen.instances)

    async def test_a_pod_that_is_taken_away_has_a_successor_at_once(self, platform, api):
        launcher = platform.launcher(DEAF)
        handle = await launcher.launch(order(platform, workers=0))
        await running(platform, launcher, handle)
        (first,) = pods(platform, api)
        api.delete(Pod, first.metadata.name, grace_period=5)
        async with patience(platform):
            while len(pods(platform, api)) < 2:
                await asyncio.sleep(0.02)
        leaving = next(one for one in pods(platform, api) if one.metadata.name == first.metadata.name)
        assert leaving.metadata.deletionGracePeriodSeconds == 5
        assert [one.index for one in (await sighting(launcher, handle)).instances] == [0]
        await launcher.stop(handle, force=True)
        await nothing_left(platform, api)

    async def test_an_end_is_told_of_its_job(self, platform, api):
        launcher = platform.launcher("raise SystemExit(7)")
        handle = await launcher.launch(order(platform, workers=0))
        await gone(platform, launcher, handle)
        async with patience(platform):
            while not (status := api.get(Job, f"{handle.name}-0").status).conditions:
                await asyncio.sleep(0.05)
        assert (status.failed, status.active, status.succeeded) == (1, None, None)
        assert [(one.type, one.status, one.reason) for one in status.conditions] == [
            ("Failed", "True", "BackoffLimitExceeded")
        ]

    async def test_sizes_are_kept_in_whole_numbers_of_a_unit(self, platform, api):
        cluster = platform.cluster.model_copy(update={"cpus": 0.5, "memory": 1_500_000_000})
        handle = await platform.launcher(SLEEPS).launch(order(platform, workers=0, cluster=cluster))
        (container,) = api.get(Job, f"{handle.name}-0").spec.template.spec.containers
        assert container.resources.limits == {"cpu": "500m", "memory": "1500M"}

    async def test_what_is_wrong_or_forbidden_is_never(self, platform):
        for changes, told in (
            ({"namespace": "default"}, "403 jobs.batch is forbidden"),
            ({"node_selector": {"pool": "/no value"}}, "422 .*nodeSelector"),
            ({"image": ""}, "422 .*image"),
            ({"gateway": "Upper"}, "422 .*metadata.name"),
        ):
            launcher = another(platform, **changes)
            with pytest.raises(LaunchRefused, match=told):
                await launcher.launch(order(platform, workers=0))
        with pytest.raises(CannotSee, match="403: pods is forbidden"):
            await another(platform, namespace="default").list()

    async def test_a_repeated_end_may_be_sooner_and_never_later(self, platform, api):
        launcher = platform.launcher(DEAF)
        handle = await launcher.launch(order(platform, workers=0))
        await running(platform, launcher, handle)
        (pod,) = pods(platform, api)
        told = []
        for grace in (10, 20, 5):
            api.delete(Pod, pod.metadata.name, grace_period=grace)
            told.append(api.get(Pod, pod.metadata.name).metadata)
        assert [one.deletionGracePeriodSeconds for one in told] == [10, 10, 5]
        assert told[0].deletionTimestamp == told[1].deletionTimestamp > told[2].deletionTimestamp
        await launcher.stop(handle, force=True)
        await gone(platform, launcher, handle)


def another(platform, **changes):
    """A launcher that differs."""
    given = {
        "namespace": NAMESPACE,
        "image": "image",
        "gateway": platform.gateway,
        "kubeconfig": str(platform.api.configuration),
    }
    platform.made.append(KubernetesLauncher(KubernetesSettings(**given | changes)))
    return platform.made[-1]


def pods(platform, api):
    return list(api.list(Pod, labels={"flaregate.io/gateway": platform.gateway}))


async def nothing_left(platform, api):
    async with patience(platform):
        while pods(platform, api) or list(api.list(Job, labels={"flaregate.io/gateway": platform.gateway})):
            await asyncio.sleep(0.05)
