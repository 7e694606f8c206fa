"""Packages that jobs of the local launcher have brought, in the gateway's home: what no job has used for a while goes.

Containers install them, one folder for each lock file and Python: `<sum>-3.11` beside `<sum>-3.lock`. Whoever holds the
file alone may install or remove; whoever uses a folder has locked it too, together with others, and has set its time.
The kernel frees both when a process ends, however it ends.
"""

import asyncio
import fcntl
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

log = logging.getLogger(__name__)


def folder_in(home: Path) -> Path:
    """Where they are."""
    return home / "packages"


class Packages:
    """Those of one home. Several processes may sweep at once, and containers may come meanwhile."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def sweep(self, before: datetime, *, dry_run: bool) -> Sequence[tuple[str, int]]:
        """Remove what has not been used since; gives names and bytes. With `dry_run` only say what that is."""
        return await asyncio.to_thread(self._sweep, before.timestamp(), dry_run)

    def _sweep(self, before: float, dry_run: bool) -> Sequence[tuple[str, int]]:  # noqa: FBT001
        gone: list[tuple[str, int]] = []
        for lock in sorted(self._folder.glob("*.lock")):
            try:
                gone += _unused(lock, before, dry_run=dry_run)
            except FileNotFoundError:
                continue  # another gateway's sweep was there first
            except OSError:
                log.exception("%s could not be removed", lock.with_suffix(""))
        return gone


def _unused(lock: Path, before: float, *, dry_run: bool) -> Sequence[tuple[str, int]]:
    """Of one lock file, unless somebody installs or begins to use it just now."""
    with _alone(lock) as alone:
        if not alone:
            return ()
        old = [folder for folder in _folders(lock) if _idle(folder, before, dry_run=dry_run)]
        gone = [(folder.name, _size(folder)) for folder in old]
        if dry_run:
            return gone
        for folder in old:
            _remove(folder, lock.with_suffix(".draft"))
        if not _folders(lock):
            lock.with_suffix(".txt").unlink(missing_ok=True)
            lock.unlink()  # who waits for it sees that, and makes another
        return gone


def _folders(lock: Path) -> list[Path]:
    return [folder for folder in sorted(lock.parent.glob(f"{lock.stem}.*")) if folder.is_dir()]


def _idle(folder: Path, before: float, *, dry_run: bool) -> bool:
    """Whether no job has it, and none has begun to use it since; of one in use the time counts from its end."""
    if folder.stat().st_mtime >= before:
        return False
    with _alone(folder) as alone:
        if not alone and not dry_run:
            os.utime(folder)
        return alone


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Whether nobody else has locked a file or folder; then nobody can until the end."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _remove(folder: Path, draft: Path) -> None:
    """What is cut short leaves a draft, and no folder that is half there."""
    if folder != draft:
        shutil.rmtree(draft, ignore_errors=True)
        folder.replace(draft)
    shutil.rmtree(draft)


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
