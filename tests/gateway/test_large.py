"""Large objects of attempts in parts, and staged blobs that a job finds damaged."""

from datetime import timedelta

from tests.gateway.test_parts import DATA, OFFER, PARTS, PIECES, SMALL, SMALL_OFFER, complete, offer, put, read, stage

SHA = SMALL_OFFER["sha256"]
X = {"blob": SHA, "media_type": "application/x-npy"}


async def ask(head, path, **body):
    asked = {"name": "artifacts/model", "size": len(DATA), "parts": PARTS, **body}
    return await head.http.post(head._path(path), json=asked, headers=head._shown)


def with_x(definition):
    return {**definition["inputs"], "X": X}


async def committed(gateway, head, job, **manifest):
    failed = {"succeeded": False, "reason": "stage_in_failed", "message": "X is damaged; submit again"}
    answer = await head.commit(**failed, **manifest)
    assert answer.status_code == 204, answer.text
    return await gateway.ended(job)


async def test_a_large_artifact_is_written_in_parts_and_gone_on_with(gateway):
    job = await gateway.submit()
    head = await gateway.head(job)
    place = (await ask(head, "parts")).json()
    assert place["key"].endswith(f"/jobs/{job}/attempts/1/artifacts/model")
    assert (await put(gateway, place["send"][1])).status_code == 204
    early = await ask(head, "parts:finish", upload=place["upload"])
    assert (early.status_code, early.json()["code"]) == (422, "blob_mismatch")
    again = (await ask(head, "parts", upload=place["upload"])).json()
    assert [sending["part"] for sending in again["send"]] == [0, 2]
    assert again["missing"] == len(DATA) - len(PIECES[1])
    for sending in again["send"]:
        assert (await put(gateway, sending)).status_code == 204
    for _ in range(2):
        assert (await ask(head, "parts:finish", upload=place["upload"])).status_code == 204
    artifact = {"name": "model", "media_type": "a/b", "size": len(DATA), "sha256": OFFER["sha256"], "key": place["key"]}
    assert (await head.commit(artifacts=[artifact])).status_code == 204
    await gateway.ended(job)
    shown = await gateway.http.get(f"/v1/jobs/{job}/artifacts/model", follow_redirects=True)
    assert shown.content == DATA


async def test_an_attempt_writes_large_objects_under_its_own_prefixes_alone(gateway):
    job = await gateway.submit()
    head = await gateway.head(job)
    cached = (await ask(head, "parts", name="cache/" + "a" * 64)).json()
    assert cached["key"].endswith(f"/cache/default/{job}-1/" + "a" * 64)
    assert (await ask(head, "parts", name="cache/other")).status_code == 422
    assert (await ask(head, "parts", name="../../other")).status_code in (404, 422)
    assert (await ask(head, "parts", size=1)).status_code == 422
    assert (await ask(head, "parts:finish")).status_code == 422
    lost = await ask(head, "parts", upload="0" * 32)
    assert (lost.status_code, lost.json()["code"]) == (404, "not_found")
    assert (await ask(head, "parts:finish", upload="0" * 32)).status_code == 404


async def test_uploads_of_attempts_that_are_not_finished_are_swept(gateway):
    head = await gateway.head(await gateway.submit())
    await ask(head, "parts")
    finished = (await ask(head, "parts", name="artifacts/other")).json()
    for sending in finished["send"]:
        await put(gateway, sending)
    assert (await ask(head, "parts:finish", name="artifacts/other", upload=finished["upload"])).status_code == 204
    assert await gateway.service.staging.sweep(gateway.clock() + timedelta(seconds=1)) == 1
    assert list(gateway.store._uploads.iterdir()) == []


async def test_a_damaged_blob_is_sent_again_with_the_next_submission(gateway, definition):
    await stage(gateway, SMALL_OFFER, SMALL)
    job = await gateway.submit(inputs=with_x(definition))
    head = await gateway.head(job)
    assert (await head.order()).json()["sizes"] == {SHA: len(SMALL)}
    old = (await gateway.repository.blobs("default", [SHA]))[SHA]
    view = await committed(gateway, head, job, damaged=[SHA])
    assert (view["state"], view["reason"]) == ("failed", "stage_in_failed")
    assert "submit again" in view["message"]
    assert not (gateway.store._objects / old.key).exists()
    refused = await gateway.http.post("/v1/jobs", json=definition | {"inputs": with_x(definition)})
    assert refused.json()["code"] == "blob_missing"
    assert (await complete(gateway, SHA)).status_code == 422
    await stage(gateway, SMALL_OFFER, SMALL)
    assert await read(gateway, SHA) == SMALL
    await gateway.submit(inputs=with_x(definition))


async def test_a_job_says_only_of_its_own_blobs_that_they_are_damaged(gateway):
    await stage(gateway, SMALL_OFFER, SMALL)
    head = await gateway.head(await gateway.submit())
    answer = await head.commit(succeeded=False, reason="stage_in_failed", damaged=[SHA])
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert (await offer(gateway, SMALL_OFFER))["exists"] is True


async def test_a_damaged_artifact_stays_with_the_job_that_left_it(gateway, definition):
    first = await gateway.submit()
    head = await gateway.head(first)
    key = await head.write("artifacts/a", SMALL)
    artifact = {"name": "a", "media_type": "application/x-npy", "size": len(SMALL), "sha256": SHA, "key": key}
    await head.commit(artifacts=[artifact])
    await gateway.ended(first)
    inputs = {**definition["inputs"], "X": {"artifact": f"job:{first}/a"}}
    second = await gateway.submit(inputs=inputs)
    await committed(gateway, await gateway.head(second), second, damaged=[SHA])
    assert (gateway.store._objects / key).exists()
    assert (await offer(gateway, SMALL_OFFER))["exists"] is False
