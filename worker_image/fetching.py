"""Inputs in: staged blobs, large ones in ranges that go on after a cut, each checked by the sum of its whole."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from flaregate_wire.blobs import Transfer
from flaregate_wire.definitions import Blob, JobDefinition
from flaregate_wire.planning.naming import inputs_of
from worker_image.gateway_link import GatewayAway, insist
from worker_image.transfers import StageInFailed

RANGE_BYTES = 32 * 1024 * 1024
_BLOBS_AT_ONCE = 4
_RANGES_AT_ONCE = 4
_CHUNK = 256 * 1024
_SERVER_FAULT, _FORBIDDEN, _NOT_FOUND, _NOT_SO_LONG = 500, 403, 404, 416
_TIMEOUT = httpx.Timeout(60.0, connect=10.0)
_RENEWALS = 3
"""Times that requests which are refused are asked for anew, for one range."""


@dataclass(frozen=True, slots=True)
class Reads:
    """Where blobs are read, and what is known of them."""

    requests: Mapping[str, Transfer]
    sizes: Mapping[str, int]
    """Bytes."""
    renewed: Callable[[], Awaitable[Mapping[str, Transfer]]]
    """Gives the requests anew: their time is over."""


async def fetch_inputs(client: httpx.AsyncClient, reads: Reads, folder: Path, patience: float) -> dict[str, str]:
    """Download every blob into `folder`; gives each one's path. Raises StageInFailed, naming the damaged ones."""
    places = asyncio.Semaphore(_BLOBS_AT_ONCE)

    async def fetch(sha256: str) -> tuple[str, str]:
        path = folder / sha256.removeprefix("sha256:")
        async with places:
            await _Fetch(client, reads, sha256, path, patience).run()
        return sha256, str(path)

    fetches = [asyncio.create_task(fetch(sha256)) for sha256 in reads.requests]
    try:
        return dict(await asyncio.gather(*fetches))
    finally:
        for one in fetches:
            one.cancel()
        await asyncio.gather(*fetches, return_exceptions=True)


def described(definition: JobDefinition, damaged: tuple[str, ...]) -> str:
    """The inputs whose bytes are damaged, in the user's words."""
    sources = range(max(1, len(definition.objects)))
    named = [
        f"{name}{f' of {definition.objects[number].name}' if definition.objects else ''}"
        for number in sources
        for name, given in inputs_of(definition, number).items()
        if isinstance(given, Blob) and given.blob in damaged
    ]
    return ", ".join(named) or ", ".join(damaged)


class _Fetch:
    """One blob on its way to a file."""

    def __init__(self, client: httpx.AsyncClient, reads: Reads, sha256: str, path: Path, patience: float) -> None:
        self._client = client
        self._reads = reads
        self._sha256 = sha256
        self._path = path
        self._patience = patience
        self._request = reads.requests[sha256]
        self._renewing = asyncio.Lock()

    async def run(self) -> None:
        """Twice where the sum is another: only then is it the store's fault. Raises StageInFailed."""
        for last in (False, True):
            try:
                found = await self._once()
            except OSError as exc:
                raise StageInFailed(f"{self._sha256} cannot be written here: {exc}") from exc
            if found == self._sha256:
                return
            if last:
                message = f"{self._sha256}: what the store holds has the sum {found}"
                raise StageInFailed(message, (self._sha256,))

    async def _once(self) -> str:
        """Gives the sum of what has arrived."""
        size = self._reads.sizes.get(self._sha256)
        starts = range(0, size or 1, RANGE_BYTES)
        await asyncio.to_thread(self._path.write_bytes, b"")
        places, total = asyncio.Semaphore(_RANGES_AT_ONCE), hashlib.sha256()

        async def part(start: int) -> None:
            async with places:
                stop = None if size is None else min(start + RANGE_BYTES, size)
                await self._range(start, stop, whole=len(starts) == 1)

        parts = [asyncio.create_task(part(start)) for start in starts]
        try:
            for start, arrived in zip(starts, parts, strict=True):
                await arrived
                await asyncio.to_thread(_add, total, self._path, start, None if size is None else start + RANGE_BYTES)
        except GatewayAway as exc:
            raise StageInFailed(f"{self._sha256}: {exc}") from exc
        finally:
            for one in parts:
                one.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
        return f"sha256:{total.hexdigest()}"

    async def _range(self, start: int, stop: int | None, *, whole: bool) -> None:
        """The bytes from `start` up to `stop`, gone on with where they broke off."""
        at = start
        renewals = 0

        async def once() -> None:
            nonlocal at, renewals
            request = self._request
            headers = dict(request.headers)
            if at or not whole:
                headers["Range"] = f"bytes={at}-" + ("" if stop is None else str(stop - 1))
            sent = self._client.build_request(request.method, request.url, headers=headers, timeout=_TIMEOUT)
            try:
                response = await self._client.send(sent, stream=True)
                try:
                    self._check(response, renewals)
                    if response.status_code == _FORBIDDEN:
                        renewals += 1
                        await self._renew(request)
                        raise GatewayAway("the request was too old")
                    skip = at if response.status_code == httpx.codes.OK else 0  # the store has no ranges
                    async for chunk in response.aiter_bytes(_CHUNK):
                        wanted = chunk[skip:] if stop is None else chunk[skip : skip + stop - at]
                        skip = max(0, skip - len(chunk))
                        await asyncio.to_thread(_write, self._path, at, wanted)
                        at += len(wanted)
                        if stop is not None and at >= stop:
                            break
                finally:
                    await response.aclose()
            except httpx.TransportError as exc:
                raise GatewayAway(repr(exc)) from exc
            if stop is not None and at < stop:
                raise GatewayAway(f"the answer ended after {at - start} of {stop - start} bytes")

        await insist(once, patience=self._patience)

    def _check(self, response: httpx.Response, renewals: int) -> None:
        status = response.status_code
        if status >= _SERVER_FAULT:
            raise GatewayAway(f"the store answers {status}")
        if response.is_success or (status == _FORBIDDEN and renewals < _RENEWALS):
            return
        damaged = (self._sha256,) if status in (_NOT_FOUND, _NOT_SO_LONG) else ()
        raise StageInFailed(f"{self._sha256}: the store answers {status}", damaged)

    async def _renew(self, old: Transfer) -> None:
        """Of several ranges whose request is too old, one asks."""
        async with self._renewing:
            if self._request is old:
                self._request = (await self._reads.renewed()).get(self._sha256, old)


def _write(path: Path, at: int, chunk: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(chunk)


def _add(total: "hashlib._Hash", path: Path, start: int, stop: int | None) -> None:
    """Take the bytes of a file into a sum; they have just been written, so they are read from memory."""
    with path.open("rb") as file:
        file.seek(start)
        left = float("inf") if stop is None else stop - start
        while left > 0 and (chunk := file.read(int(min(_CHUNK, left)))):
            total.update(chunk)
            left -= len(chunk)
