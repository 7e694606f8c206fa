"""Who may ask, from where, with what; and that every error is problem+json."""

import json

import pytest

from flaregate_wire.limits import DEFINITION_BYTES
from flaregate_wire.problems import MEDIA_TYPE, STATUS, Code, Problem
from gateway.api.app import create
from gateway.jobs import errors
from gateway.jobs.logs import LogQuery
from tests.gateway.conftest import TOKEN

JSON = {"Content-Type": "application/json"}
OPEN = {("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/openapi.json"), ("GET", "/")}


def problem(answer, code):
    assert answer.headers["content-type"] == MEDIA_TYPE
    found = Problem.model_validate_json(answer.content)
    assert (found.code, found.status, answer.status_code) == (code, STATUS[code], STATUS[code])
    assert found.detail
    assert found.title
    assert found.trace_id
    return found


def routes():
    for path, operations in create(None).openapi()["paths"].items():
        for method in operations:
            yield method.upper(), path


@pytest.mark.parametrize(("method", "path"), sorted(set(routes()) - OPEN))
@pytest.mark.parametrize("shown", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}])
async def test_nothing_is_answered_without_a_token(still, method, path, shown):
    params = {"index": 0, "boot": "b1"}
    answer = await still.anonymous.request(method, path, headers=shown | JSON, params=params, content=b"{}")
    problem(answer, Code.URL_EXPIRED if path.startswith("/v1/objects") else Code.UNAUTHORIZED)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "", "[::2]:80"])
async def test_a_foreign_host_is_misdirected(still, host):
    for path in ("/v1/jobs", "/healthz", "/"):
        problem(await still.http.get(path, headers={"Host": host}), Code.FOREIGN_HOST)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:1", "[::1]:8080", "LOCALHOST"])
async def test_its_own_names_are_answered(still, host):
    assert (await still.http.get("/v1/jobs", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9", "file://"])
async def test_a_foreign_origin_is_forbidden(still, definition, origin):
    answer = await still.http.post("/v1/jobs", json=definition, headers={"Origin": origin})
    problem(answer, Code.FOREIGN_ORIGIN)


async def test_its_own_origin_is_taken(still):
    assert (await still.http.get("/v1/jobs", headers={"Origin": "http://127.0.0.1:8080"})).status_code == 200


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
async def test_what_a_form_can_send_is_refused(still, definition, kind):
    for path in ("/v1/jobs", "/v1/jobs:plan", "/v1/blobs"):
        answer = await still.http.post(path, content=json.dumps(definition), headers={"Content-Type": kind})
        problem(answer, Code.UNSUPPORTED_MEDIA_TYPE)


async def test_a_body_is_bounded_while_it_arrives(still):
    async def endless():
        while True:
            yield b" " * 100_000

    announced = await still.http.post("/v1/jobs", content=b" " * (DEFINITION_BYTES + 1), headers=JSON)
    arriving = await still.http.post("/v1/jobs", content=endless(), headers=JSON)
    for answer in (announced, arriving):
        detail = problem(answer, Code.TOO_LARGE).detail
        assert "definition_bytes" in detail
        assert str(DEFINITION_BYTES) in detail
    at_the_limit = await still.http.post("/v1/jobs", content=b" " * DEFINITION_BYTES, headers=JSON)
    problem(at_the_limit, Code.INVALID_DEFINITION)


async def test_errors_of_the_framework_are_problems_too(still):
    problem(await still.http.get("/v1/nothing"), Code.NOT_FOUND)
    problem(await still.http.put("/v1/jobs"), Code.METHOD_NOT_ALLOWED)
    found = problem(await still.http.get("/v1/jobs", params={"limit": "many"}), Code.INVALID_REQUEST)
    assert found.errors[0].pointer == "/query/limit"
    found = problem(await still.http.post("/v1/blobs", content=b"{not json", headers=JSON), Code.INVALID_REQUEST)
    assert found.errors


async def test_a_fault_of_ours_is_a_problem_without_its_details(still):
    async def broken(*_):
        raise ZeroDivisionError("a secret")

    still.repository.page = broken
    transport = still.http._transport
    transport.raise_app_exceptions = False
    answer = await still.http.get("/v1/jobs")
    assert "secret" not in answer.text
    assert problem(answer, Code.INTERNAL).retryable


def test_every_refusal_has_a_code_of_its_own():
    classes = errors.Refusal.__subclasses__()
    codes = [kind.code for kind in classes]
    assert len(codes) == len(set(codes))
    assert all(code in STATUS for code in codes)


async def test_another_tenants_things_are_not_there(still, definition):
    job = await still.submit()
    for look in (still.service.view, still.service.cancel, still.service.artifacts):
        with pytest.raises(errors.JobMissing):
            await look("other", job)
    for stream in (
        still.service.stream("other", job, 0, "ndjson"),
        still.service.log("other", job, LogQuery()),
        still.service.wait("other", job, None, "change", 1),
        still.service.artifact("other", job, "best"),
    ):
        with pytest.raises(errors.JobMissing):
            await stream
    page = await still.service.page("other", state=None, label=None, created_after=None, limit=9, cursor=None)
    assert page.jobs == ()
    await still.service.delete("other", job)
    assert (await still.view(job))["id"] == job
    body = json.dumps(definition).encode()
    mine, _ = await still.service.submit("default", body, "key")
    theirs, replayed = await still.service.submit("other", body, "key")
    assert mine.id != theirs.id
    assert not replayed
