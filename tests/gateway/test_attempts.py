"""What containers and the gateway say to each other, and what becomes of the job."""

import asyncio
import hashlib
from dataclasses import replace

from tests.doubles import TIME, BlindLauncher, Container, InstantLauncher, outcome, progress, until
from tests.servers.databases import BOTH

DATABASES = BOTH


async def test_the_whole_way(gateway):
    job = await gateway.submit()
    head = await gateway.head(job)
    assert (await gateway.view(job))["state"] == "running"
    await head.send(progress(1), outcome(0), outcome(1))
    data = b"a fitted pipeline"
    key = await head.write("artifacts/best", data)
    sha256 = "sha256:" + hashlib.sha256(data).hexdigest()
    artifact = {"name": "best", "key": key, "media_type": "application/zip", "size": len(data), "sha256": sha256}
    assert (await head.commit(artifacts=[artifact], result={"outcomes": 2, "failed": 0, "best": 1})).status_code == 204
    view = await gateway.ended(job)
    assert (view["state"], view["result"]["best"], view["progress"]["done"]) == ("succeeded", 1, 1)
    assert {"queued", "launched", "first_outcome", "done", "committed", "gone"} <= set(view["timeline"])
    events = await gateway.events(job)
    assert [event["id"] for event in events] == list(range(1, len(events) + 1))
    assert [event["type"] for event in events][-3:] == ["state", "usage", "end"]
    states = [event["state"] for event in events if event["type"] == "state"]
    assert states == ["queued", "launching", "running", "finishing", "succeeded"]
    found = await gateway.http.get(f"/v1/jobs/{job}/artifacts/best", follow_redirects=True)
    assert found.content == data
    assert (await gateway.launcher.list()) == []


async def test_events_are_taken_once_and_in_order(gateway):
    job = await gateway.submit()
    head = await gateway.head(job)
    await head.send(outcome(0), outcome(1))
    assert (await head.send(outcome(0), outcome(1), outcome(2), first=0)).json()["acknowledged"] == 3
    gap = await head.send(outcome(9), first=7)
    assert (gap.status_code, gap.json()["code"]) == (409, "sequence_gap")
    assert "send from 3" in gap.json()["detail"]
    await head.commit()
    await gateway.ended(job)
    assert [event["candidate"] for event in await gateway.events(job) if event["type"] == "outcome"] == [0, 1, 2]


async def test_a_head_that_tells_of_its_want_of_memory_is_told_the_next_size(deploy):
    sizes = ((1, 2 * 10**9), (2, 4 * 10**9), (2, 8 * 10**9))
    gateway = deploy(InstantLauncher(platform=replace(InstantLauncher.platform, sizes=sizes)))
    job = await gateway.submit(resources={"workers": 0, "cpus": 2, "memory": 4 * 10**9})
    head = await gateway.head(job)
    told = "the driver was killed for want of memory by signal 9 (its container has 4.00 GB)"
    await head.commit(succeeded=False, reason="oom_killed", message=told)
    view = await gateway.ended(job)
    assert view["reason"] == "oom_killed"
    assert view["message"] == f"{told}; the next size has 8 GB with 2 vCPU"


async def test_nodes_have_a_secret_where_others_may_listen_between_them(deploy):
    public = replace(InstantLauncher.platform, private_network=False)
    gateway = deploy(InstantLauncher(platform=public))
    job = await gateway.submit(resources={"workers": 1, "cpus": 1})
    await gateway.head(job)
    alone = await gateway.submit(resources={"workers": 0})
    secrets = {await _node_secret(gateway, job, index) for index in (0, 1)}
    assert len(secrets) == 1, "one authority for all"
    assert len(next(iter(secrets))) >= 64
    assert await _node_secret(gateway, alone, 0) is None
    gateway.service.containers.node_tls = False
    assert await _node_secret(gateway, job, 0) is None


async def _node_secret(gateway, job, index):
    attempt = f"{job}-1"
    await until(lambda: attempt in gateway.launcher.runs)
    container = Container(gateway.anonymous, attempt, gateway.keys.bootstrap(attempt), index)
    return (await container.order()).json().get("node_secret")


