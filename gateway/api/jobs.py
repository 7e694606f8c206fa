"""Jobs, for users."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import RedirectResponse, Response, StreamingResponse
from pydantic import BaseModel

from flaregate_wire.definitions import JobDefinition
from flaregate_wire.jobs import ArtifactPage, CacheRemoved, JobPage, JobView, PlanView, Principal
from flaregate_wire.limits import DEFINITION_BYTES
from flaregate_wire.problems import Code
from flaregate_wire.states import State
from gateway.api import tables
from gateway.api.bodies import json_body
from gateway.api.describe import JOB_EXAMPLE, problems, takes
from gateway.api.identity import User
from gateway.api.streams import Pace, Stream, paced
from gateway.jobs.errors import InvalidRequest, NotAcceptable
from gateway.jobs.service import Form, Service

router = APIRouter(prefix="/v1", tags=["jobs"])
NDJSON = "application/x-ndjson"
JSON, CSV, PARQUET = tables.JSON, tables.CSV, tables.PARQUET
TABLE = {"type": "object", "properties": {"rows": {"type": "array", "items": {"type": "object"}}}}
SSE = "text/event-stream"
NOW = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""Headers of an answer that is not to be kept by anyone on the way."""
MAX_WAIT = 55.0
POLL_AFTER = "1"

Wait = Annotated[float, Query(ge=0, le=MAX_WAIT, description="Seconds to wait for what `until` names.")]
After = Annotated[int, Query(ge=0, description="Only what comes after this event id.")]
Key = Annotated[str | None, Header(max_length=255, description="The same key and body give the same job, once.")]


def service_of(request: Request) -> Service:
    """The service behind the API."""
    found: Service = request.app.state.service
    return found


