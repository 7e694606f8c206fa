"""Two gateways on one PostgreSQL: what one takes in, readers at the other see; a job is worked at by one of them."""

import asyncio
import contextlib
import json
import statistics
import time

import pytest

from gateway.jobs import news
from gateway.jobs.news import News
from tests.doubles import InstantLauncher, outcome, progress, until
from tests.servers.databases import BOTH

DATABASES = BOTH[1:]


@pytest.fixture
async def replicas(deploy, database_url):
    """Two gateways on one platform, and the word between them."""
    launcher = InstantLauncher()
    made = [deploy(launcher, name=name) for name in ("a", "b")]
    words = [News(database_url, one.repository, one.service.feed, one.reconciler.nudge) for one in made]
    for gateway, word in zip(made, words, strict=True):
        gateway.service.stirred = word.stir
        gateway.news = word
    running = [asyncio.create_task(word.run()) for word in words]
    await until(lambda: all(word._hearing for word in words))
    yield made
    for task in running:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def read(gateway, job):
    """The stream's bytes, and when each outcome was there."""
    got, times = b"", {}
    async for piece in await gateway.service.stream("default", job, 0, "ndjson"):
        got += piece
        for line in piece.splitlines():
            times[json.loads(line).get("candidate")] = time.perf_counter()
    return got, times


async def at(gateway, head):
    """The head goes on at this gateway."""
    head.http = gateway.anonymous
    return head


async def test_a_reader_sees_what_the_other_gateway_takes_in(replicas):
    a, b = replicas
    job = await b.submit()
    head = await b.head(job)
    reading = [asyncio.create_task(read(gateway, job)) for gateway in (a, b, a)]
    await until(lambda: all(job in gateway.service.feed.jobs for gateway in replicas))
    sent = {}
    for number in range(40):
        sent[number] = time.perf_counter()
        answer = await (await at(replicas[number % 4 != 0], head)).send(outcome(number), progress(number, 40))
        assert answer.status_code == 200, answer.text
        await asyncio.sleep(0.01)
    await (await at(a, head)).commit()
    (first, times), *others = await asyncio.gather(*reading)
    assert {text for text, _ in others} == {first}
    ids = [json.loads(line)["id"] for line in first.splitlines()]
    assert ids == list(range(1, len(ids) + 1))
    assert json.loads(first.splitlines()[-1])["type"] == "end"
    late = [times[number] - begun for number, begun in sent.items()]
    assert statistics.median(late) < 0.2
    assert max(late) < 1


async def test_who_waits_at_the_other_gateway_is_woken(replicas):
    a, b = replicas
    job = await b.submit()
    head = await b.head(job)
    view = await a.view(job)
    waiting = asyncio.create_task(
        a.http.get(f"/v1/jobs/{job}", params={"wait": 20, "until": "change", "version": view["version"]})
    )
    done = asyncio.create_task(a.http.get(f"/v1/jobs/{job}", params={"wait": 20, "until": "done"}))
    await until(lambda: job in a.service.feed.jobs)
    begun = time.perf_counter()
    await head.send(progress(1))
    await waiting
    assert time.perf_counter() - begun < 1
    await head.commit()
    assert (await done).json()["state"] == "succeeded"
    assert time.perf_counter() - begun < 5


async def test_a_wish_at_the_other_gateway_reaches_who_holds_the_job(replicas):
    a, b = replicas
    job = await b.submit()
    await b.head(job)
    nudged = []
    kept = b.reconciler.nudge
    b.news._nudge = lambda name: nudged.append(name) or kept(name)
    await a.http.post(f"/v1/jobs/{job}/cancel")
    assert (await a.ended(job))["state"] == "cancelled"
    assert job in nudged
    assert len(a.reconciler._holding) == 0


async def test_one_reconciler_works_at_a_job_and_the_other_takes_it_over(replicas):
    a, b = replicas
    jobs = [await b.submit() for _ in range(5)]
    heads = [await b.head(job) for job in jobs]
    assert [len(gateway.repository.holding) for gateway in replicas] == [0, 5]
    assert sorted(order.job for order in b.launcher.orders) == sorted(jobs)
    b._work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await b._work
    a.clock.pass_by(2)  # its next look for what nobody holds
    await until(lambda: len(a.repository.holding) == 5)
    for head in heads:
        await (await at(a, head)).commit()
    for job in jobs:
        assert (await a.ended(job))["state"] == "succeeded"
    assert len(b.launcher.orders) == 5


async def test_a_gateway_that_was_away_for_too_long_does_nothing_with_its_jobs(replicas):
    a, b = replicas
    job = await b.submit()
    head = await b.head(job)
    kept, b.repository.holding.keep = b.repository.holding.keep, lambda _: asyncio.sleep(0)  # it renews nothing
    a.clock.pass_by(19)
    await until(lambda: job in a.repository.holding)
    await b.http.post(f"/v1/jobs/{job}/cancel")
    assert (await a.ended(job))["state"] == "cancelled"
    await until(lambda: job not in b.repository.holding)
    b.repository.holding.keep = kept
    states = [event["state"] for event in await a.events(job) if event["type"] == "state"]
    assert states.count("finishing") == states.count("cancelled") == 1
    assert (await head.send()).json()["code"] == "attempt_over"


async def test_while_no_word_comes_readers_are_served_by_looking(replicas, monkeypatch):
    a, b = replicas
    job = await b.submit()
    head = await b.head(job)
    monkeypatch.setattr(news, "AGAIN", 60)
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'flaregate news'"
    reading = asyncio.create_task(read(a, job))
    await until(lambda: job in a.service.feed.jobs)
    await b.repository._database.read(lambda connection: connection.exec_driver_sql(cut).all())
    await until(lambda: not a.news._hearing)
    await head.send(outcome(0))
    await head.commit()
    text, _ = await asyncio.wait_for(reading, 10)
    assert text == (await b.http.get(f"/v1/jobs/{job}/events", headers={"Accept": "application/x-ndjson"})).content


async def test_word_comes_again_after_a_cut(replicas):
    a, b = replicas
    job = await b.submit()
    head = await b.head(job)
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'flaregate news'"
    reading = asyncio.create_task(read(a, job))
    await until(lambda: job in a.service.feed.jobs)
    await b.repository._database.read(lambda connection: connection.exec_driver_sql(cut).all())
    await head.send(outcome(0))
    await until(lambda: not a.news._hearing)
    await until(lambda: a.news._hearing and b.news._hearing)
    await head.send(outcome(1))
    await head.commit()
    text, _ = await asyncio.wait_for(reading, 10)
    assert text.count(b'"outcome"') == 2


async def test_the_same_key_at_both_gateways_gives_one_job(replicas, definition):
    answers = await asyncio.gather(
        *(gateway.http.post("/v1/jobs", json=definition, headers={"Idempotency-Key": "k"}) for gateway in replicas)
    )
    assert [answer.status_code for answer in answers] == [202, 202]
    assert len({answer.json()["id"] for answer in answers}) == 1
    other = await replicas[0].http.post(
        "/v1/jobs", json=definition | {"project": "x"}, headers={"Idempotency-Key": "k"}
    )
    assert other.json()["code"] == "idempotency_mismatch"


async def test_readiness_names_the_database(replicas):
    assert (await replicas[0].http.get("/readyz")).json()["database"] == "postgresql"
