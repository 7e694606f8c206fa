"""Logs, for users: as text or as lines of JSON, from any byte, in ranges, or as they are written."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import Response, StreamingResponse

from flaregate_wire.problems import Code
from gateway.api.describe import problems
from gateway.api.identity import User
from gateway.api.jobs import NDJSON, NOW, accepted, service_of, stream
from gateway.api.ranges import asked_range
from gateway.jobs.errors import InvalidRequest
from gateway.jobs.log_index import LogFilter
from gateway.jobs.log_pieces import LogPiece, as_json
from gateway.jobs.logs import LogQuery, OpenedLog

router = APIRouter(prefix="/v1", tags=["jobs"])
TEXT = "text/plain"
START, COMPLETE = "Flaregate-Log-Start", "Flaregate-Log-Complete"
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {TEXT: {}, NDJSON: {}},
        "headers": {
            START: {"description": "Offset of the first byte; `after` goes on behind the last.", "schema": {}},
            COMPLETE: {"description": "`true`: the job has ended, nothing comes behind the last byte.", "schema": {}},
        },
    },
    206: {"description": "A range of the text of a job that has ended.", "content": {TEXT: {}}},
}


def wanted(
    index: Annotated[int | None, Query(ge=0, description="Only this container: 0 the head, then the workers.")] = None,
    role: Annotated[Literal["head", "worker"] | None, Query(description="Only the head's, or the workers'.")] = None,
    attempt: Annotated[int | None, Query(ge=1, description="Only this attempt; default: all.")] = None,
) -> LogFilter:
    """Which containers' output is asked for."""
    return LogFilter(index, role, attempt)


def asked(
    containers: Annotated[LogFilter, Depends(wanted)],
    cell: Annotated[int | None, Query(ge=0, description="Only the lines of this cell of a sweep.")] = None,
    after: Annotated[int, Query(ge=0, description="From this byte on of the text that the filter leaves.")] = 0,
    tail: Annotated[int | None, Query(ge=0, le=100_000, description="Only the last lines.")] = None,
    follow: Annotated[bool, Query(description="Go on until the job ends.")] = False,  # noqa: FBT002 - by name only
) -> LogQuery:
    """What of the log is asked for."""
    if tail is not None and (after or cell is not None):
        raise InvalidRequest("tail goes neither with after nor with cell: leave tail out, and cut the lines yourself")
    return LogQuery(containers, after, tail, follow, cell)


@router.get(
    "/jobs/{job}/logs",
    responses=problems(Code.NOT_FOUND, Code.NOT_ACCEPTABLE, Code.INVALID_REQUEST, Code.TOO_MANY_STREAMS) | _ANSWERS,
    response_class=StreamingResponse,
)
async def logs(
    request: Request,
    who: User,
    job: str,
    query: Annotated[LogQuery, Depends(asked)],
    wanted_range: Annotated[str | None, Header(alias="range", description="Of a job that has ended.")] = None,
) -> Response:
    """What the job's code has printed."""
    media_type = accepted(request, TEXT, NDJSON)
    opened = await service_of(request).log(who.tenant, job, query)
    headers = {**NOW, START: str(opened.start), COMPLETE: str(opened.complete).lower()}
    if media_type == TEXT and opened.size is not None:
        whole = query == LogQuery(query.wanted)
        return _finished(opened, opened.size, headers, wanted_range if whole else None)
    pieces = opened.read(opened.start, None)
    chunks = as_json(pieces) if media_type == NDJSON else _bytes(pieces)
    if query.follow:
        return stream(request, who, chunks, media_type, headers)
    return StreamingResponse(chunks, 200, headers, media_type)


def _finished(opened: OpenedLog, size: int, headers: dict[str, str], wanted_range: str | None) -> Response:
    """The text of a job that has ended, whose length is known, or a range of it."""
    start, stop, status = opened.start, size, 200
    if (part := asked_range(wanted_range, size)) is not None:
        (start, stop), status = part, 206
        headers |= {START: str(start), "Content-Range": f"bytes {start}-{stop - 1}/{size}"}
    headers |= {"Accept-Ranges": "bytes", "Content-Length": str(max(0, stop - start))}
    return StreamingResponse(_bytes(opened.read(start, stop)), status, headers, TEXT)


async def _bytes(pieces: AsyncIterator[LogPiece]) -> AsyncIterator[bytes]:
    async for piece in pieces:
        yield piece.data
