"""What is kept no longer, for users: their own jobs whose time is over, and what nothing of theirs refers to."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from flaregate_wire.jobs import GarbageReport
from flaregate_wire.problems import Code
from gateway.api.describe import problems
from gateway.api.identity import User
from gateway.api.jobs import answer, service_of

router = APIRouter(prefix="/v1", tags=["jobs"])


@router.post("/gc", response_model=GarbageReport, responses=problems(Code.INVALID_REQUEST, Code.UNAVAILABLE))
async def collect(
    request: Request,
    who: User,
    dry_run: Annotated[bool, Query(description="Only say what would be removed.")] = False,  # noqa: FBT002 - by name only
) -> Response:
    """Remove what is not needed any more, and say what it was. The gateway does so by itself from time to time."""
    return answer(await service_of(request).retention.sweep(who.tenant, dry_run=dry_run))
