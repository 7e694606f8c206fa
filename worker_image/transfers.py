"""Bytes between this container and the store, by presigned requests: inputs in, log segments and artifacts out.

Errors: StageInFailed (an input cannot be read, or is not what its digest says); StoreRefused (an object was not taken).
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import httpx

from flaregate_wire.attempts import CommittedArtifact
from flaregate_wire.blobs import Transfer
from worker_image.gateway_link import GatewayAway, GatewayLink, insist
from worker_image.work import LocalArtifact

_CHUNK = 1024 * 1024
_AT_ONCE = 4
_SERVER_FAULT = 500
_TIMEOUT = httpx.Timeout(60.0, connect=10.0)


class StageInFailed(Exception):
    """An input could not be read, or is not what its digest says."""


class StoreRefused(Exception):
    """The store did not take an object."""


async def fetch_inputs(
    client: httpx.AsyncClient, blobs: Mapping[str, Transfer], folder: Path, patience: float
) -> dict[str, str]:
    """Download every blob into `folder` and check its sum; gives each one's path. Raises StageInFailed."""
    places = asyncio.Semaphore(_AT_ONCE)

    async def fetch(sha256: str, transfer: Transfer) -> tuple[str, str]:
        path = folder / sha256.removeprefix("sha256:")
        async with places:
            try:
                await insist(lambda: _download(client, transfer, sha256, path), patience=patience)
            except GatewayAway as exc:
                raise StageInFailed(f"{sha256}: {exc}") from exc
        return sha256, str(path)

    jobs = [asyncio.create_task(fetch(sha256, transfer)) for sha256, transfer in blobs.items()]
    try:
        return dict(await asyncio.gather(*jobs))
    finally:
        for job in jobs:
            job.cancel()


async def _download(client: httpx.AsyncClient, transfer: Transfer, sha256: str, path: Path) -> None:
    sums = hashlib.sha256()
    request = client.build_request(transfer.method, transfer.url, headers=transfer.headers, timeout=_TIMEOUT)
    try:
        response = await client.send(request, stream=True)
        try:
            if response.status_code >= _SERVER_FAULT:
                raise GatewayAway(f"the store answers {response.status_code}")
            if not response.is_success:
                raise StageInFailed(f"{sha256}: the store answers {response.status_code}")
            with path.open("wb") as file:
                async for chunk in response.aiter_bytes(_CHUNK):
                    sums.update(chunk)
                    file.write(chunk)
        finally:
            await response.aclose()
    except httpx.TransportError as exc:
        raise GatewayAway(repr(exc)) from exc
    if f"sha256:{sums.hexdigest()}" != sha256:
        raise StageInFailed(f"{sha256}: what the store holds has the sum sha256:{sums.hexdigest()}")


async def put_bytes(link: GatewayLink, name: str, data: bytes) -> str:
    """Write one small object; gives its key. Raises GatewayAway or StoreRefused."""
    ((key, transfer),) = await link.place((name,))
    await _upload(link.client, transfer, data, len(data))
    return key


async def put_slot(link: GatewayLink, transfer: Transfer, data: bytes) -> None:
    """Write one small object by a request that was given beforehand. Raises GatewayAway or StoreRefused."""
    await _upload(link.client, transfer, data, len(data))


async def put_artifact(link: GatewayLink, artifact: LocalArtifact, patience: float) -> CommittedArtifact:
    """Write a file that the driver made, without holding it in memory. Raises GatewayAway or StoreRefused."""
    path = Path(artifact.path)
    digest, size = await asyncio.to_thread(_digest, path)

    async def put() -> str:
        ((key, transfer),) = await link.place((f"artifacts/{artifact.name}",))
        await _upload(link.client, transfer, _chunks(path), size)
        return key

    key = await insist(put, patience=patience)
    return CommittedArtifact(
        name=artifact.name, key=key, media_type=artifact.media_type, size=size, sha256=f"sha256:{digest}"
    )


async def _upload(
    client: httpx.AsyncClient, transfer: Transfer, content: bytes | AsyncIterator[bytes], size: int
) -> None:
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


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK):
            yield chunk


def _digest(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size
