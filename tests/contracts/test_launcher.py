"""The conformance suite of launchers on every implementation."""

import os

import pytest

from gateway.launchers.conformance import SLEEPS, LauncherConformance
from tests.contracts.launchers import LocalPlatform


class TestLocal(LauncherConformance):
    @pytest.fixture
    async def platform(self, tmp_path):
        platform = LocalPlatform(tmp_path / "home", {"PATH": os.environ["PATH"]})
        yield platform
        launcher = platform.launcher(SLEEPS)
        for handle in await launcher.list():
            await launcher.stop(handle, force=True)
        assert list(await launcher.list()) == []
