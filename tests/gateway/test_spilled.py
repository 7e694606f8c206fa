"""What containers wrote to the store while no gateway answered reaches the stream once, in order, before the end."""

import json
from datetime import timedelta

from flaregate_wire.limits import SPILL_BYTES
from gateway.launchers.base import Phase
from gateway.stores.base import StoreDenied, StoreUnavailable
from tests import doubles
from tests.doubles import BOOT, TIME, outcome, progress, until


async def body(data):
    yield data


async def spill(gateway, job, slot, first, *events, index=0, boot=BOOT, attempt=1):
    line = json.dumps({"boot": boot, "first": first, "events": events}).encode()
    key = f"tenants/default/jobs/{job}/attempts/{attempt}/spill/{index}/{slot:02d}"
    await gateway.store.put(key, body(line))
    return key


async def outcomes(gateway, job):
    return [event["candidate"] for event in await gateway.events(job) if event["type"] == "outcome"]


async def test_an_order_has_slots_only_where_the_store_stays_when_the_gateway_goes(deploy):
    for direct in (False, True):
        gateway = deploy(direct=direct)
        job = await gateway.submit()
        head = await gateway.head(job)
        given = (await head.order()).json().get("spill")
        assert (given is not None) == direct
        if given is not None:
            assert len(given["put"]) == len(given["logs"]) == 16
            assert given["seconds"] == 900
            answer = await head.send(outcome(0))
            assert "spill" not in answer.json()
            answer = await gateway.anonymous.post(
                f"/v1/attempts/{head.attempt}/events",
                json={"boot": BOOT, "first": 1, "events": [], "renew": True},
                headers=head._shown,
            )
            again = answer.json()["spill"]
            assert [one["url"].partition("?")[0] for one in again["put"]] == [
                one["url"].partition("?")[0] for one in given["put"]
            ]
            keys = {key for key, _ in given["logs"] + again["logs"]}
            assert len(keys) == 32, "a segment is never written over another"
            assert all(key.startswith(f"tenants/default/jobs/{job}/attempts/1/logs/0/") for key in keys)
        await gateway.http.post(f"/v1/jobs/{job}/cancel", json={})
        await gateway.ended(job)
        await gateway.close()


async def test_a_lost_head_leaves_what_it_has_spilled_before_the_verdict(deploy):
    gateway = deploy(direct=True)
    job = await gateway.submit(limits={"retries": 0})
    head = await gateway.head(job)
    await head.send(outcome(0), outcome(1))
    await spill(gateway, job, 0, 1, outcome(1), outcome(2), progress(3))
    await spill(gateway, job, 1, 4, outcome(3))
    await spill(gateway, job, 0, 0, progress(1), index=1, boot="another")
    gateway.launcher.end(head.attempt)
    assert (await gateway.ended(job))["reason"] == "head_lost"
    events = await gateway.events(job)
    assert [event["candidate"] for event in events if event["type"] == "outcome"] == [0, 1, 2, 3]
    kinds = [event["type"] + event.get("state", "") for event in events]
    assert kinds.index("statefinishing") > max(at for at, kind in enumerate(kinds) if kind == "outcome")
    assert (await gateway.view(job))["progress"]["done"] == 3
    assert [item.key async for item in gateway.store.list(f"tenants/default/jobs/{job}/attempts/1/spill/")] == []


async def test_a_lost_head_leaves_the_log_that_it_has_kept(deploy):
    gateway = deploy(direct=True)
    job = await gateway.submit(limits={"retries": 0})
    head = await gateway.head(job)
    key, request = (await head.order()).json()["spill"]["logs"][0]
    await head.send(outcome(0))
    await gateway.store.put(key, body(b"the last line\n"))
    told = {"type": "log", "time": TIME, "index": 0, "key": key, "start": 0, "size": 14}
    await spill(gateway, job, 0, 1, told)
    gateway.launcher.end(head.attempt)
    assert (await gateway.ended(job))["reason"] == "head_lost"
    assert (await gateway.http.get(f"/v1/jobs/{job}/logs")).text == "the last line\n"
    assert request["method"] == "PUT"
    await gateway.close()


async def test_what_comes_after_the_verdict_is_taken_in_before_the_attempt_leaves(deploy):
    gateway = deploy(doubles.StubbornLauncher(), direct=True)
    job = await gateway.submit()
    head = await gateway.head(job)
    await head.send(outcome(0))
    await gateway.http.post(f"/v1/jobs/{job}/cancel", json={})
    await gateway.in_state(job, "finishing")
    await spill(gateway, job, 0, 1, outcome(1))
    gateway.launcher.clock.pass_by(10)
    await gateway.ended(job)
    assert await outcomes(gateway, job) == [0, 1]
    assert (await gateway.events(job))[-1]["type"] == "end"


