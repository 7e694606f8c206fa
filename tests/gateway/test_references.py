"""Files that jobs refer to: allowed or refused at once, looked at before anything is launched, the same for all attempts."""

import asyncio
import json

import pytest

from flaregate_wire.blobs import Transfer
from flaregate_wire.references import RemoteFile, RemoteRead
from gateway.api.identity import OWNER
from gateway.jobs.references import AT_ONCE, Places
from gateway.stores.base import ObjectMissing, StoreDenied, StoreUnavailable
from gateway.stores.references import TooMany
from tests.doubles import InstantLauncher, until

FOLDER = "s3://open/data/"
TABLE = f"{FOLDER}table.parquet"


class Shelf:
    """A store of users' files; what it holds, and what it says, may change."""

    def __init__(self, *files, says=None):
        self.files_, self.says, self.asked = files, says, []

    def fault(self, address):
        return "never there" if "never" in address else None

    async def files(self, address, most):
        self.asked.append(address)
        if self.says is not None:
            raise self.says
        return tuple(RemoteFile(address=address + name, size=size, etag=etag) for name, size, etag in self.files_)

    def read(self, file):
        return RemoteRead(file=file, get=Transfer(method="GET", url=f"https://signed/{file.etag}"))

    async def close(self):
        self.files_ = ()


def allowed(shelf, **more):
    return Places(
        {"s3": shelf, "https": shelf},
        {OWNER.tenant: (FOLDER,), "*": ("s3://public/",), "other": ("s3://others/",)} | more,
    )


@pytest.fixture
def shelf():
    return Shelf(("", 10, '"one"'))


@pytest.fixture
async def gateway(deploy, shelf):
    gateway = deploy()
    gateway.service.references.places = allowed(shelf)
    return gateway


def inputs(**more):
    return {
        "inputs": {"X": {"reference": TABLE, "columns": ["a", "b"]}, "y": {"reference": TABLE, "column": "label"}}
        | more
    }


async def refused(gateway, definition, given, path="/v1/jobs"):
    answer = await gateway.http.post(path, json=definition | {"inputs": {"X": given, "y": {"reference": TABLE}}})
    assert answer.status_code == 422, answer.text
    return answer.json()


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs:plan"])
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"reference": "s3://closed/x.csv"}, "the operator allows references to s3://open/data/, s3://public/"),
        ({"reference": "s3://others/x.csv"}, "the operator allows references to s3://open/data/, s3://public/"),
        ({"reference": "s3://open/x.csv"}, "FLAREGATE_REFERENCES"),
        ({"reference": "s3://open/database.csv"}, "FLAREGATE_REFERENCES"),
        ({"reference": "s3://open/data/../x.csv"}, "a key has no parts"),
        ({"reference": "https://host/never.csv"}, "never there"),
        ({"reference": "http://host/x.csv"}, "https://"),
        ({"reference": "s3://open/data/x"}, "its suffix does not say"),
        ({"reference": TABLE, "columns": ["a"], "column": "a"}, "give one of them"),
    ],
)
async def test_what_is_refused_at_submission(gateway, shelf, definition, given, words, path):
    problem = await refused(gateway, definition, given, path)
    assert problem["code"] == "invalid_definition"
    (fault,) = problem["errors"]
    assert fault["pointer"].startswith("/inputs/X")
    assert words in fault["message"]
    assert (shelf.asked, gateway.launcher.orders) == ([], [])


async def test_a_gateway_without_buckets_says_so(deploy, definition):
    gateway = deploy()
    problem = await refused(gateway, definition, {"reference": TABLE})
    assert "allows references to none yet" in problem["detail"]


async def test_files_are_looked_at_once_and_every_attempt_has_the_same(deploy, shelf):
    class Watches(InstantLauncher):
        async def launch(self, order):
            self.known = (await gateway.repository.current(order.job))[0].references
            return await super().launch(order)

    shelf.files_ = (("a", 10, '"a"'), ("b", 20, '"b"'))
    gateway = deploy(Watches())
    gateway.service.references.places = allowed(shelf)
    job = await gateway.submit(**inputs())
    head = await gateway.head(job)
    assert [file.etag for file in gateway.launcher.known[TABLE]] == ['"a"', '"b"'], "before the launch"
    first = (await head.order()).json()["references"]
    assert list(first) == [TABLE]
    assert [read["get"]["url"] for read in first[TABLE]] == ['https://signed/"a"', 'https://signed/"b"']
    assert [(read["file"]["address"], read["file"]["size"]) for read in first[TABLE]] == [
        (TABLE + "a", 10),
        (TABLE + "b", 20),
    ]
    worker = await gateway.head(job, index=1)
    assert (await worker.order()).json()["references"] == {}
    shelf.files_ = (("a", 99, '"changed"'),)
    gateway.launcher.end(f"{job}-1", 0, -9)
    second = await gateway.head(job, number=2)
    assert (await second.order()).json()["references"] == first
    assert shelf.asked == [TABLE]
    await second.commit()
    assert (await gateway.ended(job))["state"] == "succeeded"


