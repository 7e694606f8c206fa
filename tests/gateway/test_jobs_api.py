"""Jobs over HTTP: submission, plans, lists, looks, cancelling, deleting."""

import asyncio
import json

import pytest

from tests.doubles import SlowLauncher, outcome, until
from tests.gateway.conftest import TOKEN, URL, digits


async def test_a_submission_is_accepted_and_shown(still, definition):
    answer = await still.http.post("/v1/jobs", json=definition)
    assert answer.status_code == 202
    view = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{view['id']}"
    assert answer.headers["etag"] == '"1"'
    assert int(answer.headers["retry-after"]) > 0
    assert (view["state"], view["progress"]["total"], view["cluster"]["workers"]) == ("queued", 125, 1)
    shown = await still.view(view["id"])
    nodes = shown["definition"]["pipeline"]["nodes"]
    assert "n_components" in nodes[0]["signature"]["params"], "filled from the catalogue"
    assert [event["type"] for event in await _first(still, view["id"])] == ["state"]


async def _first(deployed, job):
    batches = await deployed.repository.events(job, 0, 1_000_000)
    return [json.loads(line) for batch in batches for line in batch.lines.splitlines()]


def broken(change):
    found = digits()
    change(found)
    return found


@pytest.mark.parametrize(
    ("change", "pointer", "words"),
    [
        (lambda d: d["pipeline"]["edges"].append(["logistic", "pca"]), "/pipeline/edges", ["cycle", "pca"]),
        (lambda d: d["axes"][0].update(node="pcaa"), "/axes/0/node", ["pcaa", "did you mean 'pca'"]),
        (lambda d: d["axes"][1].update(param="CC"), "/axes/1/param", ["logistic", "did you mean 'C'"]),
        (lambda d: d["inputs"].pop("X"), "/inputs", ["'X' is missing"]),
        (
            lambda d: d["pipeline"]["nodes"][0].update({"import": "sklearn.feature_selection:RFE", "params": {}}),
            "/pipeline/nodes/0/params",
            ["node 'pca'", "needs the parameter 'estimator'", "$node"],
        ),
        (lambda d: d.update(inputz={}), "/inputz", ["inputz"]),
        (lambda d: d["resources"].update(workers=400), "/resources/cpus", ["401 containers", "'double' has 16"]),
        (lambda d: d["resources"].update(gpus=1), "/resources/gpus", ["GPUs"]),
    ],
)
async def test_bad_definitions_start_nothing(gateway, change, pointer, words):
    answer = await gateway.http.post("/v1/jobs", json=broken(change))
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "invalid_definition")
    assert pointer in [fault["pointer"] for fault in problem["errors"]]
    assert all(word in json.dumps(problem["errors"], ensure_ascii=False) for word in words)
    assert (await gateway.http.get("/v1/jobs")).json()["jobs"] == []
    assert gateway.launcher.orders == []


async def test_what_is_not_staged_or_priced_or_there_is_refused(still, definition):
    payload = "sha256:" + "a" * 64
    node = {
        "name": "pca",
        "kind": "estimator",
        "payload": payload,
        "signature": {"params": [], "abilities": ["transform"]},
    }
    with_payload = definition | {
        "axes": [],
        "pipeline": definition["pipeline"] | {"nodes": [node, definition["pipeline"]["nodes"][1]]},
    }
    missing = await still.http.post("/v1/jobs", json=with_payload)
    assert (missing.status_code, missing.json()["code"]) == (422, "blob_missing")
    assert payload in missing.json()["detail"]
    capped = await still.http.post("/v1/jobs", json=definition | {"limits": {"max_cost": "0.50 USD"}})
    assert (capped.status_code, capped.json()["code"]) == (422, "price_unknown")
    needs = {"python": "3.12", "scikit-learn": "1.9", "polars": "1.0"}
    other = await still.http.post("/v1/jobs", json=definition | {"environment": needs})
    assert (other.status_code, other.json()["code"]) == (422, "environment_mismatch")
    assert {fault["pointer"] for fault in other.json()["errors"]} == {"/environment/python", "/environment/polars"}


