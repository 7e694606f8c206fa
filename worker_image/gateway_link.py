"""The worker's one way to the gateway: the attempt endpoints, each as one call.

Errors:
    LinkError
    ├── GatewayAway    nobody answered, or not now: the same request may be sent again
    ├── AttemptOver    the attempt has ended or another one has taken its place: end at once
    └── Refused        the gateway will never take this request
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import httpx
from pydantic import ValidationError

from flaregate_wire.attempts import (
    BatchAnswer,
    HeadAddress,
    LargeObject,
    LargePlace,
    Manifest,
    ObjectsAnswer,
    ObjectsRequest,
    Order,
    Rendezvous,
)
from flaregate_wire.blobs import Transfer
from flaregate_wire.problems import Code, Problem

_JSON = {"Content-Type": "application/json"}
_SERVER_FAULT = 500
_BUSY = (408, 425, 429)
PUTTING_TOGETHER = 300.0
"""Seconds that a store may need to make one object of thousands of parts."""

T = TypeVar("T")


class LinkError(Exception):
    """What can go wrong between a container and the gateway."""


class GatewayAway(LinkError):
    """Nobody answered, or not now."""


class AttemptOver(LinkError):
    """The attempt has ended or another one has taken its place."""


class Refused(LinkError):
    """The gateway will never take this request."""


def error_of(response: httpx.Response) -> LinkError:
    """What an answer that is not a success means for the container."""
    text = f"{response.request.method} {response.request.url.path}: {response.status_code} {response.text[:500]}"
    if response.status_code >= _SERVER_FAULT or response.status_code in _BUSY:
        return GatewayAway(text)
    try:
        code = Problem.model_validate_json(response.content).code
    except ValidationError:
        return Refused(text)
    return AttemptOver(text) if code is Code.ATTEMPT_OVER else Refused(text)


async def insist(call: Callable[[], Awaitable[T]], *, patience: float, first_wait: float = 0.1) -> T:
    """Repeat a call while the gateway is away, for `patience` seconds at most; the last error is raised then."""
    loop = asyncio.get_running_loop()
    end, wait = loop.time() + patience, first_wait
    while True:
        try:
            return await call()
        except GatewayAway:
            if loop.time() + wait > end:
                raise
        await asyncio.sleep(wait)
        wait = min(wait * 2, 2.0)


def batch_body(boot: str, first: int, events: Sequence[bytes], *, renew: bool = False) -> bytes:
    """An EventBatch of encoded events, as JSON on one line."""
    more = b',"renew":true' if renew else b""
    return b'{"boot":"%s","first":%d,"events":[%s]%s}' % (boot.encode(), first, b",".join(events), more)


class GatewayLink:
    """The attempt endpoints. Nothing here repeats a request: see `insist`."""

    def __init__(self, client: httpx.AsyncClient, attempt: str, boot: str, timeout: float = 10.0) -> None:
        self.client = client
        self._base = f"/v1/attempts/{attempt}"
        self.boot = boot
        self._timeout = timeout
        self._token = ""
        self._bootstrap = ("", 0)

    async def order(self, bootstrap: str, index: int) -> Order:
        """Exchange the bootstrap code for the order, and keep its token."""
        self._bootstrap = (bootstrap, index)
        order = await self.order_again()
        self._token = order.token
        return order

    async def order_again(self) -> Order:
        """The same order, with new presigned requests."""
        bootstrap, index = self._bootstrap
        query: dict[str, str | int | float] = {"index": index, "boot": self.boot}
        return Order.model_validate_json(await self._ask("GET", "/order", params=query, token=bootstrap))

    async def register_head(self, address: str) -> None:
        body = HeadAddress(boot=self.boot, address=address).model_dump_json().encode()
        await self._ask("PUT", "/head", content=body)

    async def rendezvous(self, *, wait: float, until: str = "head") -> Rendezvous:
        """Ask for the head, waiting until there is one (`until="head"`) or until it is done (`until="done"`)."""
        query: dict[str, str | int | float] = {"wait": wait, "until": until}
        return Rendezvous.model_validate_json(
            await self._ask("GET", "/head", params=query, timeout=wait + self._timeout)
        )

    async def send_events(self, first: int, events: Sequence[bytes], *, renew: bool = False) -> BatchAnswer:
        """Send a batch of encoded events; an empty one only renews the lease."""
        body = batch_body(self.boot, first, events, renew=renew)
        return BatchAnswer.model_validate_json(await self._ask("POST", "/events", content=body))

    async def place(self, names: tuple[str, ...]) -> tuple[tuple[str, Transfer], ...]:
        """Keys and presigned requests for objects to write, in the order of the names."""
        body = ObjectsRequest(put=names).model_dump_json().encode()
        return ObjectsAnswer.model_validate_json(await self._ask("POST", "/objects", content=body)).put

    async def parts(self, asked: LargeObject) -> LargePlace:
        """Requests for the missing parts of a large object."""
        return LargePlace.model_validate_json(
            await self._ask("POST", "/parts", content=asked.model_dump_json(exclude_none=True).encode())
        )

    async def finish(self, asked: LargeObject) -> None:
        """Every part of a large object is there."""
        body = asked.model_dump_json(exclude_none=True).encode()
        await self._ask("POST", "/parts:finish", content=body, timeout=PUTTING_TOGETHER)

    async def commit(self, manifest: Manifest) -> None:
        await self._ask("POST", "/commit", content=manifest.model_dump_json(exclude_none=True).encode())

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str | int | float] | None = None,
        content: bytes | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - httpx keeps it, for each phase of a request
        token: str | None = None,
    ) -> bytes:
        headers = {"Authorization": f"Bearer {token or self._token}"} | (_JSON if content is not None else {})
        try:
            response = await self.client.request(
                method,
                self._base + path,
                params=params,
                content=content,
                headers=headers,
                timeout=timeout or self._timeout,
            )
        except httpx.TransportError as exc:
            raise GatewayAway(f"{method} {path}: {exc!r}") from exc
        if not response.is_success:
            raise error_of(response)
        return response.content
