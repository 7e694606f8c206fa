"""The HTTP side of the simulator: IAM's tokens and the part of Code Engine's API v2 that job runs need.

Written from the models of the public SDK, `ibm-code-engine-sdk`. Beside the API, `/_simulator` takes faults on demand
and tells the bill and the requests that were made.
"""

import asyncio
import base64
import json
import re
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse

from infra.code_engine.simulator.limits import (
    ARRAY_SIZE,
    BODY_BYTES,
    EPHEMERAL_BYTES,
    EXECUTION_SECONDS,
    NAME,
    NAME_LENGTH,
    RETRIES,
    SIZES,
    TOKEN_SECONDS,
    VERSION,
    indices_of,
    size_of,
)
from infra.code_engine.simulator.project import OverQuota, Project, told

GRANT = "urn:ibm:params:oauth:grant-type:apikey"
_OWN_OF_TEMPLATE = ("image_secret", "run_service_account")
_PAGE = 100


class Refused(Exception):
    """An answer in the API's form of an error."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers


class Faults:
    """What goes wrong on demand: each fault for a number of requests."""

    def __init__(self) -> None:
        self.left: Counter[str] = Counter()
        self.slow = 0.0
        """Seconds that every answer takes longer."""

    def take(self, kind: str) -> bool:
        """Whether this request has the fault."""
        if not self.left[kind]:
            return False
        self.left[kind] -= 1
        return True


class Simulator:
    """What the routes share."""

    def __init__(self, project: Project, project_id: str, key: str, token_seconds: float = TOKEN_SECONDS) -> None:
        self.project = project
        self.project_id = project_id
        self.key = key
        self.token_seconds = token_seconds
        self.tokens: dict[str, float] = {}
        self.templates: dict[str, dict[str, Any]] = {}
        self.faults = Faults()
        self.requests: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()

    def issue(self) -> dict[str, Any]:
        """An access token as IAM gives it: one that can be decoded."""
        now = int(time.time())
        claims = {"iat": now, "exp": now + int(self.token_seconds), "jti": secrets.token_hex(8)}
        parts = ({"alg": "none", "typ": "JWT"}, claims, secrets.token_hex(8))
        token = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
        self.tokens[token] = time.time() + self.token_seconds
        return {
            "access_token": token,
            "refresh_token": "none",
            "token_type": "Bearer",
            "expires_in": int(self.token_seconds),
            "expiration": claims["exp"],
            "scope": "ibm openid",
        }

    def check(self, request: Request, project: str) -> None:
        """Raise Refused unless the request shows a token that is good, and the API's version."""
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind != "Bearer" or self.tokens.get(token, 0.0) < time.time() or self.faults.take("unauthorized"):
            raise Refused(401, "unauthorized", "the token is missing, unknown or has expired")
        version = request.query_params.get("version", "")
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", version) or (request.query_params["version"] < VERSION):
            raise Refused(400, "invalid_version", f"the query parameter version is a day from {VERSION} on")
        if project != self.project_id:
            raise Refused(404, "project_not_found", f"there is no project {project}")


def _simulator(request: Request) -> Simulator:
    found: Simulator = request.app.state.simulator
    return found


def _asked(request: Request, project: str) -> Simulator:
    """The simulator, for a request that may ask it."""
    simulator = _simulator(request)
    simulator.check(request, project)
    return simulator


Asked = Annotated[Simulator, Depends(_asked)]
Own = Annotated[Simulator, Depends(_simulator)]
router = APIRouter()