@pytest.mark.parametrize(
    ("says", "words"),
    [
        (ObjectMissing("s3:GetObject on it: NotFound"), "NotFound"),
        (StoreDenied("s3:GetObject on it: AccessDenied; allow s3:GetObject"), "allow s3:GetObject"),
        (TooMany(), "reference_files, which is 1000 for a job; write fewer and larger ones"),
    ],
)
async def test_files_that_cannot_be_had_end_the_job_and_cost_nothing(gateway, shelf, says, words):
    shelf.says = says
    job = await gateway.submit(**inputs())
    view = await gateway.ended(job)
    assert (view["state"], view["reason"]) == ("failed", "stage_in_failed")
    assert view["message"].startswith(f"/inputs/X, /inputs/y: {TABLE}: ")
    assert words in view["message"]
    assert gateway.launcher.orders == []
    assert view["attempts"] == []
    assert view["usage"]["vcpu_seconds"] == 0
    assert [event["type"] for event in await gateway.events(job)] == ["state", "state", "usage", "end"]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([("a", 30 * 1024**3, "a"), ("b", 30 * 1024**3, "b")], "the limit reference_bytes"),
        ([(str(n), 1, "e") for n in range(501)], "the limit reference_files"),
    ],
)
async def test_all_references_together_have_a_limit(gateway, shelf, files, words):
    shelf.files_ = files
    job = await gateway.submit(**inputs(y={"reference": f"{FOLDER}other.csv", "column": "y"}))
    view = await gateway.ended(job)
    assert (view["state"], view["reason"]) == ("failed", "stage_in_failed")
    assert words in view["message"]
    listed = {limit["name"] for limit in (await gateway.http.get("/v1/limits")).json()}
    assert {"reference_files", "reference_bytes"} <= listed


async def test_a_store_that_is_away_is_a_condition_and_is_asked_again(gateway, shelf):
    shelf.says = StoreUnavailable("SlowDown")
    job = await gateway.submit(**inputs())
    await until(lambda: _told(gateway, job, "SlowDown"))
    view = await gateway.view(job)
    assert (view["state"], gateway.launcher.orders) == ("queued", [])
    shelf.says = None
    gateway.clock.pass_by(3)
    await gateway.head(job)
    assert (await gateway.view(job))["conditions"] == []
    assert len(shelf.asked) == 2


async def test_a_store_that_stays_away_ends_the_job_at_the_deadline_of_the_launch(gateway, shelf):
    shelf.says = StoreUnavailable("SlowDown")
    job = await gateway.submit(**inputs())
    await until(lambda: _told(gateway, job, "SlowDown"))
    gateway.clock.pass_by(121)
    view = await gateway.ended(job)
    assert (view["state"], view["reason"]) == ("failed", "stage_in_failed")
    assert "could not be looked at in 120 seconds" in view["message"]
    assert "SlowDown" in view["message"]
    assert gateway.launcher.orders == []


async def _told(gateway, job, words):
    return any(words in condition["message"] for condition in (await gateway.view(job))["conditions"])


async def test_cancel_while_the_store_is_away(gateway, shelf):
    shelf.says = StoreUnavailable("SlowDown")
    job = await gateway.submit(**inputs())
    await until(lambda: _told(gateway, job, "SlowDown"))
    await gateway.http.post(f"/v1/jobs/{job}/cancel")
    assert (await gateway.ended(job))["state"] == "cancelled"


async def test_a_gateway_that_takes_a_job_up_looks_at_its_files(deploy, shelf):
    launcher = InstantLauncher()
    first = deploy(launcher, reconcile=False)
    first.service.references.places = allowed(shelf)
    job = await first.submit(**inputs())
    assert shelf.asked == []
    await first.close()
    second = deploy(launcher, reconcile=False)
    second.service.references.places = allowed(shelf)
    second.reconcile()
    head = await second.head(job)
    assert list((await head.order()).json()["references"]) == [TABLE]


async def test_slow_servers_of_one_tenant_keep_nobody_waiting_but_its_own_jobs(gateway, shelf):
    gate = asyncio.Event()
    found = shelf.files

    async def slow(address, most):
        files = await found(address, most)
        await gate.wait()
        return files

    shelf.files = slow
    jobs = [await gateway.submit(**inputs()) for _ in range(AT_ONCE + 2)]
    await until(lambda: len(shelf.asked) == AT_ONCE)
    whole = await gateway.submit()
    await (await gateway.head(whole)).commit()
    assert (await gateway.ended(whole))["state"] == "succeeded"
    assert len(shelf.asked) == AT_ONCE
    gate.set()
    for job in jobs:
        await gateway.head(job)
    assert len(shelf.asked) == AT_ONCE + 2


async def test_a_fault_of_our_own_does_not_stop_other_jobs(gateway, shelf):
    shelf.says = RuntimeError("a bug")
    broken = await gateway.submit(**inputs())
    await until(lambda: shelf.asked)
    whole = await gateway.submit()
    await (await gateway.head(whole)).commit()
    assert (await gateway.ended(whole))["state"] == "succeeded"
    gateway.clock.pass_by(121)
    assert (await gateway.ended(broken))["reason"] == "stage_in_failed"


async def test_a_plan_knows_nothing_of_the_cache_and_asks_nobody(gateway, shelf, definition):
    answer = await gateway.http.post("/v1/jobs:plan", json=definition | inputs())
    assert answer.status_code == 200, answer.text
    assert answer.json().get("cached") is None
    assert answer.json()["candidates"] == 20
    assert shelf.asked == []


async def test_the_definition_shows_the_reference_as_it_was_given(gateway):
    job = await gateway.submit(**inputs())
    await gateway.head(job)
    view = await gateway.view(job)
    assert view["definition"]["inputs"]["y"]["reference"] == TABLE
    assert "etag" not in json.dumps(view)
