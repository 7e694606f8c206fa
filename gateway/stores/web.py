"""Files on web servers: asked for their size and ETag, only where all the world may ask, or the operator allows it."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Collection
from functools import cached_property
from typing import TYPE_CHECKING

from flaregate_wire.addresses import AddressRefused, Resolver, ask, resolve, target_of
from flaregate_wire.blobs import Transfer
from flaregate_wire.references import RemoteFile, RemoteRead
from gateway.stores.base import ObjectMissing, StoreDenied, StoreUnavailable

if TYPE_CHECKING:
    import httpx

_HEADERS = {"Range": "bytes=0-0", "Accept-Encoding": "identity", "User-Agent": "flaregate"}
"""One byte is asked for, and not read: not every server answers HEAD, and a signed address may be for GET alone."""
_TIMEOUT = 10.0
_SECONDS = 30.0
"""For a file, redirects and all."""
_OK = 200
_EMPTY_RANGE = 416
_LONGEST_ETAG = 200
_MISSING = frozenset({404, 410})
_LATER = frozenset({408, 425, 429})
_FAULT = 500
_UNKNOWN_NAMES = frozenset({socket.EAI_NONAME, socket.EAI_NODATA})


class WebFiles:
    """https:// for users. A connection serves one request: the next one's host is looked at anew."""

    def __init__(
        self, hosts: Collection[str] = (), trust: ssl.SSLContext | None = None, names: Resolver = resolve
    ) -> None:
        """Make it; no I/O.

        Args:
            hosts: `host:port` that may be asked though they are not public.
            trust: Whose certificates are believed; by default those of the usual authorities.
            names: What gives the addresses of a host.
        """
        self._hosts = tuple(host.lower() for host in hosts)
        self._trust = trust
        self._resolve = names

    @cached_property
    def _client(self) -> httpx.AsyncClient:
        import httpx  # noqa: PLC0415 - 60 ms of a gateway's start, and few gateways ever ask

        limits = httpx.Limits(max_keepalive_connections=0)
        verify = self._trust or httpx.create_ssl_context()
        return httpx.AsyncClient(verify=verify, trust_env=False, limits=limits, timeout=_TIMEOUT)

    def fault(self, address: str) -> str | None:
        try:
            target_of(address, self._hosts)
        except AddressRefused as error:
            return str(error)
        return None

    async def files(self, address: str, most: int) -> tuple[RemoteFile, ...]:
        import httpx  # noqa: PLC0415

        try:
            async with asyncio.timeout(_SECONDS):
                answer = await ask(address, self._send, self._hosts, self._resolve)
                await answer.aclose()
        except AddressRefused as error:
            raise StoreDenied(str(error)) from error
        except socket.gaierror as error:
            kind = StoreDenied if error.errno in _UNKNOWN_NAMES else StoreUnavailable
            raise kind(f"the name of its host is not known: {error.strerror}") from error
        except (httpx.TransportError, OSError, TimeoutError) as error:
            raise _unreachable(error) from error
        return (_file(address, answer),)

    async def _send(self, url: str, name: str, certificate: str) -> httpx.Response:
        headers = {**_HEADERS, "Host": name}
        request = self._client.build_request("GET", url, headers=headers, extensions={"sni_hostname": certificate})
        return await self._client.send(request, stream=True)

    def read(self, file: RemoteFile) -> RemoteRead:
        return RemoteRead(file=file, get=Transfer(method="GET", url=file.address), open_to=self._hosts)

    async def close(self) -> None:
        if "_client" in vars(self):
            await self._client.aclose()


def _unreachable(error: BaseException) -> StoreDenied | StoreUnavailable:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return StoreDenied(f"its certificate is not to be believed: {cause.verify_message}")
        cause = cause.__cause__ or cause.__context__
    return StoreUnavailable(f"the server does not answer: {type(error).__name__} {error}".rstrip())


def _file(address: str, answer: httpx.Response) -> RemoteFile:
    status = answer.status_code
    if status in _MISSING:
        raise ObjectMissing(f"the server says that there is no such file ({status}); correct the address")
    if status >= _FAULT or status in _LATER:
        raise StoreUnavailable(f"the server answers {status} {answer.reason_phrase}")
    if not answer.is_success and status != _EMPTY_RANGE:
        raise StoreDenied(
            f"the server answers {status} {answer.reason_phrase}; give an address that can be read without a login"
        )
    etag = answer.headers.get("etag", "")
    return RemoteFile(address=address, size=_size(answer), etag=etag if 0 < len(etag) <= _LONGEST_ETAG else None)


def _size(answer: httpx.Response) -> int | None:
    """Of the whole file, where the server says it."""
    in_range = re.fullmatch(r"bytes (?:\d+-\d+|\*)/(\d+)", answer.headers.get("content-range", ""))
    if in_range:
        return int(in_range[1])
    length = answer.headers.get("content-length", "")
    return int(length) if answer.status_code == _OK and length.isdigit() else None
