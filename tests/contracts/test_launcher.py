"""The conformance suite of launchers on every implementation."""

import gc
import os
import secrets
import warnings
from dataclasses import replace

import pytest
from docker.models.containers import Container, ContainerCollection

from gateway.launchers.base import ImageRefused, LaunchFailed
from gateway.launchers.conformance import HEAD_ENDS, SLEEPS, LauncherConformance, gone, order, running
from tests.contracts.launchers import (
    AwsBatchPlatform,
    CodeEnginePlatform,
    ContainerPlatform,
    KubernetesPlatform,
    LocalPlatform,
)
from tests.servers.aws_batch import aws_batch
from tests.servers.code_engine import code_engine
from tests.servers.kubernetes import kubernetes
from tests.servers.podman import BARE, Podman, refusal


class TestLocal(LauncherConformance):
    @pytest.fixture
    async def platform(self, tmp_path):
        platform = LocalPlatform(tmp_path / "home", {"PATH": os.environ["PATH"]})
        yield platform
        launcher = platform.launcher(SLEEPS)
        for handle in await launcher.list():
            await launcher.stop(handle, force=True)
        assert list(await launcher.list()) == []


@pytest.fixture(scope="module")
def podman(tmp_path_factory):
    podman = Podman(tmp_path_factory.mktemp("podman"))
    podman.bare()
    with podman.service():
        yield podman


@pytest.mark.services
class TestContainer(LauncherConformance):
    @pytest.fixture
    async def platform(self, podman):
        gateway = f"test-{secrets.token_hex(4)}"
        platform = ContainerPlatform(podman, f"unix://{podman.socket}", BARE, gateway)
        yield platform
        for launcher in platform.made:
            await launcher.close()
        with warnings.catch_warnings(action="ignore", category=ResourceWarning):
            gc.collect()  # docker-py leaves the socket open when it cannot connect
        podman.remove(f"io.flaregate.gateway={gateway}")

    async def test_an_image_that_was_removed_is_told_as_such(self, platform, podman):
        tag = f"localhost/{platform.gateway}:1"
        podman.run("tag", platform.image, tag)
        launcher = replace(platform, image=tag).launcher(SLEEPS)
        podman.run("untag", tag, tag)
        with pytest.raises(ImageRefused, match=tag):
            await launcher.launch(order(platform))

    async def test_a_container_that_another_launch_starts_first_is_started(self, platform, monkeypatch):
        start = Container.start

        def second(container):
            start(container)
            raise refusal(500, "must be in Created or Stopped state to be started: container state improper")

        monkeypatch.setattr(Container, "start", second)
        launcher = platform.launcher(SLEEPS)
        await running(platform, launcher, await launcher.launch(order(platform)))

    async def test_a_name_that_is_taken_before_its_container_is_shown_is_waited_for(self, platform, monkeypatch):
        create, taken = ContainerCollection.create, []

        def in_use(containers, *given, **options):
            if options["name"] not in taken:
                taken.append(options["name"])
                raise refusal(500, "creating container storage: that name is already in use")
            return create(containers, *given, **options)

        monkeypatch.setattr(ContainerCollection, "create", in_use)
        launcher = platform.launcher(SLEEPS)
        seen = await running(platform, launcher, await launcher.launch(order(platform)))
        assert [one.index for one in seen.instances] == [0, 1]
        assert len(taken) == 2

    async def test_a_container_that_was_created_and_not_started_is_started_by_the_next_launch(
        self, platform, monkeypatch
    ):
        def fails(_):
            raise refusal(500, "no space left on device")

        launcher, asked = platform.launcher(SLEEPS), order(platform)
        with monkeypatch.context() as patched:
            patched.setattr(Container, "start", fails)
            for _ in range(2):
                with pytest.raises(LaunchFailed, match="no space left"):
                    await launcher.launch(asked)
        seen = await running(platform, launcher, await launcher.launch(asked))
        assert [one.index for one in seen.instances] == [0, 1]


class TestCodeEngine(LauncherConformance):
    @pytest.fixture
    def platform(self, tmp_path):
        with code_engine(tmp_path / "instances") as simulator:
            yield CodeEnginePlatform(simulator)


class TestKubernetes(LauncherConformance):
    @pytest.fixture
    async def platform(self, tmp_path):
        with kubernetes(tmp_path) as api:
            platform = KubernetesPlatform(api)
            yield platform
            for launcher in platform.made:
                await launcher.close()


@pytest.fixture(scope="module")
def batch(podman, tmp_path_factory):
    folder, network = tmp_path_factory.mktemp("batch"), f"flaregate-batch-{secrets.token_hex(4)}"
    podman.run("network", "create", f"--label={network}", network)
    try:
        with aws_batch(folder, podman, network) as url:
            yield url, folder / "blind"
    finally:
        for name in podman.run("ps", "--all", "--quiet", f"--filter=network={network}").split():
            podman.run("rm", "--force", "--time=0", name, check=False)
        podman.remove(network)


@pytest.mark.services
class TestAwsBatch(LauncherConformance):
    @pytest.fixture
    async def platform(self, batch, monkeypatch):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "key")
        url, blind = batch
        platform = AwsBatchPlatform(url, BARE, blind, f"t{secrets.token_hex(4)}")
        yield platform
        if platform.made:
            for handle in await platform.made[0].list():
                await platform.made[0].stop(handle, force=True)
        for launcher in platform.made:
            await launcher.close()

    async def test_a_lost_worker_is_replaced_and_not_started_anew(self, platform):
        """moto has one state for all nodes of a job, so the worker is not seen to end; what Batch shows is in test_jobs."""
        launcher = platform.launcher(SLEEPS)
        asked = order(platform)
        handle = await launcher.launch(asked)
        before = await running(platform, launcher, handle)
        await launcher.launch(replace(asked, replacements=(2,), lost=(1,)))
        after = await running(platform, launcher, handle)
        assert [one.index for one in after.instances] == [0, 1, 2]
        assert after.instances[:2] == before.instances

    async def test_a_head_that_ends_leaves_the_workers_in_sight(self, platform):
        """Batch itself ends all nodes with the main one; in moto the job runs on until it is stopped."""
        launcher = platform.launcher(HEAD_ENDS)
        handle = await launcher.launch(order(platform))
        await running(platform, launcher, handle)
        await launcher.stop(handle)
        await gone(platform, launcher, handle)
