"""Blobs for users, and the presigned objects of a store that has no URLs of its own."""

from contextlib import suppress

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from flaregate_wire.blobs import DROP_HEADER, BlobAnswer, BlobOffer
from flaregate_wire.limits import BLOB_BYTES
from flaregate_wire.problems import Code
from gateway.api.bodies import pieces, read
from gateway.api.describe import problems, takes
from gateway.api.identity import User
from gateway.api.jobs import answer, service_of
from gateway.api.ranges import asked_range
from gateway.stores.base import ObjectExists, ObjectMissing
from gateway.stores.signing import ServedStore, UrlSigner

router = APIRouter(prefix="/v1", tags=["staging"])
_EXAMPLE = {"sha256": "sha256:" + "0" * 64, "size": 1024, "media_type": "application/x-npy"}


@router.post(
    "/blobs",
    status_code=201,
    response_model=BlobAnswer,
    openapi_extra=takes(BlobOffer, _EXAMPLE),
    responses=problems(Code.INVALID_REQUEST, Code.TOO_LARGE)
    | {200: {"description": "It is there.", "model": BlobAnswer}},
)
async def offer(request: Request, who: User) -> Response:
    """Say whether something is staged already, or where to send what is missing of it; ask again to go on."""
    found = await service_of(request).staging.offer(who.tenant, await read(request, BlobOffer))
    return answer(found, 200 if found.exists else 201)


@router.post("/blobs/{sha256}:complete", status_code=204, responses=problems(Code.NOT_FOUND, Code.BLOB_MISMATCH))
async def complete(request: Request, who: User, sha256: str) -> Response:
    """Check what was sent, and make it known by its sum."""
    await service_of(request).staging.complete(who.tenant, sha256)
    return Response(status_code=204)


def _served(request: Request) -> tuple[ServedStore, UrlSigner]:
    """The store whose URLs this gateway serves. Raises ObjectMissing where the store has URLs of its own."""
    if request.app.state.served is None:
        raise ObjectMissing("this gateway's store has URLs of its own")
    return request.app.state.served, request.app.state.signer


@router.get(
    "/objects/{key:path}", responses=problems(Code.NOT_FOUND, Code.URL_EXPIRED), response_class=StreamingResponse
)
async def get_object(request: Request, key: str) -> Response:
    """Read an object by a presigned URL; a range is honoured."""
    store, signer = _served(request)
    signer.check("GET", key, request.query_params)
    info = await store.head(key)
    part = asked_range(request.headers.get("range"), info.size)
    headers = {"Accept-Ranges": "bytes", "Content-Disposition": f'attachment; filename="{key.rpartition("/")[2]}"'}
    if part is None:
        headers["Content-Length"] = str(info.size)
        return StreamingResponse(store.get(key), 200, headers, "application/octet-stream")
    start, stop = part
    headers |= {"Content-Length": str(stop - start), "Content-Range": f"bytes {start}-{stop - 1}/{info.size}"}
    return StreamingResponse(store.get(key, start=start, stop=stop), 206, headers, "application/octet-stream")


@router.put(
    "/objects/{key:path}", status_code=204, responses=problems(Code.URL_EXPIRED, Code.BLOB_MISMATCH, Code.TOO_LARGE)
)
async def put_object(request: Request, key: str) -> Response:
    """Write an object, or a part of one, by a presigned URL: once, whole, of the size and sum that were signed.

    A process of this machine may have put the file itself into the store's folder of drops, and name it instead.
    """
    store, signer = _served(request)
    granted = signer.check("PUT", key, request.query_params)
    if (drop := request.headers.get(DROP_HEADER)) is not None and granted.slot is None:
        with suppress(ObjectExists):
            await store.take(key, drop)
        return Response(status_code=204)
    body = pieces(request, BLOB_BYTES, "blob_bytes")
    if granted.slot is not None:
        await store.put_part(key, granted.slot, body, granted.expected)
        return Response(status_code=204)
    with suppress(ObjectExists):  # the same request again: what stands there was sent with the same signature
        await store.put(key, body, if_absent=True, expected=granted.expected)
    return Response(status_code=204)