def answer(model: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A model as JSON."""
    return Response(model.model_dump_json(by_alias=True, exclude_none=True), status, headers, "application/json")


def _job(view: JobView, status: int = 200, **headers: str) -> Response:
    found = {"ETag": f'"{view.version}"', **{name.replace("_", "-"): value for name, value in headers.items()}}
    if not view.state.terminal:
        found["Retry-After"] = POLL_AFTER
    return answer(view, status, found)


@router.post(
    "/jobs",
    status_code=202,
    response_model=JobView,
    openapi_extra=takes(JobDefinition, JOB_EXAMPLE),
    responses=problems(
        Code.INVALID_DEFINITION,
        Code.BLOB_MISSING,
        Code.ENVIRONMENT_MISMATCH,
        Code.PRICE_UNKNOWN,
        Code.TOO_LARGE,
        Code.UNSUPPORTED_MEDIA_TYPE,
        Code.IDEMPOTENCY_MISMATCH,
        Code.IDEMPOTENCY_IN_FLIGHT,
    ),
)
async def submit(request: Request, who: User, idempotency_key: Key = None) -> Response:
    """Accept a job. It is stored and answered at once; launching it is the gateway's next step."""
    body = await json_body(request, DEFINITION_BYTES, "definition_bytes")
    work = asyncio.ensure_future(service_of(request).submit(who.tenant, body, idempotency_key))
    view, replayed = await asyncio.shield(work)
    headers = {"Location": f"/v1/jobs/{view.id}"} | ({"Idempotent_Replayed": "true"} if replayed else {})
    return _job(view, 202, **headers)


@router.post(
    "/jobs:plan",
    response_model=PlanView,
    openapi_extra=takes(JobDefinition, JOB_EXAMPLE),
    responses=problems(Code.INVALID_DEFINITION, Code.TOO_LARGE, Code.UNSUPPORTED_MEDIA_TYPE),
)
async def plan(request: Request, who: User) -> Response:
    """Say what a job would do, without running it."""
    body = await json_body(request, DEFINITION_BYTES, "definition_bytes")
    return answer(await service_of(request).plan(who.tenant, body))


@router.get("/jobs", response_model=JobPage, responses=problems(Code.INVALID_REQUEST))
async def page(
    request: Request,
    who: User,
    state: Annotated[State | None, Query(description="Only jobs in this state.")] = None,
    label: Annotated[str | None, Query(description="Only jobs with this label, `name=value`.")] = None,
    created_after: Annotated[datetime | None, Query(description="Only jobs created later (RFC 3339).")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Jobs on a page.")] = 100,
    cursor: Annotated[str | None, Query(description="Where the last page ended; opaque.")] = None,
) -> Response:
    """List jobs, newest first."""
    if label is not None and "=" not in label:
        raise InvalidRequest("label is name=value")
    found = await service_of(request).page(
        who.tenant, state=state, label=label, created_after=created_after, limit=limit, cursor=cursor
    )
    link = f'<{request.url.include_query_params(cursor=found.next)}>; rel="next"' if found.next else None
    return answer(found, headers={"Link": link} if link else None)


@router.get(
    "/jobs/{job}",
    response_model=JobView,
    responses=problems(Code.NOT_FOUND) | {304: {"description": "It has not changed since."}},
)
async def show(
    request: Request,
    who: User,
    job: str,
    wait: Wait = 0,
    until: Annotated[Literal["change", "done"], Query(description="What to wait for.")] = "change",
    if_none_match: Annotated[str | None, Header(description="The ETag last seen.")] = None,
) -> Response:
    """Show a job; with `wait`, as soon as it has changed or is done."""
    service = service_of(request)
    seen = (if_none_match or "").strip().removeprefix("W/").strip('"')
    version = int(seen) if seen.isdigit() else None
    view = await service.wait(who.tenant, job, version, until, wait) if wait else await service.view(who.tenant, job)
    if version == view.version:
        return Response(status_code=304, headers={"ETag": f'"{view.version}"'})
    return _job(view)


@router.post(
    "/jobs/{job}/cancel",
    status_code=202,
    response_model=JobView,
    responses=problems(Code.NOT_FOUND) | {200: {"description": "It is done already.", "model": JobView}},
)
async def cancel(request: Request, who: User, job: str) -> Response:
    """Wish the job cancelled; it is, as soon as the platform confirms."""
    view = await service_of(request).cancel(who.tenant, job)
    return _job(view, 200 if view.state.terminal else 202)


@router.delete("/jobs/{job}", status_code=204, responses=problems(Code.JOB_NOT_DONE))
async def delete(request: Request, who: User, job: str) -> Response:
    """Remove a finished job and all its objects."""
    await service_of(request).delete(who.tenant, job)
    return Response(status_code=204)


def accepted(request: Request, *offered: str) -> str:
    """The first offered media type that the client takes."""
    wanted = [part.partition(";")[0].strip().lower() for part in request.headers.get("accept", "*/*").split(",")]
    for media_type in offered:
        kinds = {media_type, media_type.partition("/")[0] + "/*", "*/*"}
        if kinds & set(wanted) and (media_type in wanted or media_type == offered[0] or not set(offered) & set(wanted)):
            return media_type
    raise NotAcceptable(f"this is {' or '.join(offered)}; Accept has {', '.join(wanted)}")


def stream(
    request: Request, who: Principal, chunks: AsyncIterator[bytes], media_type: str, headers: Mapping[str, str] = NOW
) -> Response:
    """An answer that goes on until it is old, and has one of the tenant's places meanwhile."""
    pace: Pace = request.app.state.pace
    body = paced(chunks, pace, sse=media_type == SSE)
    return Stream(body, request.app.state.places, who.tenant, media_type, headers)


@router.get(
    "/jobs/{job}/events",
    responses=problems(Code.NOT_FOUND, Code.NOT_ACCEPTABLE) | {200: {"content": {SSE: {}, NDJSON: {}}}},
    response_class=StreamingResponse,
)
async def events(
    request: Request,
    who: User,
    job: str,
    after: After = 0,
    last_event_id: Annotated[str | None, Header(description="As `after`; it wins.")] = None,
) -> Response:
    """Follow a job's events until `end`; server-sent events, or lines of JSON by `Accept`."""
    media_type = accepted(request, SSE, NDJSON)
    start = int(last_event_id) if last_event_id and last_event_id.isdigit() else after
    form: Form = "sse" if media_type == SSE else "ndjson"
    return stream(request, who, await service_of(request).stream(who.tenant, job, start, form), media_type)


@router.get(
    "/jobs/{job}/results",
    responses=problems(Code.NOT_FOUND, Code.NOT_ACCEPTABLE, Code.JOB_NOT_DONE, Code.INVALID_REQUEST)
    | {200: {"content": {NDJSON: {}, CSV: {}, PARQUET: {}, JSON: {"schema": TABLE}}}},
    response_class=StreamingResponse,
)
async def results(
    request: Request,
    who: User,
    job: str,
    after: After = 0,
    group_by: Annotated[
        tuple[str, ...], Query(description="Axes, separated by commas: mean and std of each group of equal values.")
    ] = (),
) -> Response:
    """A job's outcomes: as they come, one JSON document a line, until it ends; of one that has ended also as a table.

    By `Accept` a table is CSV or Parquet, one row an outcome; with `group_by` one row a group, and JSON too. In CSV an
    apostrophe stands before text that a spreadsheet would run as a formula.
    """
    media_type = accepted(request, *((JSON, CSV, PARQUET) if group_by else (NDJSON, CSV, PARQUET)))
    if media_type != NDJSON:
        table = await service_of(request).table(who.tenant, job, group_by)
        return await tables.response(table, media_type, job)
    return stream(request, who, await service_of(request).stream(who.tenant, job, after, "outcomes"), media_type)


@router.get("/jobs/{job}/artifacts", response_model=ArtifactPage, responses=problems(Code.NOT_FOUND))
async def artifacts(request: Request, who: User, job: str) -> Response:
    """List what the job left in the store."""
    return answer(await service_of(request).artifacts(who.tenant, job))


@router.get(
    "/jobs/{job}/artifacts/{name}", status_code=307, responses=problems(Code.NOT_FOUND), response_class=RedirectResponse
)
async def artifact(request: Request, who: User, job: str, name: str) -> Response:
    """Download an artifact: the answer redirects to a presigned URL."""
    view, transfer = await service_of(request).artifact(who.tenant, job, name)
    return RedirectResponse(transfer.url, 307, {"ETag": f'"{view.sha256}"', "Cache-Control": "no-store"})


@router.delete("/cache", response_model=CacheRemoved, responses=problems(Code.INVALID_REQUEST))
async def forget(
    request: Request, who: User, job: Annotated[str, Query(description="The job that made it; it may be gone.")]
) -> Response:
    """Remove from the cache all that the attempts of a job have made, and say how much it was."""
    return answer(await service_of(request).cache.forget(who.tenant, job))
