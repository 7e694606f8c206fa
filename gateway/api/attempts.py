"""For the containers of one attempt; each shows the token of its own boot, and no other credential."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from flaregate_wire.attempts import (
    BatchAnswer,
    CacheFetch,
    CacheFetched,
    CacheFound,
    CacheKeep,
    CacheLookup,
    EventBatch,
    HeadAddress,
    LargeObject,
    LargePlace,
    Manifest,
    ObjectsAnswer,
    ObjectsRequest,
    Order,
    Rendezvous,
)
from flaregate_wire.limits import BATCH_BYTES
from flaregate_wire.problems import Code
from gateway.api.bodies import read
from gateway.api.describe import problems, takes
from gateway.api.identity import Asking, Starting
from gateway.api.jobs import Wait, answer, service_of
from gateway.jobs.errors import BootConflict
from gateway.jobs.keys import Container

router = APIRouter(prefix="/v1/attempts/{attempt}", tags=["attempts"])
_OVER = problems(Code.ATTEMPT_OVER, Code.BOOT_CONFLICT)
Boot = Annotated[str, Query(pattern=r"^[\w-]{1,64}$", description="Made by the container at its start.")]


_SUM = "0" * 64
_SHELF = f"sha256:{_SUM}"
_LARGE = {"name": "artifacts/model", "size": 1024, "parts": [{"size": 1024, "sha256": _SHELF}]}
_OBJECT = {"key": f"tenants/default/cache/default/job-1-1/{_SUM}", "size": 1024, "sha256": _SHELF}


def _same_boot(who: Container, boot: str) -> None:
    if boot != who.boot:
        raise BootConflict


@router.get("/order", response_model=Order, responses=_OVER)
async def order(
    request: Request,
    attempt: Starting,
    boot: Boot,
    index: Annotated[int, Query(ge=0, description="0 is the head.")] = 0,
) -> Response:
    """Exchange the bootstrap code for the order; the same boot may repeat it."""
    return answer(await service_of(request).containers.order(attempt, index, boot))


@router.put(
    "/head",
    status_code=204,
    responses=_OVER,
    openapi_extra=takes(HeadAddress, {"boot": "b1", "address": "127.0.0.1:6379"}),
)
async def register(request: Request, who: Asking) -> Response:
    """The head says where it listens."""
    head = await read(request, HeadAddress)
    _same_boot(who, head.boot)
    if who.index != 0:
        raise BootConflict("only the head registers itself")
    await service_of(request).containers.register(who, head)
    return Response(status_code=204)


@router.get("/head", response_model=Rendezvous, responses=_OVER)
async def rendezvous(
    request: Request,
    who: Asking,
    wait: Wait = 0,
    until: Annotated[Literal["head", "done"], Query(description="What to wait for.")] = "head",
) -> Response:
    """Wait for the head's address, or for word that no worker is needed any more."""
    return answer(await service_of(request).containers.rendezvous(who, wait, until))


@router.post(
    "/events",
    response_model=BatchAnswer,
    responses=problems(Code.ATTEMPT_OVER, Code.SEQUENCE_GAP, Code.TOO_LARGE),
    openapi_extra=takes(EventBatch, {"boot": "b1", "first": 0, "events": []}),
)
async def events(request: Request, who: Asking) -> Response:
    """Take in events, renew the lease, answer with wishes. A repeated batch is harmless."""
    batch = await read(request, EventBatch, BATCH_BYTES, "batch_bytes")
    _same_boot(who, batch.boot)
    return answer(await service_of(request).containers.take(who, batch))


@router.post(
    "/objects",
    response_model=ObjectsAnswer,
    responses=problems(Code.ATTEMPT_OVER, Code.INVALID_REQUEST),
    openapi_extra=takes(ObjectsRequest, {"put": ["logs/0/000000000000"]}),
)
async def objects(request: Request, who: Asking) -> Response:
    """Give presigned requests for names under the attempt's own prefix; `cache/` and 64 digits outlives the job."""
    return answer(await service_of(request).containers.objects(who, await read(request, ObjectsRequest)))


@router.post(
    "/parts",
    response_model=LargePlace,
    responses=problems(Code.ATTEMPT_OVER, Code.INVALID_REQUEST, Code.NOT_FOUND, Code.TOO_LARGE),
    openapi_extra=takes(LargeObject, _LARGE),
)
async def parts(request: Request, who: Asking) -> Response:
    """Give requests for missing parts of a large object under the attempt's own prefix; ask again to go on."""
    return answer(await service_of(request).large.place(who, await read(request, LargeObject)))


@router.post(
    "/parts:finish",
    status_code=204,
    responses=problems(Code.ATTEMPT_OVER, Code.INVALID_REQUEST, Code.NOT_FOUND, Code.BLOB_MISMATCH),
    openapi_extra=takes(LargeObject, _LARGE | {"upload": "0123456789abcdef0123456789abcdef"}),
)
async def finish(request: Request, who: Asking) -> Response:
    """Make a large object of its parts; repeating it is harmless."""
    await service_of(request).large.finish(who, await read(request, LargeObject))
    return Response(status_code=204)


@router.post(
    "/commit", status_code=204, responses=_OVER, openapi_extra=takes(Manifest, {"boot": "b1", "succeeded": True})
)
async def commit(request: Request, who: Asking) -> Response:
    """Take the manifest: exactly one for each job."""
    manifest = await read(request, Manifest)
    _same_boot(who, manifest.boot)
    if who.index != 0:
        raise BootConflict("only the head commits")
    await service_of(request).containers.commit(who, manifest)
    return Response(status_code=204)


@router.post(
    "/cache:lookup",
    response_model=CacheFound,
    responses=problems(Code.ATTEMPT_OVER, Code.INVALID_REQUEST),
    openapi_extra=takes(CacheLookup, {"shelves": [_SHELF]}),
)
async def lookup(request: Request, who: Asking) -> Response:
    """Say which segments of the cache have results of these shelves, within the job's trust scope."""
    return answer(await service_of(request).cache.lookup(who, await read(request, CacheLookup)))


@router.post(
    "/cache:fetch",
    response_model=CacheFetched,
    responses=problems(Code.ATTEMPT_OVER, Code.INVALID_REQUEST),
    openapi_extra=takes(CacheFetch, {"keys": [_OBJECT["key"]]}),
)
async def fetch(request: Request, who: Asking) -> Response:
    """Say where large results are to be read; those that are gone are left out."""
    return answer(await service_of(request).cache.fetch(who, await read(request, CacheFetch)))


@router.post(
    "/cache:keep",
    status_code=204,
    responses=problems(Code.ATTEMPT_OVER, Code.BOOT_CONFLICT, Code.INVALID_REQUEST, Code.NOT_FOUND, Code.BLOB_MISMATCH),
    openapi_extra=takes(CacheKeep, {"segments": [[_SHELF, _OBJECT]], "objects": []}),
)
async def keep(request: Request, who: Asking) -> Response:
    """Register segments and large results that the attempt has written; repeating it is harmless."""
    kept = await read(request, CacheKeep)
    if who.index != 0:
        raise BootConflict("only the head keeps results")
    await service_of(request).cache.keep(who, kept)
    return Response(status_code=204)
