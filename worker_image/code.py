"""The user's own code and packages on this node: unpacked and installed once, for the processes that run user code.

Errors: CodeRefused (the archive or the lock cannot be used; the message says why).
"""

import asyncio
import fcntl
import hashlib
import os
import re
import shutil
import stat
import sys
import zipfile
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import IO

_UV = (sys.executable, "-m", "uv", "pip", "install")
_LINES = 15
"""Of uv's, that the reason has."""
_READ_ONLY = 0o444


class CodeRefused(Exception):
    """The user's code or packages cannot be brought in."""


@dataclass(frozen=True, slots=True)
class OwnCode:
    """What a job brings, as paths of the fetched files; None where it brings none."""

    archive: Path | None
    lock: Path | None

    @classmethod
    def of(cls, code: str | None, requirements: str | None, paths: Mapping[str, str]) -> "OwnCode":
        """By the sums of the two."""
        return cls(*(None if sha256 is None else Path(paths[sha256]) for sha256 in (code, requirements)))


@dataclass(frozen=True, slots=True)
class Installed:
    """A folder of packages that stays there while this has it locked, or this process ends."""

    folder: Path
    _descriptor: int

    @classmethod
    def at(cls, folder: Path) -> "Installed":
        """Lock it, together with others that use it, and note when that was. Only its installer may call this."""
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        os.utime(folder)
        return cls(folder, descriptor)

    def leave(self) -> None:
        """It is not used any more. To be called once."""
        os.close(self._descriptor)


@dataclass(frozen=True, slots=True)
class BroughtIn:
    """What a job brings, on this node."""

    folders: tuple[str, ...] = ()
    """For `sys.path`: the user's modules first, then packages."""
    installed: Installed | None = None

    def leave(self) -> None:
        """The job is done: its packages may be removed when nobody has wanted them for a while."""
        if self.installed is not None:
            self.installed.leave()


async def brought_in(own: OwnCode, folder: Path, packages: Path, tell: Callable[[bytes], None]) -> BroughtIn:
    """Unpack the user's modules and install the packages, unless they are there.

    Args:
        own: What the job brings.
        folder: Where modules are unpacked; of this container.
        packages: Where packages are installed; containers of one node may share it.
        tell: Takes lines for the job's log.

    Raises CodeRefused.
    """
    modules = None if own.archive is None else await asyncio.to_thread(unpacked, own.archive, folder)
    further = None if own.lock is None else await installed(own.lock, packages, tell)
    found = (modules, None if further is None else further.folder)
    return BroughtIn(tuple(str(one) for one in found if one is not None), further)


def enter(folders: Sequence[str]) -> None:
    """Let this process import from these folders, before all else."""
    sys.path[:0] = [folder for folder in folders if folder not in sys.path]


def unpacked(archive: Path, folder: Path) -> Path:
    """The folder with the archive's files; they are unpacked unless they are there. Raises CodeRefused."""
    with archive.open("rb") as file:
        target = folder / hashlib.file_digest(file, "sha256").hexdigest()
    if target.is_dir():
        return target
    draft = target.with_suffix(f".{os.getpid()}")
    try:
        with zipfile.ZipFile(archive) as packed:
            for entry in packed.infolist():
                _unpack(packed, entry, draft)
    except zipfile.BadZipFile as exc:
        raise CodeRefused(f"the archive of the user's code is broken: {exc}") from exc
    draft.mkdir(parents=True, exist_ok=True)
    draft.replace(target)
    return target


def _unpack(packed: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path) -> None:
    """One file, below the folder whatever its name says."""
    place = PurePosixPath(entry.filename)
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if place.is_absolute() or ".." in place.parts or "\\" in entry.filename or kind not in (0, stat.S_IFREG):
        raise CodeRefused(f"the archive of the user's code has {entry.filename!r}, which is no file below its root")
    target = folder.joinpath(*place.parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    with packed.open(entry) as source, target.open("xb") as copy:
        shutil.copyfileobj(source, copy)
    target.chmod(_READ_ONLY)


async def installed(lock: Path, packages: Path, tell: Callable[[bytes], None]) -> Installed:
    """The folder with the packages of a lock file; they are installed unless they are there. Raises CodeRefused."""
    text = await asyncio.to_thread(lock.read_text, encoding="utf-8")
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    target = packages / f"{hashlib.sha256(text.encode()).hexdigest()}-{python}"
    await asyncio.to_thread(packages.mkdir, parents=True, exist_ok=True)
    async with _alone(target.with_suffix(".lock")):
        if not target.is_dir():
            await _install(text, target, tell)
        return Installed.at(target)


@asynccontextmanager
async def _alone(path: Path) -> AsyncIterator[None]:
    """Of several containers on a node one installs. Who removes old packages takes their lock away too."""
    while True:
        with path.open("a") as file:
            await asyncio.to_thread(fcntl.flock, file, fcntl.LOCK_EX)
            if _names(path, file):
                yield
                return


def _names(path: Path, file: IO[str]) -> bool:
    """Whether the path is still that of the open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


async def _install(lock: str, target: Path, tell: Callable[[bytes], None]) -> None:
    draft, wanted = target.with_suffix(".draft"), target.with_suffix(".txt")
    shutil.rmtree(draft, ignore_errors=True)
    wanted.write_text(_beside_ours(lock, tell))
    tell(b"installing the packages of the job's requirements\n")
    process = await asyncio.create_subprocess_exec(
        *_UV,
        *("--require-hashes", "--no-deps", "--no-progress", "--link-mode=copy"),
        *("--target", str(draft), "-r", str(wanted)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None  # noqa: S101 - it was started with a pipe
    last: deque[str] = deque(maxlen=_LINES)
    async for line in process.stdout:
        tell(line)
        last.append(line.decode(errors="replace").rstrip())
    if await process.wait():
        shutil.rmtree(draft, ignore_errors=True)
        raise CodeRefused("the packages of the job's requirements cannot be installed:\n" + "\n".join(last))
    draft.mkdir(exist_ok=True)  # an empty lock
    draft.replace(target)
    wanted.unlink()
    tell(b"packages installed\n")


def _beside_ours(lock: str, tell: Callable[[bytes], None]) -> str:
    """The lock without what this image has: its own packages rely on the versions that are there."""
    kept = []
    for block in re.split(r"(?<!\\)\n", lock):
        name, _, rest = block.partition("==")
        try:
            found = metadata.version(name) if name else None
        except metadata.PackageNotFoundError:
            found = None
        if found is None:
            kept.append(block)
        elif found != re.split(r"[\s;\\]", rest)[0]:
            tell(f"{name} stays {found}, as the workers have it\n".encode())
    return "\n".join(kept) + "\n"
