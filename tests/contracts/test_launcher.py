"""The conformance suite of launchers: what gateway.launchers.base promises, on every implementation."""

import asyncio
import os

import pytest

from gateway.launchers.base import Handle, Phase
from tests.contracts.launchers import LocalPlatform, order

SLEEPS = "import time; time.sleep(600)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


@pytest.fixture(params=["local"])
async def platform(request, tmp_path):
    platform = {"local": lambda: LocalPlatform(tmp_path / "home", {"PATH": os.environ["PATH"]})}[request.param]()
    yield platform
    launcher = platform.launcher(SLEEPS)
    for handle in await launcher.list():
        await launcher.stop(handle, force=True)
    assert list(await launcher.list()) == []


async def sighting(launcher, handle):
    return (await launcher.observe([handle]))[handle]


async def until_gone(launcher, handle, seconds=10.0):
    async with asyncio.timeout(seconds):
        while not (seen := await sighting(launcher, handle)).gone:
            await asyncio.sleep(0.02)
    return seen


async def test_a_launched_run_is_seen_with_head_and_workers(platform):
    launcher = platform.launcher(SLEEPS)
    asked = order(workers=2)
    handle = await launcher.launch(asked)
    assert handle == launcher.handle(asked.attempt)
    seen = await sighting(launcher, handle)
    assert [instance.index for instance in seen.instances] == [0, 1, 2]
    assert seen.head.index == 0
    assert not seen.gone
    assert handle in await launcher.list()


async def test_the_same_attempt_launched_again_starts_nothing(platform):
    launcher = platform.launcher(SLEEPS)
    asked = order()
    handles = await asyncio.gather(*[launcher.launch(asked) for _ in range(5)])
    first = await sighting(launcher, handles[0])
    restarted = platform.launcher(SLEEPS)
    assert {*handles, await restarted.launch(asked)} == {handles[0]}
    again = await sighting(restarted, handles[0])
    assert [i.index for i in again.instances] == [0, 1]
    assert [i.started for i in again.instances] == [i.started for i in first.instances]
    assert list(await restarted.list()) == [handles[0]]


async def test_a_run_that_has_ended_is_not_started_again(platform):
    launcher = platform.launcher("pass")
    asked = order()
    seen = await until_gone(launcher, await launcher.launch(asked))
    again = await until_gone(launcher, await launcher.launch(asked), 1)
    assert [i.started for i in again.instances] == [i.started for i in seen.instances]


@pytest.mark.parametrize(("program", "code"), [("pass", 0), ("raise SystemExit(7)", 7)])
async def test_an_end_is_told_with_its_exit_code_and_stays(platform, program, code):
    launcher = platform.launcher(program)
    handle = await launcher.launch(order(workers=0))
    seen = await until_gone(launcher, handle)
    assert seen.head.phase is Phase.ENDED
    assert seen.head.exit_code in (code, None)
    assert seen.head.started <= seen.head.ended
    assert await sighting(launcher, handle) == seen
    assert await sighting(platform.launcher(SLEEPS), handle) == seen
    assert list(await launcher.list()) == []


async def test_a_head_that_ends_leaves_the_workers_in_sight(platform):
    launcher = platform.launcher("import os, time; time.sleep(600 * int(os.environ['FLAREGATE_INDEX']))")
    handle = await launcher.launch(order())
    async with asyncio.timeout(10):
        while (await sighting(launcher, handle)).head.phase is not Phase.ENDED:
            await asyncio.sleep(0.02)
    seen = await sighting(launcher, handle)
    assert [i.phase for i in seen.instances] == [Phase.ENDED, Phase.RUNNING]
    assert not seen.gone


async def test_stop_asks_and_is_repeatable(platform):
    launcher = platform.launcher(SLEEPS)
    handle = await launcher.launch(order())
    await launcher.stop(handle)
    await until_gone(launcher, handle)
    await launcher.stop(handle)
    await launcher.stop(handle, force=True)


async def test_force_ends_what_does_not_listen(platform):
    launcher = platform.launcher(DEAF)
    handle = await launcher.launch(order())
    await asyncio.sleep(0.3)
    await launcher.stop(handle)
    await asyncio.sleep(0.2)
    assert not (await sighting(launcher, handle)).gone
    await launcher.stop(handle, force=True)
    await until_gone(launcher, handle, 3)


async def test_a_restarted_gateway_stops_what_it_did_not_start(platform):
    handle = await platform.launcher(SLEEPS).launch(order())
    restarted = platform.launcher(SLEEPS)
    await restarted.stop(handle)
    await until_gone(restarted, handle)


async def test_what_was_never_launched_is_gone_and_stopping_it_is_a_success(platform):
    launcher = platform.launcher(SLEEPS)
    handle = launcher.handle("j1-never")
    assert await sighting(launcher, handle) == (await launcher.observe([handle]))[Handle("j1-never", handle.name)]
    assert (await sighting(launcher, handle)).instances == ()
    assert (await sighting(launcher, handle)).gone
    await launcher.stop(handle)
    await launcher.stop(handle, force=True)


async def test_runs_do_not_touch_each_other(platform):
    launcher = platform.launcher(SLEEPS)
    first, second = [await launcher.launch(order(f"j-{name}")) for name in ("1", "11")]
    await launcher.stop(first, force=True)
    await until_gone(launcher, first)
    assert not (await sighting(launcher, second)).gone


async def test_it_says_what_it_can_do_and_what_is_in_its_containers(platform):
    launcher = platform.launcher(SLEEPS)
    can = launcher.capabilities
    assert can.max_cpus >= 1
    assert can.max_memory > 0
    assert can.lease > 0
    assert {"python", "cloudpickle", "ray", "scikit-learn", "numpy"} <= set(launcher.environment())
