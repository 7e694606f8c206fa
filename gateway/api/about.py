"""What the gateway says of itself."""

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from flaregate_wire.attempts import BATCH_EVENTS
from flaregate_wire.definitions import KEEP_SECONDS
from flaregate_wire.events import EVENT_BYTES
from flaregate_wire.jobs import Limit, PriceView, Principal
from flaregate_wire.limits import (
    BATCH_BYTES,
    BLOB_BYTES,
    CANDIDATES,
    DEFINITION_BYTES,
    NODES,
    PART_BYTES,
    PARTS,
    PATHS,
    PUT_BYTES,
    REFERENCE_BYTES,
    REFERENCE_FILES,
)
from flaregate_wire.problems import Code
from gateway.api.bodies import SMALL
from gateway.api.describe import problems
from gateway.api.identity import User, user
from gateway.api.jobs import answer, service_of
from gateway.api.metrics import exposed
from gateway.api.streams import Places
from gateway.console.page import render
from gateway.jobs.logs import TAIL_BYTES

router = APIRouter(tags=["about"])
LIMITS = (
    Limit(name="definition_bytes", value=DEFINITION_BYTES, unit="bytes"),
    Limit(name="control_message", value=SMALL, unit="bytes"),
    Limit(name="batch_bytes", value=BATCH_BYTES, unit="bytes"),
    Limit(name="batch_events", value=BATCH_EVENTS, unit="events"),
    Limit(name="event_bytes", value=EVENT_BYTES, unit="bytes"),
    Limit(name="log_tail_bytes", value=TAIL_BYTES, unit="bytes"),
    Limit(name="blob_bytes", value=BLOB_BYTES, unit="bytes"),
    Limit(name="put_bytes", value=PUT_BYTES, unit="bytes"),
    Limit(name="part_bytes", value=PART_BYTES, unit="bytes"),
    Limit(name="parts", value=PARTS, unit="parts"),
    Limit(name="reference_files", value=REFERENCE_FILES, unit="files"),
    Limit(name="reference_bytes", value=REFERENCE_BYTES, unit="bytes"),
    Limit(name="nodes", value=NODES, unit="nodes"),
    Limit(name="paths", value=PATHS, unit="paths"),
    Limit(name="candidates", value=CANDIDATES, unit="candidates"),
    Limit(name="keep_seconds", value=KEEP_SECONDS, unit="seconds"),
)


@router.get("/v1/limits", response_model=list[Limit], responses=problems(), dependencies=[Depends(user)])
async def limits(request: Request) -> list[Limit]:
    """Every limit that the gateway enforces."""
    places: Places = request.app.state.places
    return [*LIMITS, Limit(name="streams", value=places.most, unit="open streams of one tenant")]


@router.get("/v1/prices", response_model=PriceView, responses=problems(), dependencies=[Depends(user)])
async def prices(request: Request) -> Response:
    """What the platform asks for a container."""
    return answer(service_of(request).price())


@router.get("/metrics", response_class=Response, responses=problems(), dependencies=[Depends(user)])
async def metrics(request: Request) -> Response:
    """Numbers for Prometheus; it shows the token as any user does."""
    return Response(exposed(service_of(request).figures), media_type=CONTENT_TYPE_LATEST)


@router.get("/v1/environment", response_model=dict[str, str], responses=problems(), dependencies=[Depends(user)])
async def environment(request: Request) -> dict[str, str]:
    """What the workers have: versions by distribution, and `python`."""
    return dict(service_of(request).environment())


@router.get("/v1/me", response_model=Principal, responses=problems())
async def me(who: User) -> Response:
    """Who is asking."""
    return answer(who)


@router.get("/healthz", openapi_extra={"security": []})
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz", openapi_extra={"security": []}, responses=problems(Code.UNAVAILABLE))
async def readyz(request: Request) -> Response:
    """Whether each thing that the gateway needs is there."""
    found = await service_of(request).ready()
    return JSONResponse(
        {"status": "ok" if all(found.values()) else "not ready", **found}, 200 if all(found.values()) else 503
    )


@router.get("/", openapi_extra={"security": []}, response_class=HTMLResponse)
async def console() -> Response:
    """The list of jobs, for a browser."""
    body, policy = render()
    return HTMLResponse(
        body, headers={"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY"}
    )
