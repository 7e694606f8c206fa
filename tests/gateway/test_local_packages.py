"""Packages in the gateway's home: removed when no job has used them for a while, whatever else goes on there."""

import asyncio
import fcntl
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.launchers.local_packages import Packages
from tests.doubles import until
from worker_image.code import Installed, installed

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
USES = """
import sys
from pathlib import Path
from worker_image.code import Installed
Installed.at(Path(sys.argv[1]))
print("in use", flush=True)
sys.stdin.read()
"""


def age(path, days=2):
    seconds = (NOW - days * DAY).timestamp()
    os.utime(path, (seconds, seconds))


@pytest.fixture
def packages(tmp_path):
    return tmp_path / "packages"


@pytest.fixture
def sweep(packages):
    async def sweep(*, dry_run=False):
        return list(await Packages(packages).sweep(NOW - DAY, dry_run=dry_run))

    return sweep


def shelved(packages, name, days=2, lock=True):
    """A folder of packages, last used so long ago."""
    folder = packages / name
    (folder / "extra").mkdir(parents=True)
    (folder / "extra" / "__init__.py").write_text("x = 1\n")
    (folder / "extra" / "link").symlink_to("__init__.py")
    if lock:
        folder.with_suffix(".lock").touch()
    age(folder, days)
    return folder


def names(packages):
    return sorted(path.name for path in packages.iterdir())


async def test_what_no_job_has_used_for_a_while_goes_and_nothing_else(packages, sweep):
    for name, days in (("a-3.11", 2), ("b-3.11", 0.9), ("c-3.11", 2), ("c-3.12", 0.5)):
        shelved(packages, name, days)
    size = len("x = 1\n") + len("__init__.py")
    before, told = names(packages), [("a-3.11", size), ("c-3.11", size)]
    assert await sweep(dry_run=True) == told
    assert names(packages) == before
    assert await sweep() == told
    assert names(packages) == ["b-3.11", "b-3.lock", "c-3.12", "c-3.lock"]
    assert await sweep() == []


async def test_where_no_job_has_brought_any_there_is_nothing_to_do(sweep):
    assert await sweep() == []


async def test_what_a_killed_process_left_goes_too(packages, sweep):
    draft = shelved(packages, "a-3.draft")
    draft.with_suffix(".txt").write_text("extra==1.0\n")
    assert [name for name, _ in await sweep()] == ["a-3.draft"]
    assert names(packages) == []


async def test_what_is_being_installed_stays(packages, sweep):
    folder = shelved(packages, "a-3.11")
    with folder.with_suffix(".lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert await sweep() == []
    assert folder.is_dir()


async def test_what_a_job_has_used_for_long_stays_and_its_time_counts_from_the_end(packages, sweep):
    folder = shelved(packages, "a-3.11")
    with subprocess.Popen(
        [sys.executable, "-c", USES, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"in use\n"
        age(folder)
        assert await sweep(dry_run=True) == []
        assert await sweep() == []
        process.kill()
    assert await sweep() == [], "it was in use just now"
    age(folder)
    assert [name for name, _ in await sweep()] == ["a-3.11"]


async def test_several_jobs_use_what_is_there_and_the_last_one_leaves_it(packages, sweep):
    folder = shelved(packages, "a-3.11")
    first, second = Installed.at(folder), Installed.at(folder)
    for one in (first, second):
        age(folder)
        assert await sweep() == []
        one.leave()
    age(folder)
    assert len(await sweep()) == 1


async def test_a_job_installs_anew_what_was_removed(packages, sweep, tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text("")
    for _ in range(2):
        found = await installed(lock, packages, lambda line: None)
        assert found.folder.is_dir()
        age(found.folder)
        assert await sweep() == []
        found.leave()
        age(found.folder)
        assert await sweep() == [(found.folder.name, 0)]
        assert names(packages) == []


async def test_a_job_that_waits_while_its_packages_are_removed_has_them_installed_anew(packages, tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text("")
    found = await installed(lock, packages, lambda line: None)
    found.leave()
    file = found.folder.with_suffix(".lock")
    with file.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = asyncio.create_task(installed(lock, packages, lambda line: None))
        await until(lambda: _waits_for(file))
        shutil.rmtree(found.folder)
        file.unlink()
    again = await waiting
    assert again.folder.is_dir()
    with file.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)  # one that comes now sees the same lock
    again.leave()


def _waits_for(file):
    """Whether the kernel knows of somebody who waits for this file's lock."""
    inode = f":{file.stat().st_ino}"
    return any("->" in line and f"{inode} " in line for line in Path("/proc/locks").read_text().splitlines())
