"""Files of references onto this machine: the same bytes that the gateway saw, or none.

A request that the gateway has signed is made as it is. An address that a user gave is asked only where all the world
may ask, or the operator allows it; names are looked at anew here, because this network is another one.
"""

import asyncio
import hashlib
import re
import socket
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from pydantic import JsonValue

from flaregate_wire.addresses import AddressRefused, Resolver, ask, resolve
from flaregate_wire.limits import REFERENCE_BYTES
from flaregate_wire.references import RemoteFile, RemoteRead
from worker_image.gateway_link import GatewayAway, insist
from worker_image.transfers import StageInFailed
from worker_image.work import LocalFile

_AT_ONCE = 4
_TIMEOUT = httpx.Timeout(60.0, connect=10.0)
_PLAIN = {"Accept-Encoding": "identity", "User-Agent": "flaregate"}
_LATER = frozenset({408, 425, 429})
_GONE = frozenset({404, 410})


@dataclass(frozen=True, slots=True)
class Network:
    """How this machine reaches others."""

    client: httpx.AsyncClient
    """To the gateway's own store."""
    trust: ssl.SSLContext | None = None
    """Whose certificates users' hosts may have; by default those of the usual authorities."""
    names: Resolver = resolve


async def fetch_references(
    references: Mapping[str, Sequence[RemoteRead]], network: Network, folder: Path, patience: float
) -> dict[str, tuple[LocalFile, ...]]:
    """Download every file, several at once; gives those of each reference in their order. Raises StageInFailed."""
    places = asyncio.Semaphore(_AT_ONCE)

    async def fetch(number: int, read: RemoteRead) -> LocalFile:
        one = _Fetch(read, folder / f"file-{number}", network)
        async with places:
            try:
                await insist(one.attempt, patience=patience)
            except GatewayAway as error:
                raise StageInFailed(f"{read.file.address}: {error}") from error
            content = await asyncio.to_thread(one.content)
        return LocalFile(address=read.file.address, path=str(one.path), content=content)

    reads = [read for each in references.values() for read in each]
    tasks = [asyncio.create_task(fetch(number, read)) for number, read in enumerate(reads)]
    try:
        files = iter(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return {address: tuple(next(files) for _ in each) for address, each in references.items()}


@dataclass(slots=True)
class _Fetch:
    """One file, over as many attempts as it takes."""

    read: RemoteRead
    path: Path
    network: Network

    async def attempt(self) -> None:
        """Get what is missing. Raises StageInFailed, GatewayAway where another attempt may succeed."""
        file = self.read.file
        begin = self.path.stat().st_size if self._resumes and self.path.exists() else 0
        if begin and begin == file.size:
            return
        try:
            async with self._opened(begin) as answer:
                _check(file, answer)
                await self._write(answer, begin)
        except AddressRefused as error:
            raise StageInFailed(f"{file.address}: {error}") from error
        except (httpx.TransportError, socket.gaierror) as error:
            raise GatewayAway(f"its server does not answer: {error!r}") from error
        except OSError as error:
            raise StageInFailed(f"{file.address} cannot be written here: {error}") from error

    @property
    def _resumes(self) -> bool:
        """Whether what has come is known to be the beginning of what is still to come."""
        return self.read.file.identity is not None and self.read.file.size is not None

    async def _write(self, answer: httpx.Response, begin: int) -> None:
        file = self.read.file
        most = REFERENCE_BYTES if file.size is None else file.size
        size = begin if answer.status_code == httpx.codes.PARTIAL_CONTENT else 0
        with self.path.open("ab") as target:
            target.truncate(size)
            async for chunk in answer.aiter_raw():  # as it comes: what is held back would be lost with the connection
                size += len(chunk)
                if size > most:
                    raise _changed(file, f"it is longer than {most} bytes")
                target.write(chunk)

    @asynccontextmanager
    async def _opened(self, begin: int) -> AsyncIterator[httpx.Response]:
        get, headers = self.read.get, dict(_PLAIN)
        if begin:
            headers["Range"] = f"bytes={begin}-"
        if self.read.open_to is None:
            request = self.network.client.build_request(
                get.method, get.url, headers=headers | get.headers, timeout=_TIMEOUT
            )
            answer = await self.network.client.send(request, stream=True)
            try:
                yield answer
            finally:
                await answer.aclose()
            return
        async with _users_client(self.network.trust) as client:

            async def send(url: str, name: str, certificate: str) -> httpx.Response:
                named = {**headers, "Host": name}
                request = client.build_request(
                    get.method, url, headers=named, extensions={"sni_hostname": certificate}, timeout=_TIMEOUT
                )
                return await client.send(request, stream=True)

            yield await ask(get.url, send, self.read.open_to, self.network.names)

    def content(self) -> JsonValue:
        """What tells its bytes from others: what the gateway saw, or else their sum."""
        file = self.read.file
        if file.identity is not None:
            return file.identity
        with self.path.open("rb") as source:
            return [file.address, "sha256", hashlib.file_digest(source, "sha256").hexdigest()]


def _users_client(trust: ssl.SSLContext | None) -> httpx.AsyncClient:
    """A connection serves one request: the next one's host is looked at anew."""
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.AsyncClient(verify=trust or httpx.create_ssl_context(), trust_env=False, limits=limits)


def _check(file: RemoteFile, answer: httpx.Response) -> None:
    """Raise StageInFailed for an answer that is not the file, GatewayAway for one that may come later."""
    status = answer.status_code
    if answer.is_server_error or status in _LATER:
        raise GatewayAway(f"its server answers {status}")
    if status == httpx.codes.PRECONDITION_FAILED:
        raise _changed(file, "its ETag is another one")
    if status in _GONE:
        raise _changed(file, "it is gone")
    if not answer.is_success:
        raise StageInFailed(f"{file.address}: its server answers {status}")
    etag, size = answer.headers.get("etag"), _size(answer)
    if file.etag is not None and etag != file.etag:
        raise _changed(file, f"its ETag was {file.etag} and is {etag}")
    if file.size is not None and size not in (None, file.size):
        raise _changed(file, f"it had {file.size} bytes and has {size}")


def _size(answer: httpx.Response) -> int | None:
    """Of the whole file, where the answer says it."""
    if answer.status_code == httpx.codes.PARTIAL_CONTENT:
        found = re.fullmatch(r"bytes \d+-\d+/(\d+)", answer.headers.get("content-range", ""))
        return int(found[1]) if found else None
    length = answer.headers.get("content-length", "")
    return int(length) if length.isdigit() else None


def _changed(file: RemoteFile, how: str) -> StageInFailed:
    return StageInFailed(f"{file.address} has changed since the job began: {how}; submit the job again")