async def test_the_same_key_gives_the_same_job(still, definition):
    headers = {"Idempotency-Key": "once"}
    first = await still.http.post("/v1/jobs", json=definition, headers=headers)
    again = await still.http.post("/v1/jobs", json=definition, headers=headers)
    assert again.status_code == 202
    assert again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    other = await still.http.post("/v1/jobs", json=definition | {"labels": {"a": "b"}}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    assert len((await still.http.get("/v1/jobs")).json()["jobs"]) == 1


async def test_many_requests_with_one_key_make_one_job(still, definition):
    answers = await asyncio.gather(
        *(still.http.post("/v1/jobs", json=definition, headers={"Idempotency-Key": "k"}) for _ in range(8))
    )
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} <= {"idempotency_in_flight"}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 202}) == 1
    assert len((await still.http.get("/v1/jobs")).json()["jobs"]) == 1


async def test_a_submission_goes_on_when_the_client_has_gone(still, definition):
    sending = asyncio.create_task(still.http.post("/v1/jobs", json=definition, headers={"Idempotency-Key": "gone"}))
    await until(lambda: still.service._in_flight, every=0)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    await until(lambda: not still.service._in_flight)
    again = await still.http.post("/v1/jobs", json=definition, headers={"Idempotency-Key": "gone"})
    assert again.headers["idempotent-replayed"] == "true"


async def test_a_plan_counts_without_running(gateway, definition):
    answer = await gateway.http.post("/v1/jobs:plan", json=definition)
    plan = answer.json()
    assert (plan["candidates"], plan["folds"], plan["tasks"], plan["tasks_unshared"]) == (20, 5, 125, 200)
    assert plan["steps"] == {"pca": 5, "logistic": 20}
    assert plan["cluster"]["why"]
    assert gateway.launcher.orders == []


async def test_pages_are_newest_first_and_filtered(still, definition):
    made = []
    for n in range(5):
        made.append(await still.submit(labels={"n": str(n % 2)}))
        still.clock.pass_by(0.001)
    first = await still.http.get("/v1/jobs", params={"limit": 2})
    assert [job["id"] for job in first.json()["jobs"]] == made[:2:-1]
    assert 'rel="next"' in first.headers["link"]
    second = await still.http.get("/v1/jobs", params={"limit": 2, "cursor": first.json()["next"]})
    assert [job["id"] for job in second.json()["jobs"]] == [made[2], made[1]]
    last = await still.http.get("/v1/jobs", params={"limit": 2, "cursor": second.json()["next"]})
    assert [job["id"] for job in last.json()["jobs"]] == [made[0]]
    assert "next" not in last.json()
    labelled = await still.http.get("/v1/jobs", params={"label": "n=1"})
    assert [job["id"] for job in labelled.json()["jobs"]] == [made[3], made[1]]
    assert (await still.http.get("/v1/jobs", params={"state": "running"})).json()["jobs"] == []
    assert (await still.http.get("/v1/jobs", params={"created_after": "2030-01-01T00:00:00Z"})).json()["jobs"] == []
    for wrong in ({"state": "walking"}, {"label": "n"}, {"limit": 0}):
        assert (await still.http.get("/v1/jobs", params=wrong)).json()["code"] == "invalid_request"


