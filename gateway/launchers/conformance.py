"""The conformance suite of launchers: what gateway.launchers.base promises, for the tests of every implementation.

    class TestMine(LauncherConformance):
        @pytest.fixture
        async def platform(self):
            yield MyPlatform(...)  # and clear up

Needs pytest with pytest-asyncio in its auto mode.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Protocol

import pytest

from flaregate_wire.jobs import Cluster
from gateway.launchers.base import CannotSee, Handle, Launcher, LaunchFailed, LaunchOrder, Phase, Sighting

_NAMES = ("FLAREGATE_INDEX", "JOB_INDEX", "AWS_BATCH_JOB_NODE_INDEX")
INDEX = f"int(next((os.environ[name] for name in {_NAMES} if name in os.environ), 0))"
"""In a program of the suite: the number of its container."""
SLEEPS = "import time; time.sleep(600)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
HEAD_ENDS = f"import os, time; time.sleep(600 if {INDEX} else 0)"
FIRST_WORKER_ENDS = f"import os, time; time.sleep(0 if {INDEX} == 1 else 600)"


class Platform(Protocol):
    """A platform to run the suite on."""

    patience: float
    """Seconds in which a container starts or ends."""
    cluster: Cluster
    """A size that the platform takes; the suite changes its workers."""

    def launcher(self, program: str) -> Launcher:
        """A launcher of one gateway whose containers run this Python code; a second one is that gateway restarted."""
        ...

    def blind(self) -> Any:
        """A context manager in which the platform gives no answer; None where there is nothing that could be silent."""
        ...


def order(platform: Platform, attempt: str | None = None, workers: int = 1, **changes: Any) -> LaunchOrder:
    """An order of the suite."""
    topology = "cluster" if workers else "single"
    given: dict[str, Any] = {
        "job": "job-1",
        "attempt": attempt or f"job-{time.monotonic_ns():x}-1",
        "tenant": "t",
        "cluster": platform.cluster.model_copy(update={"topology": topology, "workers": workers}),
        "gateway_url": "http://127.0.0.1:9",
        "bootstrap": "bootstrap-canary",
        "max_seconds": 600.0,
    }
    return LaunchOrder(**given | changes)


class LauncherConformance:
    """Give a fixture `platform`; each test leaves what it started to it."""

    async def test_a_launched_run_is_seen_with_head_and_workers(self, platform: Platform) -> None:
        launcher = platform.launcher(SLEEPS)
        asked = order(platform, workers=2)
        handle = await launcher.launch(asked)
        assert handle == launcher.handle(asked.attempt)
        seen = await sighting(launcher, handle)
        assert [instance.index for instance in seen.instances] == [0, 1, 2]
        assert not seen.gone
        assert handle in await launcher.list()
        async with patience(platform):
            while any(one.phase is not Phase.RUNNING for one in (await sighting(launcher, handle)).instances):
                await asyncio.sleep(0.05)

    async def test_the_same_attempt_launched_again_starts_nothing(self, platform: Platform) -> None:
        launcher = platform.launcher(SLEEPS)
        asked = order(platform)
        handles = await asyncio.gather(*[launcher.launch(asked) for _ in range(5)])
        first = await running(platform, launcher, handles[0])
        restarted = platform.launcher(SLEEPS)
        assert {*handles, await restarted.launch(asked)} == {handles[0]}
        again = await sighting(restarted, handles[0])
        assert [one.index for one in again.instances] == [0, 1]
        assert [one.started for one in again.instances] == [one.started for one in first.instances]
        assert list(await restarted.list()) == [handles[0]]

    async def test_a_replacement_joins_the_run(self, platform: Platform) -> None:
        launcher = platform.launcher(SLEEPS)
        asked = order(platform)
        handle = await launcher.launch(asked)
        first = await running(platform, launcher, handle)
        for _ in range(2):
            assert await launcher.launch(replace(asked, replacements=(2,))) == handle
        seen = await running(platform, launcher, handle)
        assert [one.index for one in seen.instances] == [0, 1, 2]
        assert [one.started for one in seen.instances[:2]] == [one.started for one in first.instances]
        assert list(await launcher.list()) == [handle]
        await launcher.stop(handle, force=True)
        await gone(platform, launcher, handle)

    async def test_a_lost_worker_is_replaced_and_not_started_anew(self, platform: Platform) -> None:
        launcher = platform.launcher(FIRST_WORKER_ENDS)
        asked = order(platform)
        handle = await launcher.launch(asked)
        before = await phases(platform, launcher, handle, Phase.RUNNING, Phase.ENDED)
        again = replace(asked, replacements=(2,), lost=(1,))
        for gateway in (launcher, platform.launcher(FIRST_WORKER_ENDS)):  # the second one is the first restarted
            assert await gateway.launch(again) == handle
        after = await phases(platform, launcher, handle, Phase.RUNNING, Phase.ENDED, Phase.RUNNING)
        assert [one.started for one in after.instances[:2]] == [one.started for one in before.instances]
        await launcher.stop(handle, force=True)
        await gone(platform, launcher, handle)

    async def test_a_run_that_has_ended_is_not_started_again(self, platform: Platform) -> None:
        launcher = platform.launcher("pass")
        asked = order(platform)
        seen = await gone(platform, launcher, await launcher.launch(asked))
        again = await gone(platform, launcher, await launcher.launch(asked))
        assert [one.started for one in again.instances] == [one.started for one in seen.instances]

    @pytest.mark.parametrize(("program", "code"), [("pass", 0), ("raise SystemExit(7)", 7)])
    async def test_an_end_is_told_with_its_exit_code_and_stays(
        self, platform: Platform, program: str, code: int
    ) -> None:
        launcher = platform.launcher(program)
        handle = await launcher.launch(order(platform, workers=0))
        seen = await gone(platform, launcher, handle)
        assert seen.head is not None
        assert seen.head.phase is Phase.ENDED
        assert seen.head.exit_code in (code, None)
        assert seen.head.started is not None
        assert seen.head.ended is not None
        assert seen.head.started <= seen.head.ended
        assert await sighting(launcher, handle) == seen
        assert await sighting(platform.launcher(SLEEPS), handle) == seen
        assert list(await launcher.list()) == []

    async def test_a_head_that_ends_leaves_the_workers_in_sight(self, platform: Platform) -> None:
        launcher = platform.launcher(HEAD_ENDS)
        handle = await launcher.launch(order(platform))
        await phases(platform, launcher, handle, Phase.ENDED, Phase.RUNNING)
        assert not (await sighting(launcher, handle)).gone

    async def test_stop_asks_and_is_repeatable(self, platform: Platform) -> None:
        launcher = platform.launcher(SLEEPS)
        handle = await launcher.launch(order(platform))
        await stopped(platform, launcher, handle)
        await launcher.stop(handle)
        await launcher.stop(handle, force=True)

    async def test_force_ends_what_does_not_listen(self, platform: Platform) -> None:
        launcher = platform.launcher(DEAF)
        handle = await launcher.launch(order(platform))
        await running(platform, launcher, handle)
        await launcher.stop(handle)
        await launcher.stop(handle, force=True)
        await gone(platform, launcher, handle)

    async def test_a_restarted_gateway_stops_what_it_did_not_start(self, platform: Platform) -> None:
        handle = await platform.launcher(SLEEPS).launch(order(platform))
        restarted = platform.launcher(SLEEPS)
        await stopped(platform, restarted, handle)

    async def test_what_was_never_launched_is_gone_and_stopping_it_is_a_success(self, platform: Platform) -> None:
        launcher = platform.launcher(SLEEPS)
        handle = launcher.handle("job-never-1")
        assert handle == Handle("job-never-1", handle.name)
        seen = await sighting(launcher, handle)
        assert seen.instances == ()
        assert seen.gone
        await launcher.stop(handle)
        await launcher.stop(handle, force=True)
        await launcher.forget(handle)

    async def test_runs_do_not_touch_each_other(self, platform: Platform) -> None:
        launcher = platform.launcher(SLEEPS)
        names = (f"job-{time.monotonic_ns():x}-1", f"job-{time.monotonic_ns():x}-11")
        first, second = [await launcher.launch(order(platform, name)) for name in names]
        await launcher.stop(first, force=True)
        await gone(platform, launcher, first)
        assert not (await sighting(launcher, second)).gone

    async def test_what_is_forgotten_was_ended_and_is_not_listed(self, platform: Platform) -> None:
        launcher = platform.launcher("pass")
        handle = await launcher.launch(order(platform, workers=0))
        await gone(platform, launcher, handle)
        for _ in range(2):
            await launcher.forget(handle)
        assert (await sighting(launcher, handle)).gone
        assert handle not in await launcher.list()
        async with patience(platform):
            while handle in await launcher.kept():
                await asyncio.sleep(0.05)

    async def test_a_platform_that_gives_no_answer_is_not_guessed_at(self, platform: Platform) -> None:
        launcher = platform.launcher(SLEEPS)
        handle = await launcher.launch(order(platform))
        silence = platform.blind()
        if silence is None:
            return
        with silence:
            with pytest.raises(CannotSee):
                await launcher.observe([handle])
            with pytest.raises(CannotSee):
                await launcher.list()
            with pytest.raises(LaunchFailed):
                await launcher.launch(order(platform))
        assert not (await sighting(launcher, handle)).gone

    async def test_it_says_what_it_can_do_and_what_is_in_its_containers(self, platform: Platform) -> None:
        launcher = platform.launcher(SLEEPS)
        can = launcher.capabilities
        assert can.max_cpus >= 1
        assert can.max_memory > 0
        assert can.lease > 0
        assert list(can.sizes) == sorted(can.sizes)
        assert {"python", "cloudpickle", "ray", "scikit-learn", "numpy"} <= set(launcher.environment())


async def sighting(launcher: Launcher, handle: Handle) -> Sighting:
    """What the platform says of one run."""
    return (await launcher.observe([handle]))[handle]


async def gone(platform: Platform, launcher: Launcher, handle: Handle) -> Sighting:
    """The sighting in which nothing of a run is left."""
    async with patience(platform):
        while not (seen := await sighting(launcher, handle)).gone:
            await asyncio.sleep(0.05)
    return seen


async def stopped(platform: Platform, launcher: Launcher, handle: Handle) -> None:
    """Ask a run to end until it has: a container that is only just beginning may not hear the first time."""
    async with patience(platform):
        await launcher.stop(handle)
        while not (await sighting(launcher, handle)).gone:
            await asyncio.sleep(0.5)
            await launcher.stop(handle)


async def running(platform: Platform, launcher: Launcher, handle: Handle) -> Sighting:
    """The sighting in which all of a run runs."""
    async with patience(platform):
        while True:
            seen = await sighting(launcher, handle)
            if seen.instances and all(one.phase is Phase.RUNNING for one in seen.instances):
                return seen
            await asyncio.sleep(0.05)


async def phases(platform: Platform, launcher: Launcher, handle: Handle, *expected: Phase) -> Sighting:
    """The sighting in which the containers are as expected."""
    async with patience(platform):
        while True:
            seen = await sighting(launcher, handle)
            if [one.phase for one in seen.instances] == [*expected]:
                return seen
            await asyncio.sleep(0.05)


@asynccontextmanager
async def patience(platform: Platform) -> AsyncIterator[None]:
    """As long as the platform may take."""
    async with asyncio.timeout(platform.patience):
        yield
