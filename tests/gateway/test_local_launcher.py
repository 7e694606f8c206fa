"""What is peculiar to the launcher that starts processes of this machine; the contract is in tests/contracts."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from gateway.launchers.base import CannotSee, LaunchFailed, LaunchRefused, Phase
from gateway.launchers.local import LocalLauncher
from gateway.launchers.local_runs import Instance, Marker, Run
from tests.contracts.launchers import order

SLEEPS = "import time; time.sleep(600)"


@pytest.fixture
async def make(tmp_path):
    """Launchers of one home; each further one is a restarted gateway."""

    def launcher(program=SLEEPS, inherited=None, **options):
        options = {"command": (sys.executable, "-c", program), **options}
        return LocalLauncher(tmp_path / "home", inherited or {"PATH": os.environ["PATH"]}, **options)

    yield launcher
    last = launcher()
    for handle in await last.list():
        await last.stop(handle, force=True)


async def gone(launcher, handle, seconds=5.0):
    async with asyncio.timeout(seconds):
        while not (seen := (await launcher.observe([handle]))[handle]).gone:
            await asyncio.sleep(0.02)
    return seen


def mode_of(folder):
    """Its permissions; None if it does not exist."""
    return Path(folder).stat().st_mode & 0o777 if Path(folder).exists() else None


def output(tmp_path, attempt, index=0):
    return (tmp_path / "home" / "runs" / attempt / f"{index}.log").read_text()


async def test_a_container_gets_its_variables_and_little_else(make, tmp_path):
    passed_on = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "OPENBLAS_CORETYPE": "Haswell"}
    inherited = {**passed_on, "FLAREGATE_TOKEN": "canary", "AWS_SECRET": "canary"}
    launcher = make("import os, json; print(json.dumps(dict(os.environ)))", inherited, drops=tmp_path / "drops")
    asked = order("j1-a", workers=0)
    await gone(launcher, await launcher.launch(asked))
    environment = json.loads(output(tmp_path, "j1-a"))
    environment.pop("LC_CTYPE", None)
    assert mode_of(environment.pop("TMPDIR")) is None
    assert environment == {
        **passed_on,
        "FLAREGATE_URL": asked.gateway_url,
        "FLAREGATE_ATTEMPT": "j1-a",
        "FLAREGATE_INDEX": "0",
        "FLAREGATE_BOOTSTRAP": asked.bootstrap,
        "FLAREGATE_RUN": f"{tmp_path}/home/j1-a/0",
        "FLAREGATE_PARK": f"{tmp_path}/home/runs/j1-a/parked",
        "FLAREGATE_PACKAGES": f"{tmp_path}/home/packages",
        "FLAREGATE_DROPS": f"{tmp_path}/drops",
    }


async def test_a_gateway_killed_between_start_and_record_finds_what_it_started(make, tmp_path):
    asked = order(workers=1)
    handle = await make().launch(asked)
    folder = tmp_path / "home" / "runs" / asked.attempt
    before = Run(folder).instances()
    async with asyncio.timeout(5):  # the kernel shows a new program's environment a moment after the program
        while not all("FLAREGATE_RUN" in psutil.Process(one.pid).environ() for one in before.values()):
            await asyncio.sleep(0.01)
    (folder / "1.json").unlink()
    restarted = make()
    seen = (await restarted.observe([handle]))[handle]
    assert [i.phase for i in seen.instances] == [Phase.RUNNING, Phase.RUNNING]
    (folder / "0.json").unlink()
    await make().launch(asked)
    assert {i: one.pid for i, one in Run(folder).instances().items()} == {i: one.pid for i, one in before.items()}


async def test_only_what_is_missing_is_started(make, tmp_path):
    asked = order(workers=1)
    handle = await make().launch(asked)
    folder = tmp_path / "home" / "runs" / asked.attempt
    before = Run(folder).instances()
    (folder / "1.json").unlink()
    psutil.Process(before[1].pid).kill()
    os.waitpid(before[1].pid, 0)
    await make().launch(asked)
    after = Run(folder).instances()
    assert after[0] == before[0]
    assert after[1].pid != before[1].pid
    await make().stop(handle, force=True)


async def test_the_exit_code_is_that_of_a_signal_or_unknown_to_a_restarted_gateway(make):
    launcher = make()
    first, second = [await launcher.launch(order(f"j-{n}", workers=0)) for n in (1, 2)]
    await launcher.stop(first, force=True)
    assert (await gone(launcher, first)).head.exit_code == -signal.SIGKILL
    restarted = make()
    await restarted.stop(second, force=True)
    assert (await gone(restarted, second)).head.exit_code is None


async def test_a_pid_that_another_process_has_now_is_left_alone(make, tmp_path):
    with subprocess.Popen([sys.executable, "-c", SLEEPS]) as stranger:
        launcher = make()
        handle = await launcher.launch(order("j-1", workers=0))
        await launcher.stop(handle, force=True)
        run = Run(tmp_path / "home" / "runs" / "j-1")
        run.record(Instance(index=0, pid=stranger.pid, created=psutil.Process(stranger.pid).create_time() - 100))
        await launcher.stop(handle)
        assert (await launcher.observe([handle]))[handle].gone
        await launcher.stop(handle, force=True)
        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.parametrize(
    "escape",
    [
        "subprocess.Popen([sys.executable, '-c', SLEEPS], start_new_session=True)",  # its own session
        "subprocess.Popen([sys.executable, '-c', SLEEPS], env={})",  # no marker
        "subprocess.Popen(['sh', '-c', 'setsid sleep 600 &'])",  # no parent
    ],
)
@pytest.mark.parametrize("way", ["force", "its first process is killed"])
async def test_nothing_outlives_a_run(make, tmp_path, escape, way):
    before = set(psutil.pids())
    launcher = make(
        f"import subprocess, sys, time; SLEEPS = {SLEEPS!r}; {escape}; print('ready', flush=True); {SLEEPS}"
    )
    handle = await launcher.launch(order("j-1", workers=0))
    async with asyncio.timeout(5):
        while "ready" not in output(tmp_path, "j-1"):
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.1)
    home = str(tmp_path / "home")
    mine = [
        p
        for pid in set(psutil.pids()) - before
        if (p := alive(pid)) and (p.pid == first_pid(tmp_path) or child(p, tmp_path, home))
    ]
    assert len(mine) == 2
    if way == "force":
        await launcher.stop(handle, force=True)
    else:
        os.kill(first_pid(tmp_path), signal.SIGKILL)
    assert (await gone(launcher, handle)).gone
    assert [process.pid for process in mine if alive(process.pid)] == []


def first_pid(tmp_path):
    return Run(tmp_path / "home" / "runs" / "j-1").instances()[0].pid


def child(process, tmp_path, home):
    try:
        marked = process.environ().get("FLAREGATE_RUN", "").startswith(home)
        return marked or os.getsid(process.pid) == first_pid(tmp_path)
    except (psutil.Error, ProcessLookupError):
        return False


def alive(pid):
    try:
        process = psutil.Process(pid)
        return process if process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


async def test_temporary_files_go_with_a_run_that_was_forced(make, tmp_path):
    launcher = make(f"import os; print(os.environ['TMPDIR'], flush=True); {SLEEPS}")
    handle = await launcher.launch(order("j-1", workers=0))
    async with asyncio.timeout(5):
        while not output(tmp_path, "j-1"):
            await asyncio.sleep(0.02)
    temp = output(tmp_path, "j-1").strip()
    assert mode_of(temp) == 0o700
    assert len(temp) <= 24
    await launcher.stop(handle, force=True)
    await gone(launcher, handle)
    assert mode_of(temp) is None


async def test_another_home_s_runs_are_not_its_own(make, tmp_path):
    other = LocalLauncher(tmp_path / "other", {"PATH": os.environ["PATH"]}, command=(sys.executable, "-c", SLEEPS))
    handle = await other.launch(order("j-1"))
    launcher = make()
    assert list(await launcher.list()) == []
    await launcher.stop(handle, force=True)
    assert not (await other.observe([handle]))[handle].gone
    await other.stop(handle, force=True)


async def test_folders_of_old_runs_are_removed(make, tmp_path):
    now = datetime.now(UTC)
    launcher = make("pass", clock=lambda: now)
    await gone(launcher, await launcher.launch(order("j-old", workers=0)))
    alive = await make(SLEEPS).launch(order("j-alive", workers=0))
    later = make("pass", clock=lambda: now + timedelta(days=2))
    await later.launch(order("j-new", workers=0))
    assert {path.name for path in (tmp_path / "home" / "runs").iterdir()} == {"j-alive", "j-new"}
    await later.stop(alive, force=True)


async def test_what_it_cannot_do_is_refused(make, tmp_path):
    asked = order()
    with pytest.raises(LaunchRefused, match="GPU"):
        await make().launch(order(cluster=asked.cluster.model_copy(update={"gpus": 1})))
    with pytest.raises(LaunchFailed, match="no-such-program"):
        await make(command=("/no-such-program",)).launch(asked)


async def test_a_folder_that_cannot_be_read_is_no_sighting(make, tmp_path):
    launcher = make("pass")
    handle = await launcher.launch(order("j-1", workers=0))
    await gone(launcher, handle)
    (tmp_path / "home" / "runs" / "j-1" / "0.json").unlink()
    (tmp_path / "home" / "runs" / "j-1" / "0.json").mkdir()
    with pytest.raises(CannotSee):
        await launcher.observe([handle])


@pytest.mark.parametrize("text", ["", "x", "a/b", "a/b/c"])
def test_a_foreign_marker_is_none(text):
    assert Marker.read(text) is None


def test_a_marker_is_read_back():
    marker = Marker("/home/of/it", "j1-1", 3)
    assert Marker.read(str(marker)) == marker


# Warm heads. A container of these tests prints each job that it is given, and parks again for as long as it is told.

PARKS = """
import os, pathlib, select, sys
place = pathlib.Path(os.environ["FLAREGATE_PARK"])
while True:
    place.touch()
    if not select.select([0], [], [], float(SECONDS))[0]:
        try:
            place.unlink()
            break
        except FileNotFoundError:
            pass
    line = sys.stdin.buffer.readline()
    if not line:
        break
    print(line.decode(), end="", flush=True)
    import time; time.sleep(float(BUSY))
