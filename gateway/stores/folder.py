"""A store in a folder; the gateway itself serves its URLs. The one module that writes objects to a disk."""

import asyncio
import os
import re
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO, Protocol

from flaregate_wire.blobs import Part, Transfer
from gateway.home import drops_in
from gateway.stores.base import (
    ANYTHING,
    Abilities,
    Begun,
    Expected,
    Method,
    ObjectExists,
    ObjectInfo,
    ObjectMismatch,
    ObjectMissing,
    UploadMissing,
    checked,
)
from gateway.stores.checks import Check
from gateway.stores.signing import Slot

PIECE = 1024 * 1024
DATA, KEY = "data", "key"
_NAME = re.compile(r"[0-9a-f]{32}")
_DROP_SECONDS = 3600.0
"""For which a drop may lie about; who dropped it has been killed by then."""


class Sign(Protocol):
    """What makes URLs."""

    def __call__(self, method: Method, key: str, expected: Expected, slot: Slot | None = None) -> Transfer: ...


class FolderStore:
    """Objects as files below `root`; a file appears whole under its key, or not at all."""

    def __init__(self, root: Path, sign: Sign) -> None:
        self._objects = root / "objects"
        self._drafts = root / "drafts"
        self._uploads = root / "uploads"
        self._drops = drops_in(root)
        self._sign = sign
        for folder in (self._objects, self._drafts, self._uploads, self._drops):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for draft in self._drafts.iterdir():
            draft.unlink(missing_ok=True)  # left by a gateway that was killed
        for gone in self._uploads.glob("*.gone"):
            shutil.rmtree(gone, ignore_errors=True)

    def _path(self, key: str) -> Path:
        return self._objects / checked(key)

    async def get(self, key: str, *, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        opening = asyncio.ensure_future(asyncio.to_thread(_open, self._path(key), start))
        try:
            file = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_closed)
            raise
        left = float("inf") if stop is None else stop - start
        try:
            while left > 0:
                piece = await asyncio.to_thread(file.read, int(min(PIECE, left)))
                if not piece:
                    return
                left -= len(piece)
                yield piece
        finally:
            file.close()

    async def head(self, key: str) -> ObjectInfo:
        return await asyncio.to_thread(_info, self._path(key), key)

    async def put(
        self, key: str, pieces: AsyncIterator[bytes], *, if_absent: bool = False, expected: Expected = ANYTHING
    ) -> ObjectInfo:
        path = self._path(key)
        draft = self._drafts / secrets.token_hex(16)
        try:
            with draft.open("xb") as file:
                await _fill(file, pieces, expected)
            await asyncio.to_thread(_publish, draft, path, if_absent=if_absent)
        finally:
            draft.unlink(missing_ok=True)
        return await self.head(key)

    async def take(self, key: str, drop: str) -> None:
        if not _NAME.fullmatch(drop):
            raise UploadMissing(drop[:80])
        await asyncio.to_thread(_take, self._drops / drop, self._path(key))

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        base = self._path(prefix.rstrip("/"))
        for path in await asyncio.to_thread(lambda: [found for found in base.rglob("*") if found.is_file()]):
            try:
                info = await asyncio.to_thread(_info, path, path.relative_to(self._objects).as_posix())
            except ObjectMissing:
                continue  # removed since
            yield info

    async def delete(self, key: str) -> None:
        await asyncio.to_thread(self._remove, self._path(key))

    async def delete_all(self, keys: Sequence[str]) -> None:
        paths = [self._path(key) for key in keys]

        def work() -> None:
            for path in paths:
                self._remove(path)

        await asyncio.to_thread(work)

    def _remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        for folder in path.parents:
            if folder == self._objects:
                return
            try:
                folder.rmdir()
            except OSError:
                return  # another object is in it

    def presign(self, method: Method, key: str, expected: Expected = ANYTHING) -> Transfer:
        return self._sign(method, checked(key), expected)

    def _upload(self, upload: str) -> Path:
        """The folder of an upload: the object as far as it has come, and a file for each part with its sum."""
        if not _NAME.fullmatch(upload):
            raise UploadMissing(upload[:80])
        return self._uploads / upload

    async def begin(self, key: str, parts: Sequence[Part]) -> str:
        checked(key)
        upload = secrets.token_hex(16)
        await asyncio.to_thread(_make_upload, self._upload(upload), key, sum(part.size for part in parts))
        return upload

    def presign_part(self, key: str, upload: str, number: int, parts: Sequence[Part]) -> Transfer:
        part, offset = parts[number], sum(part.size for part in parts[:number])
        return self._sign("PUT", checked(key), Expected(part.size, part.sha256), Slot(upload, number, offset))

    async def put_part(self, key: str, slot: Slot, pieces: AsyncIterator[bytes], expected: Expected) -> None:
        """Write a part in its place. Its sum is noted when all of it has come; until then it can be sent again."""
        checked(key)
        folder = self._upload(slot.upload)
        note = folder / str(slot.part)
        if note.exists():
            async for _ in pieces:  # it came before, and stays
                pass
            return
        try:
            file = (folder / DATA).open("r+b")
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UploadMissing(slot.upload) from error
        with file:
            file.seek(slot.offset)
            await _fill(file, pieces, expected)
        await asyncio.to_thread(_note, note, str(expected.sha256))

    async def arrived(self, key: str, upload: str, parts: Sequence[Part]) -> frozenset[int]:
        checked(key)
        return await asyncio.to_thread(_arrived, self._upload(upload), parts)

    async def finish(self, key: str, upload: str, parts: Sequence[Part]) -> ObjectInfo:
        path, folder = self._path(key), self._upload(upload)
        try:
            missing = sorted(set(range(len(parts))) - await self.arrived(key, upload, parts))
            if missing:
                raise ObjectMismatch(f"missing, or not as announced: parts {', '.join(map(str, missing))}")
            await asyncio.to_thread(_publish, folder / DATA, path, if_absent=False)
        except (UploadMissing, FileNotFoundError) as error:
            with suppress(ObjectMissing):  # finished before
                info = await self.head(key)
                if info.size == sum(part.size for part in parts):
                    return info
            raise UploadMissing(upload) from error
        await self.abandon(key, upload)
        return await self.head(key)

    async def abandon(self, key: str, upload: str) -> None:
        checked(key)
        await asyncio.to_thread(_remove_upload, self._upload(upload))

    async def uploads(self, prefix: str) -> AsyncIterator[Begun]:
        for folder in await asyncio.to_thread(lambda: list(self._uploads.iterdir())):
            with suppress(FileNotFoundError):  # it is just beginning, or has just ended
                key = await asyncio.to_thread((folder / KEY).read_text)
                if key.startswith(prefix):
                    yield Begun(key, folder.name, (await asyncio.to_thread(_info, folder / KEY, key)).modified)

    async def probe(self) -> Abilities:
        async def nothing() -> AsyncIterator[bytes]:
            yield b""

        key = f"probes/{secrets.token_hex(16)}"
        try:
            await self.put(key, nothing(), if_absent=True)
        finally:
            await self.delete(key)
        return Abilities("folder", conditional_put=True, checked_parts=True)

    async def close(self) -> None:
        """Nothing is held open."""