async def test_bad_objects_are_left_out_and_the_good_ones_are_not(deploy):
    gateway = deploy(direct=True)
    job = await gateway.submit(limits={"retries": 0})
    head = await gateway.head(job)
    start = f"tenants/default/jobs/{job}/attempts/1/spill/"
    await gateway.store.put(f"{start}0/00", body(b"not a batch"))
    await spill(gateway, job, 1, 0, outcome(0))
    await spill(gateway, job, 2, 1, outcome(1), boot="stolen")
    far = {"type": "log", "time": TIME, "index": 0, "key": "tenants/other/x", "start": 0, "size": 1}
    await spill(gateway, job, 3, 1, far)
    gone = {"type": "artifact", "time": TIME, "name": "a", "key": f"{start}a", "size": 3, "media_type": "a/b"}
    await spill(gateway, job, 4, 1, gone | {"sha256": f"sha256:{'0' * 64}"})
    await spill(gateway, job, 5, 7, outcome(7))
    await gateway.store.put(f"{start}0/06", body(b" " * (SPILL_BYTES + 1)))
    await gateway.store.put(f"{start}0/notes", body(b"x"))
    await spill(gateway, job, 8, 1, outcome(2))
    gateway.launcher.end(head.attempt)
    await gateway.ended(job)
    assert await outcomes(gateway, job) == [0, 2]


async def test_a_head_that_holds_no_longer_what_it_has_spilled_goes_on_after_it(deploy):
    gateway = deploy(direct=True)
    job = await gateway.submit()
    head = await gateway.head(job)
    await head.send(outcome(0))
    await spill(gateway, job, 0, 1, outcome(1), outcome(2))
    answer = await head.send(outcome(3), first=3)
    assert (answer.status_code, answer.json()["acknowledged"]) == (200, 4)
    missing = await head.send(outcome(9), first=9)
    assert (missing.status_code, missing.json()["code"]) == (409, "sequence_gap")
    await head.commit()
    await gateway.ended(job)
    assert await outcomes(gateway, job) == [0, 1, 2, 3]


async def test_a_store_that_is_away_is_waited_for_one_lease_and_one_that_refuses_not_at_all(deploy):
    for error, again in ((StoreUnavailable("not now"), True), (StoreDenied("no permission"), False)):
        gateway = deploy(direct=True)
        job = await gateway.submit(limits={"retries": 0})
        head = await gateway.head(job)
        looks = []

        async def away(prefix, error=error, looks=looks):
            looks.append(prefix)
            raise error
            yield

        gateway.store.list = away
        gateway.launcher.end(head.attempt)
        await until(lambda looks=looks: looks)
        if again:
            await until(lambda gateway=gateway, seen=gateway.launcher.looks: gateway.launcher.looks > seen + 5)
            assert len(looks) == 1  # the clock stands still
            assert (await gateway.view(job))["state"] == "running"
            gateway.launcher.clock.pass_by(61)
            await until(lambda looks=looks: len(looks) > 1)
            gateway.launcher.clock.pass_by(61)
        await until(lambda job=job, gateway=gateway: _passed(gateway, job))
        await gateway.close()


async def _passed(gateway, job):
    gateway.launcher.clock.pass_by(30)
    return (await gateway.view(job))["state"] == "failed"


async def test_what_is_found_is_no_sign_of_life(deploy):
    gateway = deploy(direct=True)
    job = await gateway.submit()
    head = await gateway.head(job)
    renewed = (await gateway.repository.attempt(head.attempt)).renewed
    gateway.launcher.clock.pass_by(5)
    await spill(gateway, job, 0, 0, outcome(0))
    record, attempt = await gateway.repository.current(job)
    await gateway.service._spilled.recover(record, attempt)
    assert await outcomes_now(gateway, job) == [0]
    assert (await gateway.repository.attempt(head.attempt)).renewed == renewed
    assert gateway.launcher.runs[head.attempt][0].phase is Phase.RUNNING
    assert timedelta(seconds=5) + renewed <= gateway.launcher.clock()
    await head.commit()
    await gateway.ended(job)


async def outcomes_now(gateway, job):
    lines = b"".join(batch.outcomes for batch in await gateway.repository.events(job, 0, 10**6))
    return [json.loads(line)["candidate"] for line in lines.splitlines()]