"""


def parks(seconds=600, busy=0):
    return PARKS.replace("SECONDS", str(seconds)).replace("BUSY", str(busy))


def single(attempt, **changes):
    return order(attempt, workers=0, **changes)


def pids(tmp_path, attempt):
    return Run(tmp_path / "home" / "runs" / attempt).instances()[0].pid


async def test_a_head_that_waits_has_ended_for_its_attempt_and_takes_the_next_one_of_its_kind(make, tmp_path):
    launcher = make(parks())
    first = await launcher.launch(single("j-1"))
    ended = (await gone(launcher, first)).head
    assert ended.exit_code == 0
    place = tmp_path / "home" / "runs" / "j-1" / "parked"
    assert ended.ended.timestamp() == pytest.approx(place.stat().st_mtime)
    assert list(await launcher.list()) == []
    other = [
        await launcher.launch(single("j-2", tenant="another")),
        await launcher.launch(single("j-3", cluster=single("x").cluster.model_copy(update={"cpus": 2}))),
        await launcher.launch(order("j-4")),
    ]
    assert place.exists()
    second = await launcher.launch(single("j-5", bootstrap="another-bootstrap"))
    assert second.attempt == "j-5"
    assert pids(tmp_path, "j-5") == pids(tmp_path, "j-1")
    assert len({pids(tmp_path, f"j-{number}") for number in range(1, 6)}) == 4
    async with asyncio.timeout(5):
        while not (lines := output(tmp_path, "j-1")):
            await asyncio.sleep(0.02)
    asked = single("j-5", bootstrap="another-bootstrap")
    assert json.loads(lines) == {
        "url": asked.gateway_url, "attempt": "j-5", "index": 0, "bootstrap": "another-bootstrap",
    }  # fmt: skip
    now = (await gone(launcher, second)).head
    assert now.started > ended.ended
    assert (await launcher.observe([first]))[first].head == ended
    for handle in other:
        await launcher.stop(handle, force=True)


async def test_a_head_at_its_next_job_belongs_to_that_and_is_ended_with_it(make, tmp_path):
    launcher = make(parks(busy=600))
    await gone(launcher, await launcher.launch(single("j-1")))
    second = await launcher.launch(single("j-2"))
    async with asyncio.timeout(5):
        while not output(tmp_path, "j-1"):
            await asyncio.sleep(0.02)
    assert [handle.attempt for handle in await launcher.list()] == ["j-2"]
    restarted = make(parks())
    assert [handle.attempt for handle in await restarted.list()] == ["j-2"]
    assert (await restarted.observe([second]))[second].head.phase is Phase.RUNNING
    await restarted.stop(launcher.handle("j-1"), force=True)
    assert alive(pids(tmp_path, "j-2"))
    temp = launcher._temp("j-1", 0)
    assert temp.exists()
    await restarted.stop(second, force=True)
    await gone(restarted, second)
    assert not alive(pids(tmp_path, "j-2"))
    assert not temp.exists()


async def test_a_head_whose_time_is_over_ends_and_is_not_reused(make, tmp_path):
    launcher = make(parks(seconds=0.3))
    await gone(launcher, await launcher.launch(single("j-1")))
    pid = pids(tmp_path, "j-1")
    async with asyncio.timeout(5):
        while alive(pid):
            await asyncio.sleep(0.02)
    await gone(launcher, await launcher.launch(single("j-2")))
    assert pids(tmp_path, "j-2") != pid
    await launcher.list()
    assert not launcher._temp("j-1", 0).exists()


async def test_heads_that_wait_end_with_their_gateway_whether_it_says_so_or_not(make, tmp_path):
    launcher = make(parks())
    await gone(launcher, await launcher.launch(single("j-1")))
    busy = make(parks(busy=600))
    await gone(busy, await busy.launch(single("j-2")))
    await busy.launch(single("j-3"))
    await launcher.close()
    await busy.close()
    assert not alive(pids(tmp_path, "j-1"))
    assert alive(pids(tmp_path, "j-3"))
    script = (
        "import asyncio, sys; sys.path.insert(0, {root!r})\n"
        "from tests.contracts.launchers import order\nfrom gateway.launchers.local import LocalLauncher\n"
        "launcher = LocalLauncher(__import__('pathlib').Path({home!r}), {{}}, command=(sys.executable, '-c', {program!r}))\n"
        "asyncio.run(launcher.launch(order('j-4', workers=0))); print('launched', flush=True); input()"
    )
    root = str(Path(__file__).parents[2])
    code = script.format(root=root, home=str(tmp_path / "home"), program=parks())
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as own:
        assert own.stdout.readline() == "launched\n"
        async with asyncio.timeout(5):
            while not (tmp_path / "home" / "runs" / "j-4" / "parked").exists():
                await asyncio.sleep(0.02)
        own.kill()
    async with asyncio.timeout(5):
        while alive(pids(tmp_path, "j-4")):
            await asyncio.sleep(0.02)


async def test_of_a_launcher_and_a_head_that_reach_for_the_place_at_once_one_wins(make, tmp_path):
    launcher = make(parks(seconds=0.05))
    for number in range(12):
        await launcher.launch(single(f"j-{number}"))
        await asyncio.sleep(0.04 + number * 0.004)
    for number in range(12):
        await gone(launcher, launcher.handle(f"j-{number}"))
    given = [json.loads(line)["attempt"] for n in range(12) if Path(tmp_path / f"home/runs/j-{n}/0.log").exists()
             for line in output(tmp_path, f"j-{n}").splitlines()]  # fmt: skip
    fresh = [f"j-{n}" for n in range(12) if Run(tmp_path / "home" / "runs" / f"j-{n}").instances()[0].origin is None]
    assert sorted(given + fresh) == sorted(f"j-{n}" for n in range(12))


async def test_few_heads_wait_at_once(make, tmp_path):
    launcher = make(parks())
    for number in range(6):
        await gone(launcher, await launcher.launch(single(f"j-{number}", tenant=f"t{number}")))
    assert [bool(alive(pids(tmp_path, f"j-{number}"))) for number in range(6)] == [False] * 3 + [True] * 3
    await launcher.close()


async def test_a_spare_head_waits_for_the_first_job_that_needs_no_workers_and_has_it_at_once(make, tmp_path):
    launcher = make(parks(busy=600))
    for asked in (single("j-1"), single("j-2", tenant="other")):
        launcher.spare("http://127.0.0.1", 60)
        (origin,) = launcher._warm.untaken()
        run = Run(tmp_path / "home" / "runs" / origin)
        async with asyncio.timeout(5):
            while not run.parked.exists():
                await asyncio.sleep(0.02)
        assert list(await launcher.list()) == []
        cluster = await launcher.launch(order(f"c-{asked.attempt}"))
        assert pids(tmp_path, cluster.attempt) != pids(tmp_path, origin), "workers would not be let into its Ray"
        await launcher.stop(cluster, force=True)
        handle = await launcher.launch(asked)
        assert pids(tmp_path, asked.attempt) == pids(tmp_path, origin)
        assert launcher._warm.untaken() == []
        async with asyncio.timeout(5):
            while not output(tmp_path, origin):
                await asyncio.sleep(0.02)
        assert json.loads(output(tmp_path, origin))["attempt"] == asked.attempt
        await launcher.stop(handle, force=True)
        await gone(launcher, handle)
        assert not alive(pids(tmp_path, origin))


async def test_a_spare_head_ends_with_its_launcher_even_before_it_waits(make, tmp_path):
    launcher = make("import time; time.sleep(600)")
    launcher.spare("http://127.0.0.1", 60)
    (origin,) = launcher._warm.untaken()
    assert alive(pids(tmp_path, origin))
    await launcher.close()
    assert not alive(pids(tmp_path, origin))
    assert not launcher._temp(origin, 0).exists()
