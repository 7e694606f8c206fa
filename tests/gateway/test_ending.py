"""A gateway that ends sends everyone away with what they have; it stays, or is started anew, where nobody would call."""

import asyncio
from dataclasses import replace

import pytest
from pydantic import ValidationError

from flaregate_wire.states import Reason, State
from gateway.awake import Awake
from gateway.jobs.attended import attended
from gateway.jobs.records import Verdict
from gateway.settings import Settings
from tests.doubles import log, outcome, until
from tests.gateway.test_decisions import NOW, attempt, job
from tests.gateway.test_streams import served

QUEUED = (job(State.QUEUED, attempts=0, started=None), None)
RUNNING = (job(), attempt())
LAUNCHING = (job(), attempt(boots={}))
ENDING = (job(), attempt(verdict=Verdict(State.SUCCEEDED, NOW, committed=True)))
AGAIN = (job(State.QUEUED), attempt(verdict=Verdict(State.FAILED, NOW, Reason.HEAD_LOST), gone=NOW))


def named(pair, name):
    return replace(pair[0], id=name), pair[1]


@pytest.mark.parametrize(
    ("jobs", "waiting", "expected"),
    [
        ([], (), True),
        ([RUNNING], (), True),
        ([RUNNING, RUNNING], (), True),
        ([QUEUED], (), False),
        ([LAUNCHING], (), False),
        ([ENDING], (), False),
        ([AGAIN], (), False),
        ([RUNNING, ENDING], (), False),
        ([RUNNING, named(QUEUED, "job-2")], (), False),
        ([RUNNING, named(QUEUED, "job-2")], ("job-2",), True),
        ([RUNNING, named(AGAIN, "job-2")], ("job-2",), True),
        ([named(QUEUED, "job-2")], ("job-2",), False),
        ([ENDING, named(QUEUED, "job-2")], ("job-2",), False),
    ],
)
def test_a_gateway_may_be_let_go_where_containers_will_call(jobs, waiting, expected):
    assert attended(jobs, waiting) is expected


async def test_the_reconciler_says_whether_it_may_be_let_go(deploy):
    gateway = deploy()
    assert gateway.reconciler.attended
    job = await gateway.submit()
    await until(lambda: not gateway.reconciler.attended)
    head = await gateway.head(job)
    await until(lambda: gateway.reconciler.attended)
    await head.commit()
    await gateway.ended(job)
    await until(lambda: gateway.reconciler.attended)


async def test_streams_and_long_polls_end_at_once_and_go_on_at_the_next_gateway(deploy):
    gateway = deploy()
    async with served(gateway) as client:
        job = await gateway.submit()
        head = await gateway.head(job)
        worker = await gateway.head(job, index=1, boot="w1")
        key = await head.write("logs/0/000000", b"one\ntwo")
        await head.send(outcome(0), log(0, key, 0, 7))

        read = {"/events": b"", "/results": b"", "/logs": b""}

        async def stream(path, **params):
            async with client.stream("GET", f"/v1/jobs/{job}{path}", params=params, timeout=20) as answer:
                async for piece in answer.aiter_raw():
                    read[path] += piece
                return answer

        waiting = [
            asyncio.create_task(stream("/events")),
            asyncio.create_task(stream("/results")),
            asyncio.create_task(stream("/logs", follow=True)),
            asyncio.create_task(client.get(f"/v1/jobs/{job}", params={"wait": 15, "until": "done"}, timeout=20)),
            asyncio.create_task(worker.rendezvous(wait=15, until="done")),
        ]
        feed = gateway.service.feed
        await until(lambda: b"event: outcome" in read["/events"] and read["/results"] and read["/logs"])
        await until(lambda: feed._channels[job].readers == len(waiting))
        feed.close()
        async with asyncio.timeout(10):
            _, _, logs, view, rendezvous = await asyncio.gather(*waiting)
    assert b"event: end" not in read["/events"]
    assert read["/results"].count(b"\n") == 1
    assert read["/logs"] == b"one\ntwo"
    assert logs.headers["flaregate-log-complete"] == "false", "so that the reader asks for more"
    assert view.json()["state"] == "running"
    assert rendezvous.json()["done"] is False


async def test_it_asks_its_own_address_while_nobody_else_would(deploy):
    gateway = deploy(reconcile=False)
    async with served(gateway) as client:
        asked, needed = [], False

        class Counted(Awake):
            async def ask(self):
                await super().ask()
                asked.append(1)

        awake = Counted(str(client.base_url), 0.02, lambda: needed)
        running = asyncio.create_task(awake.run())
        await asyncio.sleep(0.2)
        assert not asked
        needed = True
        await until(lambda: len(asked) > 2)
        running.cancel()


async def test_an_address_that_does_not_answer_is_told_and_harms_nothing(caplog):
    await Awake("http://127.0.0.1:9", 1, lambda: True).ask()
    assert "no answer at http://127.0.0.1:9/healthz" in caplog.text


def test_awake_needs_an_address_and_an_application_of_code_engine_knows_its_own(tmp_path, monkeypatch):
    with pytest.raises(ValidationError, match="FLAREGATE_AWAKE needs FLAREGATE_PUBLIC_URL"):
        Settings(home=tmp_path, awake=20)
    assert Settings(home=tmp_path).public_url is None
    given = {"CE_APP": "gate", "CE_SUBDOMAIN": "0123-abcd", "CE_DOMAIN": "eu-de.codeengine.appdomain.cloud"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert Settings(home=tmp_path, awake=20).public_url == "https://gate.0123-abcd.eu-de.codeengine.appdomain.cloud"
    assert Settings(home=tmp_path, public_url="https://own.example").public_url == "https://own.example"
