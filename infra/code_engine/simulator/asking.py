"""What the simulator's routes share: who it is, what a request's body is, what an error looks like."""

import json
import secrets
from collections import Counter
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from infra.code_engine.simulator.checks import Refused
from infra.code_engine.simulator.faults import Faults
from infra.code_engine.simulator.iam import Iam
from infra.code_engine.simulator.limits import BODY_BYTES, TOKEN_SECONDS
from infra.code_engine.simulator.project import Project


class Simulator:
    """A project, who may enter it, and what has been asked of it."""

    def __init__(self, project: Project, project_id: str, key: str, token_seconds: float = TOKEN_SECONDS) -> None:
        self.project = project
        self.project_id = project_id
        self.iam = Iam(key, project.now, token_seconds)
        self.templates: dict[str, dict[str, Any]] = {}
        self.kept: dict[str, dict[str, dict[str, str]]] = {"secret": {}, "config_map": {}}
        self.faults: Faults = project.faults
        self.requests: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()


def _simulator(request: Request) -> Simulator:
    found: Simulator = request.app.state.simulator
    return found


Own = Annotated[Simulator, Depends(_simulator)]


async def body_of(request: Request) -> dict[str, Any]:
    """A JSON object. Raises Refused."""
    data = await request.body()
    if len(data) > BODY_BYTES:
        raise Refused(400, "payload_too_large", f"{len(data)} bytes; at most {BODY_BYTES} are allowed")
    try:
        found = json.loads(data)
    except ValueError as problem:
        raise Refused(400, "invalid_body", f"the body is no JSON: {problem}") from problem
    if not isinstance(found, dict):
        raise Refused(400, "invalid_body", "the body is a JSON object")
    return found


async def refused(request: Request, problem: Refused) -> Response:
    """The API's form of an error."""
    _simulator(request).refusals[problem.code] += 1
    body = {
        "errors": [{"code": problem.code, "message": problem.message}],
        "trace": f"codeengine-api-{secrets.token_hex(6)}",
        "status_code": problem.status,
    }
    return JSONResponse(body, problem.status, headers=dict(problem.headers or {}))


async def misread(request: Request, problem: RequestValidationError) -> Response:
    """A parameter that is of the wrong kind."""
    told = "; ".join(f"{one['loc'][-1]}: {one['msg']}" for one in problem.errors())
    return await refused(request, Refused(400, "invalid_parameter", told))
