"""What an earlier job left as the input of another: `job:ID/name` becomes a staged blob when the job is submitted."""

import hashlib
import json

import pytest

from gateway.jobs.errors import InvalidDefinition

DATA = b"an array that a job left"
SUM = "sha256:" + hashlib.sha256(DATA).hexdigest()
ABOUT = {"name": "made", "media_type": "application/x-npy", "size": len(DATA), "sha256": SUM}


@pytest.fixture
async def left(gateway):
    """A finished job that left `made`."""
    job = await gateway.submit()
    head = await gateway.head(job)
    key = await head.write("artifacts/made", DATA)
    await head.commit(artifacts=[ABOUT | {"key": key}])
    await gateway.ended(job)
    return job


def with_x(definition, job, name="made"):
    return definition | {"inputs": definition["inputs"] | {"X": {"artifact": f"job:{job}/{name}"}}}


async def test_an_artifact_reaches_the_head_like_a_staged_blob(gateway, left, definition):
    planned = await gateway.http.post("/v1/jobs:plan", json=with_x(definition, left))
    assert planned.json()["candidates"] == 20
    job = await gateway.submit(with_x(definition, left))
    blob = {"blob": SUM, "media_type": "application/x-npy", "size": len(DATA)}
    assert (await gateway.view(job))["definition"]["inputs"]["X"] == blob
    order = (await (await gateway.head(job)).order()).json()
    assert order["definition"]["inputs"]["X"]["blob"] == SUM
    assert (await gateway.anonymous.get(order["blobs"][SUM]["url"])).content == DATA
    offered = await gateway.http.post(
        "/v1/blobs", json={name: ABOUT[name] for name in ("sha256", "size", "media_type")}
    )
    assert offered.json()["exists"] is True, "its owner need not send the same bytes"


async def test_a_fitted_pipeline_and_every_object_may_be_artifacts(gateway, left):
    given = {"artifact": f"job:{left}/made"}
    node = {"name": "model", "kind": "model", "source": given}
    objects = [{"name": "a", "X": given, "y": given}, {"name": "b", "X": given}]
    definition = {"pipeline": {"nodes": [node]}, "action": "predict", "objects": objects}
    job = await gateway.submit(definition)
    shown = (await gateway.view(job))["definition"]
    assert shown["pipeline"]["nodes"][0]["source"]["blob"] == SUM
    assert [one["X"]["blob"] for one in shown["objects"]] == [SUM, SUM]
    assert "artifact" not in json.dumps(shown)


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs:plan"])
async def test_what_is_not_there_is_refused_with_its_place_and_what_is(gateway, left, definition, path):
    answer = await gateway.http.post(path, json=with_x(definition, left, "mode"))
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_definition")
    (fault,) = answer.json()["errors"]
    assert (fault["pointer"], fault["rule"]) == ("/inputs/X", "artifact")
    assert "left no artifact 'mode'; it left made" in fault["message"]
    unknown = await gateway.http.post(path, json=with_x(definition, "job-unknown"))
    assert "there is no job 'job-unknown'" in unknown.json()["detail"]


async def test_another_tenants_job_is_not_found(gateway, left, definition):
    body = json.dumps(with_x(definition, left)).encode()
    with pytest.raises(InvalidDefinition, match="there is no job"):
        await gateway.service.submit("other", body, None)
    with pytest.raises(InvalidDefinition, match="there is no job"):
        await gateway.service.plan("other", body)


async def test_an_artifact_takes_the_place_of_an_upload_that_never_came(gateway, left, definition):
    offer = {name: ABOUT[name] for name in ("sha256", "size", "media_type")}
    (upload,) = (await gateway.http.post("/v1/blobs", json=offer)).json()["upload"]
    job = await gateway.submit(with_x(definition, left))
    order = (await (await gateway.head(job)).order()).json()
    assert (await gateway.anonymous.get(order["blobs"][SUM]["url"])).content == DATA
    assert (await gateway.anonymous.put(upload["url"], content=DATA, headers=upload["headers"])).status_code == 204
    assert (await gateway.http.post(f"/v1/blobs/{SUM}:complete")).status_code == 204


async def test_a_blob_goes_with_the_last_job_that_has_it(gateway, left, definition):
    job = await gateway.submit(with_x(definition, left))
    await (await gateway.head(job)).commit()
    await gateway.ended(job)
    assert (await gateway.http.delete(f"/v1/jobs/{left}")).status_code == 204
    blob = {"X": {"blob": SUM, "media_type": "application/x-npy"}, "y": definition["inputs"]["y"]}
    again = await gateway.submit(definition, inputs=blob)
    head = await gateway.head(again)
    order = (await head.order()).json()
    assert (await gateway.anonymous.get(order["blobs"][SUM]["url"])).content == DATA
    await head.commit()
    await gateway.ended(again)
    for last in (job, again):
        assert [info async for info in gateway.store.list(f"tenants/default/jobs/{left}/")]
        assert (await gateway.http.delete(f"/v1/jobs/{last}")).status_code == 204
    assert [info async for info in gateway.store.list("tenants/")] == []
    refused = await gateway.http.post("/v1/jobs", json=definition | {"inputs": blob})
    assert refused.json()["code"] == "blob_missing"
