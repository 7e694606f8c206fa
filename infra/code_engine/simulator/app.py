"""The HTTP side of the simulator: IAM's tokens and the part of Code Engine's API v2 that job runs need.

Written from the models of the public SDK, `ibm-code-engine-sdk`. Beside the API there is a door of its own.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError

from infra.code_engine.simulator import checks, door
from infra.code_engine.simulator.asking import Own, Simulator, body_of, misread, refused
from infra.code_engine.simulator.checks import Refused
from infra.code_engine.simulator.limits import EACH, NAME, VERSION
from infra.code_engine.simulator.project import OverQuota
from infra.code_engine.simulator.told import told

T = TypeVar("T")
_KINDS = {"secrets": "secret", "config_maps": "config_map"}


def _asked(request: Request, project: str, simulator: Own) -> Simulator:
    """The simulator, for a request that may ask it. Raises Refused."""
    if not simulator.iam.takes(request.headers.get("authorization", "")):
        simulator.faults.refuse("unauthorized")
    simulator.faults.entering()
    version = request.query_params.get("version", "")
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", version) or version < VERSION:
        raise Refused(400, "invalid_version", f"the query parameter version is a day from {VERSION} on")
    if project != simulator.project_id:
        raise Refused(404, "project_not_found", f"there is no project {project}")
    return simulator


Asked = Annotated[Simulator, Depends(_asked)]
router = APIRouter()
project = APIRouter(prefix="/v2/projects/{project}")


def create(simulator: Simulator) -> FastAPI:
    """The application."""
    app = FastAPI(title="Code Engine simulator", openapi_url=None)
    app.state.simulator = simulator
    for routes in (router, project, door.router):
        app.include_router(routes)
    app.add_exception_handler(Refused, refused)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, misread)  # type: ignore[arg-type]

    @app.middleware("http")
    async def faulty(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        if request.url.path.startswith(door.router.prefix):
            return await go_on(request)
        simulator.requests[f"{request.method} {request.url.path}"] += 1
        await asyncio.sleep(simulator.faults.slow)
        try:
            simulator.faults.arriving()
        except Refused as problem:
            return await refused(request, problem)
        return await go_on(request)

    return app


@router.post("/identity/token")
async def token(request: Request, simulator: Own) -> dict[str, Any]:
    return simulator.iam.issue(await request.body())


@project.get("")
async def show_project(simulator: Asked) -> dict[str, Any]:
    return {"id": simulator.project_id, "name": "simulated", "resource_group_id": "default", "status": "active"}


@project.post("/jobs", status_code=201)
async def create_job(request: Request, simulator: Asked) -> dict[str, Any]:
    body = await body_of(request)
    simulator.templates[_new("job", body, simulator.templates)] = dict(checks.job(body, simulator.kept))
    return body


@project.get("/jobs/{name}")
async def show_job(name: str, simulator: Asked) -> dict[str, Any]:
    return {"name": name, **_known("job", name, simulator.templates)}


@project.delete("/jobs/{name}", status_code=202)
async def delete_job(name: str, simulator: Asked) -> Response:
    _known("job", name, simulator.templates)
    del simulator.templates[name]
    return Response(status_code=202)


@project.post("/job_runs", status_code=202)
async def run(request: Request, simulator: Asked) -> dict[str, Any]:
    body = await body_of(request)
    template = _known("job", body["job_name"], simulator.templates) if isinstance(body.get("job_name"), str) else {}
    try:
        found = simulator.project.create(checks.order(body, template, simulator.kept))
    except OverQuota as problem:
        raise Refused(403, "quota_exceeded", str(problem)) from problem
    if found is None:
        raise Refused(409, "job_run_already_exists", f"there is a job run {body.get('name')} already")
    return told(found)


@project.get("/job_runs")
async def runs(
    simulator: Asked,
    job_name: str | None = None,
    limit: Annotated[int, Query(ge=1, le=EACH)] = EACH,
    start: str | None = None,
) -> Any:
    if simulator.faults.list is not None:
        return simulator.faults.list
    found = [one for one in simulator.project.visible() if job_name in (None, one.order.body.get("job_name"))]
    places = {one.id: place for place, one in enumerate(found)}
    if start is not None and start not in places:
        raise Refused(
            400, "invalid_start", f"start: {start!r} begins no page; take it from the answer before, or leave it"
        )
    first = places.get(start or "", 0)
    page = found[first : first + limit]
    answer: dict[str, Any] = {"job_runs": [simulator.faults.told(told(one)) for one in page], "limit": limit}
    if first + len(page) < len(found):
        answer["next"] = {"start": found[first + len(page)].id}
    return answer


@project.get("/job_runs/{name}")
async def show(name: str, simulator: Asked) -> dict[str, Any]:
    found = simulator.project.get(name)
    if found is None:
        raise Refused(404, "job_run_not_found", f"there is no job run {name}")
    return simulator.faults.told(told(found))


@project.delete("/job_runs/{name}", status_code=202)
async def delete(name: str, simulator: Asked) -> Response:
    if not simulator.project.delete(name):
        raise Refused(404, "job_run_not_found", f"there is no job run {name}")
    return Response(status_code=202)


@project.post("/{kind}", status_code=201)
async def keep(kind: str, request: Request, simulator: Asked) -> dict[str, Any]:
    """A secret or a config map."""
    word, body = _kind(kind), await body_of(request)
    data = body.get("data") or {}
    if not isinstance(data, dict) or not all(isinstance(value, str) for value in data.values()):
        raise Refused(400, "invalid_field", "data: keys with texts")
    simulator.kept[word][_new(word, body, simulator.kept[word])] = dict(data)
    return body


@project.delete("/{kind}/{name}", status_code=202)
async def drop(kind: str, name: str, simulator: Asked) -> Response:
    word = _kind(kind)
    _known(word, name, simulator.kept[word])
    del simulator.kept[word][name]
    return Response(status_code=202)


def _kind(kind: str) -> str:
    if kind not in _KINDS:
        raise Refused(404, "not_found", f"the simulator has no {kind}")
    return _KINDS[kind]


def _known(kind: str, name: str, of: Mapping[str, T]) -> T:
    if name not in of:
        raise Refused(404, f"{kind}_not_found", f"there is no {kind} {name}")
    return of[name]


def _new(kind: str, body: Mapping[str, Any], of: Mapping[str, Any]) -> str:
    """The name of something that is to be kept. Raises Refused."""
    name = body.get("name")
    if not isinstance(name, str) or not re.fullmatch(NAME, name):
        raise Refused(400, "invalid_name", f"name: {name!r} is no lower-case letters, digits and hyphens")
    if name in of:
        raise Refused(409, f"{kind}_already_exists", f"there is a {kind} {name} already")
    if len(of) >= EACH:
        raise Refused(403, "quota_exceeded", f"the project has {EACH} of the kind {kind}, which is its limit")
    return name
