"""What jobs cost, from times and sizes to the cap; the figures; the queue for a platform that is full."""

from dataclasses import replace
from decimal import Decimal

import pytest

from flaregate_wire.jobs import Cluster, Usage
from flaregate_wire.states import Reason, State
from gateway.jobs.prices import amount_of, cost, money, priced, rate
from gateway.launchers.base import Capabilities, LaunchOrder, Price, Quota
from gateway.launchers.code_engine import PRICE as CODE_ENGINE
from tests.conftest import ROOT
from tests.doubles import InstantLauncher, until

PRICE = Price(Decimal("0.01"), Decimal("0.001"), "USD", "a test")
GIB = 1024**3


def test_amounts():
    usage = Usage(vcpu_seconds=100.0, gib_seconds=400.0)
    assert cost(usage, PRICE) == Decimal("1.4")
    assert priced(usage, PRICE).cost == "1.400000 USD"
    assert priced(usage, None).cost == "unknown"
    cluster = Cluster(topology="cluster", workers=1, min_workers=0, cpus=2, memory=4 * GIB, why="test")
    assert rate(cluster, PRICE) == Decimal("0.048")
    assert money(Decimal("0.0000005"), PRICE) == "0.000001 USD"
    assert amount_of("0.50 USD") == (Decimal("0.50"), "USD")


def test_the_numbers_that_the_page_shows_follow_from_code_engines_price():
    page = (ROOT / "docs/howto/cost.md").read_text()
    cluster = Cluster(topology="cluster", workers=2, min_workers=0, cpus=2, memory=8 * 10**9, why="test")
    for seconds, name in ((600, "cost"), (3600, "cost_hour")):
        assert f'"{name}": "{money(rate(cluster, CODE_ENGINE) * seconds, CODE_ENGINE)}"' in page
    receipt = priced(Usage(vcpu_seconds=30.339352, gib_seconds=113.022894), CODE_ENGINE)
    assert f'"vcpu_seconds": 30.339352, "gib_seconds": 113.022894, "cost": "{receipt.cost}"' in page
    assert f'"gib_second": "{CODE_ENGINE.gib_second} USD"' in page


@pytest.fixture
def dear():
    launcher = InstantLauncher()
    launcher.platform = Capabilities(
        name="dear", peer_tcp=True, max_cpus=16, max_memory=64 * GIB, gpus=0, lease=60, price=PRICE
    )
    return launcher


async def test_a_job_ends_before_it_costs_more_than_its_cap(deploy, dear):
    gateway = deploy(dear)
    job = await gateway.submit(limits={"max_cost": "1.00 USD"}, resources={"cpus": 1, "memory": 10 * GIB, "workers": 0})
    head = await gateway.head(job)
    view = await gateway.view(job)
    assert view["usage"]["cost"].endswith(" USD")
    gateway.clock.pass_by(40)
    await head.send()
    gateway.clock.pass_by(6)  # 46 s cost 0.92 USD, and ending may take 5 s more
    await gateway.in_state(job, "finishing", "cancelled")
    gateway.clock.pass_by(6)
    view = await gateway.ended(job)
    assert (view["state"], view["reason"]) == (State.CANCELLED, Reason.COST_CAP)
    amount, currency = view["usage"]["cost"].split()
    assert currency == "USD"
    assert Decimal("0.8") < Decimal(amount) <= Decimal("1.1")
    assert (await gateway.events(job))[-2]["cost"] == view["usage"]["cost"]


async def test_a_cap_in_another_currency_is_refused(deploy, dear):
    gateway = deploy(dear)
    answer = await gateway.http.post("/v1/jobs", json=gateway.definition(limits={"max_cost": "1.00 EUR"}))
    assert answer.status_code == 422
    assert "change its currency" in answer.text


async def test_the_plan_and_the_price_page_say_what_it_costs(deploy, dear):
    gateway = deploy(dear)
    resources = {"cpus": 1, "memory": 10 * GIB, "workers": 1}
    plan = (await gateway.http.post("/v1/jobs:plan", json=gateway.definition(resources=resources))).json()
    assert (plan["cost_hour"], plan["cost"]) == ("144.000000 USD", "24.000000 USD")  # its timeout is 600 s
    prices = (await gateway.http.get("/v1/prices")).json()
    assert prices == {"launcher": "dear", "vcpu_second": "0.01 USD", "gib_second": "0.001 USD", "source": "a test"}


async def test_metrics_are_for_who_shows_the_token(deploy, dear):
    gateway = deploy(dear)
    job = await gateway.submit()
    await gateway.head(job)
    assert (await gateway.anonymous.get("/metrics")).status_code == 401

    async def seen():
        text = (await gateway.http.get("/metrics")).text
        return text if "flaregate_platform_runs 1.0" in text and 'flaregate_jobs{state="running"} 1.0' in text else None

    text = await until(seen)
    assert "flaregate_orphaned_runs 0.0" in text
    await gateway.launcher.launch(LaunchOrder("job-x", "job-x-1", "t", dear_cluster(), "http://gateway", "code", 60))

    async def ended():
        return "flaregate_orphaned_runs_ended_total 1.0" in (await gateway.http.get("/metrics")).text

    await until(ended)
    assert await gateway.launcher.list() == [gateway.launcher.handle(f"{job}-1")]


async def test_jobs_that_have_ended_are_no_figures(deploy, dear):
    gateway = deploy(dear)
    job = await gateway.submit()
    head = await gateway.head(job)
    await until(lambda: gateway.reconciler.figures.held == {"running": 1})
    await head.commit()
    await gateway.ended(job)
    await until(lambda: gateway.reconciler.figures.held == {})
    assert "flaregate_jobs{" not in (await gateway.http.get("/metrics")).text


def dear_cluster():
    return Cluster(topology="single", workers=0, min_workers=0, cpus=1, memory=GIB, why="test")


async def test_jobs_wait_for_room_and_see_their_place(deploy):
    launcher = InstantLauncher()
    launcher.platform = replace(launcher.platform, quota=Quota(runs=1))
    gateway = deploy(launcher)
    first = await gateway.submit()
    await gateway.in_state(first, "launching")
    second, third = sorted([await gateway.submit(), await gateway.submit()])  # ids of one moment have any order

    async def queued():
        views = [await gateway.view(job) for job in (second, third)]
        return [view["place"] for view in views] if all("place" in view for view in views) else None

    places = await until(queued)
    assert [(place["position"], place["length"]) for place in places] == [(1, 2), (2, 2)]
    assert "1 of 1 are in use" in places[0]["reason"]
    assert (await gateway.view(second))["conditions"][0]["name"] == "platform_full"
    assert second in places[1]["reason"]
    for job in (second, first):
        await gateway.http.post(f"/v1/jobs/{job}/cancel")
        await gateway.in_state(job, "finishing", "cancelled")
        gateway.clock.pass_by(6)
        await gateway.ended(job)
    view = await gateway.in_state(third, "launching")
    assert view["conditions"] == []
    assert "place" not in view
    await until(lambda: len(launcher.orders) == 2)
    assert [order.job for order in launcher.orders] == [first, third]