def create(simulator: Simulator) -> FastAPI:
    """The application."""
    app = FastAPI(title="Code Engine simulator", openapi_url=None)
    app.state.simulator = simulator
    app.include_router(router)
    app.add_exception_handler(Refused, _refused)  # type: ignore[arg-type]

    @app.middleware("http")
    async def faulty(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        if request.url.path.startswith("/_simulator"):
            return await go_on(request)
        simulator.requests[f"{request.method} {request.url.path}"] += 1
        await asyncio.sleep(simulator.faults.slow)
        try:
            _fail(simulator.faults)
        except Refused as problem:
            return await _refused(request, problem)
        return await go_on(request)

    return app


async def _refused(request: Request, problem: Refused) -> Response:
    _simulator(request).refusals[problem.code] += 1
    body = {
        "errors": [{"code": problem.code, "message": problem.message}],
        "trace": f"codeengine-api-{secrets.token_hex(6)}",
        "status_code": problem.status,
    }
    return JSONResponse(body, problem.status, headers=dict(problem.headers or {}))


@router.post("/identity/token")
async def token(request: Request, simulator: Own) -> dict[str, Any]:
    form = dict(parse_qsl((await request.body()).decode()))
    if form.get("grant_type") != GRANT or form.get("apikey") != simulator.key:
        raise Refused(400, "BXNIM0415E", "Provided API key could not be found.")
    return simulator.issue()


@router.get("/v2/projects/{project}")
async def show_project(simulator: Asked) -> dict[str, Any]:
    return {"id": simulator.project_id, "name": "simulated", "resource_group_id": "default", "status": "active"}


@router.post("/v2/projects/{project}/jobs", status_code=201)
async def template(request: Request, simulator: Asked) -> dict[str, Any]:
    body = await _body(request)
    simulator.templates[body["name"]] = body
    return body


@router.get("/v2/projects/{project}/jobs/{name}")
async def show_template(name: str, simulator: Asked) -> dict[str, Any]:
    if name not in simulator.templates:
        raise Refused(404, "job_not_found", f"there is no job {name}")
    return simulator.templates[name]


@router.post("/v2/projects/{project}/job_runs", status_code=202)
async def run(request: Request, simulator: Asked) -> dict[str, Any]:
    return _created(simulator, await _body(request))


@router.get("/v2/projects/{project}/job_runs")
async def runs(
    simulator: Asked, job_name: str | None = None, limit: int = _PAGE, start: str | None = None
) -> dict[str, Any]:
    found = [one for one in simulator.project.visible() if job_name in (None, one.body.get("job_name"))]
    first = next((place for place, one in enumerate(found) if one.id == start), 0)
    page = found[first : first + min(limit, _PAGE)]
    answer: dict[str, Any] = {"job_runs": [_shown(simulator, one) for one in page], "limit": limit}
    if first + len(page) < len(found):
        answer["next"] = {"start": found[first + len(page)].id}
    return answer


@router.get("/v2/projects/{project}/job_runs/{name}")
async def show(name: str, simulator: Asked) -> dict[str, Any]:
    found = simulator.project.get(name)
    if found is None:
        raise Refused(404, "job_run_not_found", f"there is no job run {name}")
    return _shown(simulator, found)


@router.delete("/v2/projects/{project}/job_runs/{name}", status_code=202)
async def delete(name: str, simulator: Asked) -> Response:
    if not simulator.project.delete(name):
        raise Refused(404, "job_run_not_found", f"there is no job run {name}")
    return Response(status_code=202)


@router.post("/_simulator/faults")
async def fault(request: Request, simulator: Own) -> dict[str, Any]:
    """Make things go wrong.

    `unauthorized`, `too_many`, `broken`, `no_details` and `odd_word` count requests; `slow` is seconds; `instances` is
    a list of `never`, `die`, `restart`; `expire` forgets all tokens.
    """
    asked = json.loads(await request.body())
    simulator.faults.slow = asked.pop("slow", simulator.faults.slow)
    if "instances" in asked:
        simulator.project.broken = set(asked.pop("instances"))
    if asked.pop("expire", False):
        simulator.tokens.clear()
    simulator.faults.left.update(asked)
    return {"left": dict(simulator.faults.left)}


@router.get("/_simulator/bill")
async def bill(simulator: Own) -> dict[str, Any]:
    billed, living = simulator.project.billed, len(simulator.project.living())
    return {"vcpu_seconds": billed.vcpu_seconds, "gb_seconds": billed.gb_seconds, "runs": billed.runs, "living": living}


@router.get("/_simulator/requests")
async def requests(simulator: Own) -> dict[str, int]:
    return dict(simulator.requests)


def _fail(faults: Faults) -> None:
    if faults.take("too_many"):
        raise Refused(429, "too_many_requests", "slow down", {"Retry-After": "1"})
    if faults.take("broken"):
        raise Refused(500, "internal_error", "something went wrong")


async def _body(request: Request) -> dict[str, Any]:
    data = await request.body()
    if len(data) > BODY_BYTES:
        raise Refused(400, "payload_too_large", f"{len(data)} bytes; at most {BODY_BYTES} are allowed")
    found = json.loads(data)
    if not isinstance(found, dict):
        raise Refused(400, "invalid_body", "the body is a JSON object")
    return found


def _created(simulator: Simulator, body: dict[str, Any]) -> dict[str, Any]:
    template = _template(simulator, body)
    name = body.get("name") or f"{body.get('job_name', 'run')}-{secrets.token_hex(3)}"
    if not re.fullmatch(NAME, name) or len(name) > NAME_LENGTH:
        raise Refused(400, "invalid_name", f"{name!r}: at most {NAME_LENGTH} lower-case letters, digits and hyphens")
    whole = {**template, **body}
    cpus, memory = _size(whole)
    retries = int(whole.get("scale_retry_limit", RETRIES[0]))
    seconds = int(whole.get("scale_max_execution_time", EXECUTION_SECONDS[0]))
    if not 0 <= retries <= RETRIES[1] or not 1 <= seconds <= EXECUTION_SECONDS[1]:
        raise Refused(400, "invalid_scale", f"retries are 0 to {RETRIES[1]}, seconds 1 to {EXECUTION_SECONDS[1]}")
    variables = [*template.get("run_env_variables", ()), *body.get("run_env_variables", ())]
    try:
        found = simulator.project.create(
            name,
            {key: value for key, value in whole.items() if key != "name"},
            indices=_indices(whole),
            cpus=cpus,
            memory=memory,
            retries=retries,
            seconds=seconds,
            environment={one["name"]: one.get("value", "") for one in variables},
            command=[*whole.get("run_commands", ()), *whole.get("run_arguments", ())],
        )
    except OverQuota as problem:
        raise Refused(403, "quota_exceeded", str(problem)) from problem
    if found is None:
        raise Refused(409, "job_run_already_exists", f"there is a job run {name} already")
    return told(found)


def _template(simulator: Simulator, body: Mapping[str, Any]) -> Mapping[str, Any]:
    if "job_name" not in body:
        if "image_reference" not in body:
            raise Refused(400, "missing_image", "give job_name or image_reference")
        return {}
    wrong = [name for name in _OWN_OF_TEMPLATE if name in body]
    if wrong:
        raise Refused(400, "invalid_template_override", f"{', '.join(wrong)}: not where job_name is set")
    if body["job_name"] not in simulator.templates:
        raise Refused(404, "job_not_found", f"there is no job {body['job_name']}")
    return {key: value for key, value in simulator.templates[body["job_name"]].items() if key != "name"}


def _size(body: Mapping[str, Any]) -> tuple[float, int]:
    cpus, text = body.get("scale_cpu_limit", "1"), body.get("scale_memory_limit", "4G")
    try:
        memory = size_of(text)
        disk = size_of(body.get("scale_ephemeral_storage_limit", f"{EPHEMERAL_BYTES // 10**6}M"))
    except ValueError as problem:
        raise Refused(400, "invalid_size", str(problem)) from problem
    if cpus not in SIZES or memory / 1e9 not in SIZES[cpus]:
        raise Refused(400, "invalid_cpu_memory", f"{cpus} vCPU with {text} is no combination that Code Engine has")
    if disk > memory:
        raise Refused(400, "invalid_storage", "the ephemeral storage is more than the memory")
    return float(cpus), memory


def _indices(body: Mapping[str, Any]) -> list[int]:
    try:
        return indices_of(body.get("scale_array_spec", "0"))
    except ValueError as problem:
        raise Refused(400, "invalid_array_spec", f"{problem}; at most {ARRAY_SIZE}") from problem


def _shown(simulator: Simulator, run: Any) -> dict[str, Any]:
    """A run, with the faults of its telling."""
    found = told(run)
    if simulator.faults.take("no_details"):
        del found["status_details"]["indices_details"]
    if simulator.faults.take("odd_word"):
        found["status"] = "hibernating"
        for detail in found["status_details"].get("indices_details", {}).values():
            detail["status"] = "hibernating"
    return found