async def test_etag_and_long_poll(deploy):
    gateway = deploy(SlowLauncher())
    job = await gateway.submit()
    await gateway.in_state(job, "launching")
    await asyncio.sleep(0.1)
    seen = (await gateway.http.get(f"/v1/jobs/{job}")).headers["etag"]
    same = await gateway.http.get(f"/v1/jobs/{job}", headers={"If-None-Match": seen})
    assert (same.status_code, same.content) == (304, b"")
    quiet = await gateway.http.get(f"/v1/jobs/{job}", params={"wait": 0.05}, headers={"If-None-Match": seen})
    assert quiet.status_code == 304
    waiting = [
        asyncio.create_task(gateway.http.get(f"/v1/jobs/{job}", params={"wait": 20}, headers={"If-None-Match": seen})),
        asyncio.create_task(gateway.http.get(f"/v1/jobs/{job}", params={"wait": 20})),
        asyncio.create_task(gateway.http.get(f"/v1/jobs/{job}", params={"wait": 20, "until": "done"})),
    ]
    await asyncio.sleep(0.05)
    assert (await gateway.http.post(f"/v1/jobs/{job}/cancel")).status_code == 202
    changed, changed_too, done = await asyncio.gather(*waiting)
    assert changed.status_code == changed_too.status_code == 200
    assert changed.headers["etag"] != seen
    assert done.json()["state"] == "cancelled"
    assert "retry-after" not in done.headers
    assert (await gateway.http.post(f"/v1/jobs/{job}/cancel")).status_code == 200


async def test_only_a_finished_job_is_deleted_and_with_all_its_objects(gateway):
    job = await gateway.submit()
    head = await gateway.head(job)
    key = await head.write("logs/0/000000", b"x")
    assert (await gateway.http.delete(f"/v1/jobs/{job}")).json()["code"] == "job_not_done"
    await head.commit()
    await gateway.ended(job)
    for _ in range(2):
        assert (await gateway.http.delete(f"/v1/jobs/{job}")).status_code == 204
    assert (await gateway.http.get(f"/v1/jobs/{job}")).status_code == 404
    assert [info.key async for info in gateway.store.list(key.partition("/attempts/")[0] + "/")] == []


async def test_logs_by_container_with_tail_and_follow(gateway):
    job = await gateway.submit()
    head, worker = await gateway.head(job), await gateway.head(job, index=1, boot="w1")
    await head.log(b"one\ntwo\nthr", 0)
    await worker.log(b"worker\n", 0)
    following = asyncio.create_task(gateway.http.get(f"/v1/jobs/{job}/logs", params={"follow": True, "role": "head"}))
    await asyncio.sleep(0.05)
    await head.log(b"ee\nfour\n", 1, 11)
    get = lambda **params: gateway.http.get(f"/v1/jobs/{job}/logs", params=params)  # noqa: E731
    assert (await get()).text == "one\ntwo\nthrworker\nee\nfour\n"
    assert (await get(role="head")).text == (await get(index=0)).text == "one\ntwo\nthree\nfour\n"
    assert (await get(role="worker")).text == "worker\n"
    assert [(await get(role="head", tail=n)).text for n in (0, 1, 2, 9)] == [
        "",
        "four\n",
        "three\nfour\n",
        "one\ntwo\nthree\nfour\n",
    ]
    assert (await get(attempt=2)).text == ""
    await head.commit(succeeded=False, reason="user_error", result=None)
    assert (await following).text == "one\ntwo\nthree\nfour\n"
    assert (await gateway.ended(job))["log_tail"] == ["one", "two", "three", "four"], (
        "from the store, if the head says nothing"
    )


async def test_results_are_outcomes_alone(gateway):
    job = await gateway.submit()
    head = await gateway.head(job)
    await head.send(outcome(0), {"type": "node", "time": "2026-01-01T00:00:00Z", "node": "pca", "fits": 1}, outcome(1))
    await head.commit()
    answer = await gateway.http.get(f"/v1/jobs/{job}/results")
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert [json.loads(line)["candidate"] for line in answer.text.splitlines()] == [0, 1]
    refused = await gateway.http.get(f"/v1/jobs/{job}/results", headers={"Accept": "text/html"})
    assert (refused.status_code, refused.json()["code"]) == (406, "not_acceptable")


async def test_what_it_says_of_itself(still):
    limits = {limit["name"]: limit["value"] for limit in (await still.http.get("/v1/limits")).json()}
    assert limits["definition_bytes"] == 1024 * 1024
    assert (await still.http.get("/v1/me")).json() == {"tenant": "default", "name": "owner"}
    for path in ("/healthz", "/readyz", "/openapi.json"):
        assert (await still.anonymous.get(path)).status_code == 200
    page = await still.anonymous.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert TOKEN not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert URL not in page.text
