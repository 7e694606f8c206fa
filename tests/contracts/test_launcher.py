"""The conformance suite of launchers on every implementation."""

import gc
import os
import secrets
import warnings

import pytest

from gateway.launchers.conformance import SLEEPS, LauncherConformance
from tests.contracts.launchers import CodeEnginePlatform, ContainerPlatform, LocalPlatform
from tests.servers.code_engine import code_engine
from tests.servers.podman import BARE, Podman


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


class TestCodeEngine(LauncherConformance):
    @pytest.fixture
    def platform(self, tmp_path):
        with code_engine(tmp_path / "instances") as simulator:
            yield CodeEnginePlatform(simulator)
