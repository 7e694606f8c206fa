"""A store in a folder; the gateway itself serves its URLs. The one module that writes objects to a disk."""

import asyncio
import hashlib
import os
import re
import secrets
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from flaregate_wire.blobs import Transfer
from gateway.stores.base import (
    ANYTHING,
    Expected,
    KeyRefused,
    Method,
    ObjectExists,
    ObjectInfo,
    ObjectMismatch,
    ObjectMissing,
)

PIECE = 1024 * 1024
_KEY = re.compile(r"[\w.=+@-]+(/[\w.=+@-]+)*", re.ASCII)
KEY_LENGTH = 800
PART_LENGTH = 200

Sign = Callable[[Method, str, Expected], Transfer]


class FolderStore:
    """Objects as files below `root`; a file appears whole under its key, or not at all."""

    def __init__(self, root: Path, sign: Sign) -> None:
        self._objects = root / "objects"
        self._drafts = root / "drafts"
        self._sign = sign
        for folder in (self._objects, self._drafts):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for draft in self._drafts.iterdir():
            draft.unlink(missing_ok=True)  # left by a gateway that was killed

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        refused = not _KEY.fullmatch(key) or any(part in (".", "..") or len(part) > PART_LENGTH for part in parts)
        if refused or len(key) > KEY_LENGTH:
            raise KeyRefused(f"{KeyRefused.__doc__} This one is {key[:80]!r}")
        return self._objects / key

    async def get(self, key: str, *, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        file = await asyncio.to_thread(_open, self._path(key), start)
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
        self._path(key)
        return self._sign(method, key, expected)


def _open(path: Path, start: int) -> BinaryIO:
    try:
        file = path.open("rb")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise ObjectMissing(path.name) from error
    file.seek(start)
    return file


def _info(path: Path, key: str) -> ObjectInfo:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ObjectMissing(key) from error
    if not path.is_file():
        raise ObjectMissing(key)
    return ObjectInfo(key, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))


async def _fill(file: BinaryIO, pieces: AsyncIterator[bytes], expected: Expected) -> None:
    """Write in constant memory; small pieces are gathered so that not each of them costs a thread's turn."""
    total = 0
    digest = hashlib.sha256()
    gathered = bytearray()

    def flush() -> None:
        if expected.sha256 is not None:
            digest.update(gathered)
        file.write(gathered)
        gathered.clear()

    async for piece in pieces:
        total += len(piece)
        if expected.size is not None and total > expected.size:
            raise ObjectMismatch(f"more than the {expected.size} bytes that were announced")
        gathered += piece
        if len(gathered) >= PIECE:
            await asyncio.to_thread(flush)
    await asyncio.to_thread(flush)
    if expected.size is not None and total != expected.size:
        raise ObjectMismatch(f"{total} bytes came, {expected.size} were announced")
    if expected.sha256 is not None and f"sha256:{digest.hexdigest()}" != expected.sha256:
        raise ObjectMismatch(f"the bytes are not those of {expected.sha256}")
    await asyncio.to_thread(file.flush)


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