async def test_a_worker_that_comes_after_the_commit_is_told_that_all_is_done_and_one_after_the_end_too(deploy):
    gateway = deploy(BlindLauncher(blind=False))
    job = await gateway.submit(resources={"workers": 2, "cpus": 1})
    head = await gateway.head(job)
    await head.register()
    gateway.launcher.blind = True  # so that the platform does not say yet that nothing is left
    await head.commit()
    late = await gateway.head(job, index=1, boot="w1")
    for until_ in ("head", "done"):
        assert (await late.rendezvous(wait=10, until=until_)).json()["done"] is True
    gateway.launcher.blind = False
    await gateway.ended(job)
    latest = Container(gateway.anonymous, late.attempt, late.bootstrap, 2, "w2")
    assert (await latest.order()).json()["code"] == "attempt_over"


async def test_each_container_has_its_own_numbers(gateway):
    job = await gateway.submit()
    head, worker = await gateway.head(job), await gateway.head(job, index=1, boot="w1")
    assert (await head.send(progress(1))).json()["acknowledged"] == 1
    assert (await worker.send()).json()["acknowledged"] == 0


async def test_an_empty_batch_renews_the_lease_and_is_no_change(gateway):
    job = await gateway.submit()
    head = await gateway.head(job)
    await gateway.in_state(job, "running")
    await asyncio.sleep(0.1)
    before = await gateway.view(job)
    answer = (await head.send()).json()
    assert (answer["lease"], answer["cancel"]) == (60, False)
    assert (await gateway.view(job))["version"] == before["version"]


async def test_the_first_boot_has_the_order_and_may_repeat_it(gateway):
    job = await gateway.submit()
    worker = await gateway.head(job, index=1, boot="w1")
    assert (await worker.order()).json()["token"] == worker.token
    other = Container(gateway.anonymous, worker.attempt, worker.bootstrap, 1, "w2")
    assert (await other.order()).json()["code"] == "boot_conflict"
    beyond = Container(gateway.anonymous, worker.attempt, worker.bootstrap, 2, "w3")
    assert (await beyond.order()).status_code == 422


async def test_orders_say_what_each_role_needs(gateway, definition):
    job = await gateway.submit()
    head, worker = await gateway.head(job), await gateway.head(job, index=1, boot="w1")
    orders = [(await container.order()).json() for container in (head, worker)]
    assert orders[0]["definition"]["pipeline"]["name"] == "digits"
    assert orders[1].get("definition") is None
    assert orders[0]["ray_token"] == orders[1]["ray_token"]
    assert len(orders[0]["ray_token"]) >= 64
    assert orders[0]["token"] != orders[1]["token"]
    assert orders[0]["trust_scope"] == {"tenant": "default", "project": "default"}


async def test_a_second_boot_of_the_head_means_that_the_first_is_lost(gateway):
    job = await gateway.submit(limits={"retries": 0})
    head = await gateway.head(job)
    again = Container(gateway.anonymous, head.attempt, head.bootstrap, 0, "boot-2")
    assert (await again.order()).json()["code"] == "boot_conflict"
    view = await gateway.ended(job)
    assert (view["state"], view["reason"]) == ("failed", "head_lost")
    assert (await head.send(outcome(5))).json()["code"] == "attempt_over"


async def test_workers_wait_for_the_head_and_are_told_when_it_is_done(gateway):
    job = await gateway.submit()
    head, worker = await gateway.head(job), await gateway.head(job, index=1, boot="w1")
    waiting = asyncio.create_task(worker.rendezvous(wait=10))
    await asyncio.sleep(0.05)
    assert (await head.register()).status_code == 204
    assert (await waiting).json()["head"]["address"] == "127.0.0.2:6379"
    assert (await worker.register()).status_code == 409
    done = asyncio.create_task(worker.rendezvous(wait=10, until="done"))
    await asyncio.sleep(0.05)
    assert not done.done()
    await head.commit()
    assert (await done).json()["done"] is True


async def test_one_manifest_wins(gateway):
    job = await gateway.submit()
    head = await gateway.head(job)
    assert (await head.commit()).status_code == 204
    assert (await head.commit(succeeded=False, reason="user_error")).json()["code"] == "attempt_over"
    assert (await gateway.ended(job))["state"] == "succeeded"
    assert (await head.send(outcome(1))).json()["code"] == "attempt_over"


async def test_a_manifest_names_only_what_is_there_and_its_own(gateway):
    job = await gateway.submit()
    head = await gateway.head(job)
    key = await head.write("artifacts/best", b"12345")
    shared = {"name": "best", "media_type": "application/zip", "sha256": "sha256:" + "0" * 64}
    foreign = await head.commit(artifacts=[shared | {"key": "tenants/default/blobs/x", "size": 5}])
    assert (foreign.status_code, foreign.json()["code"]) == (422, "invalid_request")
    absent = await head.commit(artifacts=[shared | {"key": key + "-not", "size": 5}])
    assert absent.status_code == 404
    short = await head.commit(artifacts=[shared | {"key": key, "size": 6}])
    assert short.json()["code"] == "blob_mismatch"
    assert (await gateway.view(job))["state"] == "running"
    assert (await head.commit(artifacts=[shared | {"key": key, "size": 5}])).status_code == 204