def _open(path: Path, start: int) -> BinaryIO:
    try:
        file = path.open("rb")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise ObjectMissing(path.name) from error
    file.seek(start)
    return file


def _closed(opening: "asyncio.Task[BinaryIO]") -> None:
    """Whoever wanted the file has gone meanwhile."""
    if opening.exception() is None:
        opening.result().close()


def _info(path: Path, key: str) -> ObjectInfo:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ObjectMissing(key) from error
    if not path.is_file():
        raise ObjectMissing(key)
    return ObjectInfo(key, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))


def _make_upload(folder: Path, key: str, size: int) -> None:
    folder.mkdir(mode=0o700)
    (folder / KEY).write_text(key)
    with (folder / DATA).open("xb") as file:
        file.truncate(size)


def _remove_upload(folder: Path) -> None:
    """At once, so that a part that is just arriving leaves nothing behind."""
    gone = folder.with_name(f"{folder.name}.gone")
    with suppress(FileNotFoundError):
        folder.replace(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _note(path: Path, sha256: str) -> None:
    """Whole or not at all."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        draft.write_text(sha256)
        draft.replace(path)
    except FileNotFoundError as error:
        raise UploadMissing(path.parent.name) from error


def _arrived(folder: Path, parts: Sequence[Part]) -> frozenset[int]:
    if not (folder / DATA).exists():
        raise UploadMissing(folder.name)
    found = set()
    for number, part in enumerate(parts):
        with suppress(FileNotFoundError):
            if (folder / str(number)).read_text() == part.sha256:
                found.add(number)
    return frozenset(found)


async def _fill(file: BinaryIO, pieces: AsyncIterator[bytes], expected: Expected) -> None:
    """Write in constant memory; small pieces are gathered so that not each of them costs a thread's turn."""
    check = Check(expected)
    gathered = bytearray()

    def flush() -> None:
        check.take(gathered)
        file.write(gathered)
        gathered.clear()

    async for piece in pieces:
        gathered += piece
        if len(gathered) >= PIECE:
            await asyncio.to_thread(flush)
    await asyncio.to_thread(flush)
    check.end()
    await asyncio.to_thread(file.flush)


def _take(drop: Path, path: Path) -> None:
    try:
        if not S_ISREG(drop.lstat().st_mode):
            raise UploadMissing(drop.name)
        _publish(drop, path, if_absent=True)
    except FileNotFoundError as error:
        raise UploadMissing(drop.name) from error
    finally:
        drop.unlink(missing_ok=True)
    for other in drop.parent.iterdir():
        with suppress(FileNotFoundError):  # another request has just taken it
            if time.time() - other.lstat().st_ctime > _DROP_SECONDS:
                other.unlink()


def _publish(draft: Path, path: Path, *, if_absent: bool) -> None:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            if if_absent:
                os.link(draft, path)
            else:
                draft.replace(path)
        except FileExistsError as error:
            raise ObjectExists(path.name) from error
        except FileNotFoundError:
            if not draft.exists():
                raise
            continue  # a delete has just removed the empty folder
        return
