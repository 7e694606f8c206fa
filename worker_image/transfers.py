"""Small objects from this container to the store, by presigned requests; and what can go wrong with the store.

Errors: StageInFailed (an input cannot be read, or is not what its digest says); StoreRefused (an object was not taken).
"""

from collections.abc import AsyncIterator

import httpx

from flaregate_wire.blobs import Transfer
from worker_image.gateway_link import GatewayAway, GatewayLink

_SERVER_FAULT = 500
_TIMEOUT = httpx.Timeout(60.0, connect=10.0)


class StageInFailed(Exception):
    """An input could not be read, or is not what its digest says."""

    def __init__(self, message: str, damaged: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.damaged = damaged
        """Sums of staged blobs whose bytes are not theirs, or are not there."""


class StoreRefused(Exception):
    """The store did not take an object."""


async def put_bytes(link: GatewayLink, name: str, data: bytes) -> str:
    """Write one small object; gives its key. Raises GatewayAway or StoreRefused."""
    ((key, transfer),) = await link.place((name,))
    await upload(link.client, transfer, data, len(data))
    return key


async def put_slot(link: GatewayLink, transfer: Transfer, data: bytes) -> None:
    """Write one small object by a request that was given beforehand. Raises GatewayAway or StoreRefused."""
    await upload(link.client, transfer, data, len(data))


async def upload(
    client: httpx.AsyncClient, transfer: Transfer, content: bytes | AsyncIterator[bytes], size: int
) -> None:
    """Send what a presigned request is for. Raises GatewayAway or StoreRefused."""
    headers = {**transfer.headers, "Content-Length": str(size)}
    try:
        response = await client.request(
            transfer.method, transfer.url, content=content, headers=headers, timeout=_TIMEOUT
        )
    except httpx.TransportError as exc:
        raise GatewayAway(repr(exc)) from exc
    if response.status_code >= _SERVER_FAULT:
        raise GatewayAway(f"the store answers {response.status_code}")
    if not response.is_success:
        raise StoreRefused(f"the store answers {response.status_code}: {response.text[:300]}")