async def test_names_outside_the_prefix_are_refused(gateway):
    job = await gateway.submit()
    head = await gateway.head(job)
    for name in ("../../other", "a//b", "/etc/passwd", "a/../../b", ""):
        answer = await gateway.anonymous.post(
            f"/v1/attempts/{head.attempt}/objects",
            json={"put": [name]},
            headers={"Authorization": f"Bearer {head.token}"},
        )
        assert answer.status_code >= 400, name
    segment = {"type": "log", "time": "2026-01-01T00:00:00Z", "index": 0, "key": "tenants/x/y", "start": 0, "size": 1}
    assert (await head.send(segment)).status_code == 422


async def test_a_token_is_for_one_attempt_and_one_boot(gateway):
    first, second = await gateway.submit(), await gateway.submit()
    one, two = await gateway.head(first), await gateway.head(second)
    one.token, two.token = two.token, one.token
    for container in (one, two):
        assert (await container.send()).status_code == 401
    forged = Container(gateway.anonymous, one.attempt, "no bootstrap code", 0)
    assert (await forged.order()).status_code == 401


async def test_a_failed_manifest_says_why_and_shows_the_last_lines(gateway):
    job = await gateway.submit()
    head = await gateway.head(job)
    await head.commit(
        succeeded=False,
        reason="user_error",
        message="ValueError: no",
        result=None,
        log_tail=["a line", "ValueError: no"],
    )
    view = await gateway.ended(job)
    assert (view["state"], view["reason"], view["message"]) == ("failed", "user_error", "ValueError: no")
    assert view["log_tail"] == ["a line", "ValueError: no"]
    assert view["hint"]


async def test_events_over_the_limit_are_refused_and_named(gateway):
    job = await gateway.submit()
    head = await gateway.head(job)
    answer = await head.send(outcome(0, error={"type": "E", "message": "x" * 70_000}))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert "65536" in answer.json()["detail"]
    assert (await head.send(outcome(0))).json()["acknowledged"] == 1


async def test_a_reported_artifact_can_be_read_at_once(gateway):
    job = await gateway.submit()
    head = await gateway.head(job)
    reported = await artifact(head, "blocks/0", b"the first block")
    assert (await head.send(reported)).status_code == 200
    (listed,) = (await gateway.http.get(f"/v1/jobs/{job}/artifacts")).json()["artifacts"]
    assert (listed["name"], listed["size"]) == ("blocks/0", 15)
    again = await artifact(head, "blocks/0", b"the same, written anew", "blocks/0-2")
    assert (await head.send(again, again)).status_code == 200
    committed = {name: again[name] for name in ("name", "key", "media_type", "size", "sha256")}
    assert (await head.commit(artifacts=[committed])).status_code == 204
    await gateway.ended(job)
    (listed,) = (await gateway.http.get(f"/v1/jobs/{job}/artifacts")).json()["artifacts"]
    assert listed["size"] == 22
    names = [event["name"] for event in await gateway.events(job) if event["type"] == "artifact"]
    assert names == ["blocks/0"] * 3


async def test_a_reported_artifact_is_the_attempts_own_and_there(gateway):
    job = await gateway.submit()
    head = await gateway.head(job)
    reported = await artifact(head, "a", b"12345")
    for change, code in (({"size": 6}, "blob_mismatch"), ({"key": reported["key"] + "x"}, "not_found")):
        assert (await head.send(reported | change)).json()["code"] == code
    other = await gateway.submit()
    foreign = await artifact(await gateway.head(other), "a", b"12345")
    assert (await head.send(foreign)).json()["code"] == "invalid_request"
    assert (await gateway.http.get(f"/v1/jobs/{job}/artifacts")).json()["artifacts"] == []


async def artifact(head, name, data, path=None):
    key = await head.write(f"artifacts/{path or name}", data)
    sha256 = "sha256:" + hashlib.sha256(data).hexdigest()
    about = {"name": name, "key": key, "media_type": "application/x-npy", "size": len(data), "sha256": sha256}
    return {"type": "artifact", "time": TIME, **about}
