"""Jobs on platforms that misbehave."""

import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest

from gateway.launchers.base import LaunchFailed, LaunchRefused, Price
from tests.doubles import (
    TIME,
    BarringLauncher,
    BlindLauncher,
    Clock,
    Container,
    FailingLauncher,
    ForgetfulLauncher,
    InstantLauncher,
    RefusingLauncher,
    SlowLauncher,
    StubbornLauncher,
    outcome,
    until,
)
from tests.servers.databases import BOTH

DATABASES = BOTH


async def test_the_intention_is_written_before_the_platform_hears_of_it(deploy):
    class Asks(InstantLauncher):
        async def launch(self, order):
            self.known = await gateway.repository.attempt(order.attempt)
            return await super().launch(order)

    gateway = deploy(Asks())
    job = await gateway.submit()
    await gateway.head(job)
    assert gateway.launcher.known.id == f"{job}-1"
    assert gateway.launcher.known.launched is None


@pytest.mark.parametrize("launcher", [InstantLauncher, StubbornLauncher, ForgetfulLauncher, SlowLauncher])
async def test_cancel_while_launching(deploy, launcher):
    gateway = deploy(launcher())
    job = await gateway.submit()
    await gateway.in_state(job, "launching")
    await gateway.http.post(f"/v1/jobs/{job}/cancel")
    await gateway.in_state(job, "finishing", "cancelled")
    gateway.clock.pass_by(6)
    view = await gateway.ended(job)
    assert (view["state"], view["reason"]) == ("cancelled", "cancelled_by_user")
    assert await gateway.launcher.list() == []


async def test_cancel_while_queued(still):
    job = await still.submit()
    await still.http.post(f"/v1/jobs/{job}/cancel")
    still.reconcile()
    view = await still.ended(job)
    assert view["state"] == "cancelled"
    assert still.launcher.orders == []
    assert [event["type"] for event in await still.events(job)] == ["state", "state", "usage", "end"]


async def test_cancel_while_running_is_told_to_the_container_then_forced(deploy):
    gateway = deploy(StubbornLauncher())
    job = await gateway.submit()
    head = await gateway.head(job)
    await gateway.http.post(f"/v1/jobs/{job}/cancel")
    await gateway.in_state(job, "finishing")
    await until(lambda: gateway.launcher.stops)
    assert gateway.launcher.stops == [(f"{job}-1", False)]
    assert (await head.send(outcome(3))).json()["cancel"] is True, "its last words are still taken"
    await head.commit(succeeded=False, reason="cancelled_by_user", log_tail=["last words"])
    gateway.clock.pass_by(6)
    assert (await gateway.ended(job))["state"] == "cancelled"
    assert (f"{job}-1", True) in gateway.launcher.stops
    assert 3 in [event.get("candidate") for event in await gateway.events(job)]


async def test_cancel_while_finishing_changes_nothing(deploy):
    gateway = deploy(BlindLauncher(blind=False))
    job = await gateway.submit()
    head = await gateway.head(job)
    gateway.launcher.blind = True
    await head.commit()
    await gateway.in_state(job, "finishing")
    assert (await gateway.http.post(f"/v1/jobs/{job}/cancel")).status_code == 202
    gateway.launcher.blind = False
    assert (await gateway.ended(job))["state"] == "succeeded"


async def test_a_platform_that_cannot_be_seen_is_a_condition_and_ends_nothing(deploy):
    gateway = deploy(BlindLauncher(blind=False))
    job = await gateway.submit(limits={"timeout": 3600})
    head = await gateway.head(job)
    gateway.launcher.blind = True
    for _ in range(180):
        gateway.clock.pass_by(10)
        assert (await head.send()).status_code == 200
    await until(lambda: _condition(gateway, job, "platform_unseen"))
    view = await gateway.view(job)
    assert view["state"] == "running"
    assert len(gateway.launcher.orders) == 1
    gateway.launcher.blind = False
    await until(lambda: _none(gateway, job))
    await head.commit()
    assert (await gateway.ended(job))["state"] == "succeeded"
    kinds = [(event["name"], event["active"]) for event in await gateway.events(job) if event["type"] == "condition"]
    assert kinds == [("platform_unseen", True), ("platform_unseen", False)]


async def _condition(gateway, job, name):
    return name in [condition["name"] for condition in (await gateway.view(job))["conditions"]]


async def _none(gateway, job):
    return not (await gateway.view(job))["conditions"]


async def test_a_terminal_state_waits_until_the_platform_says_that_all_is_gone(deploy):
    gateway = deploy(BlindLauncher(blind=False))
    job = await gateway.submit()
    head = await gateway.head(job)
    gateway.launcher.blind = True
    await head.commit()
    await asyncio.sleep(0.1)
    assert (await gateway.view(job))["state"] == "finishing"
    gateway.launcher.blind = False
    assert (await gateway.ended(job))["state"] == "succeeded"


async def test_a_lost_head_ends_the_attempt_and_its_workers(gateway):
    job = await gateway.submit(limits={"retries": 0})
    head = await gateway.head(job)
    await head.log(b"the last line\n")
    gateway.launcher.end(f"{job}-1", 0, -9)
    view = await gateway.ended(job)
    assert (view["state"], view["reason"]) == ("failed", "head_lost")
    assert "-9" in view["message"]
    assert view["log_tail"] == ["the last line"]
    assert await gateway.launcher.list() == []


async def test_a_dead_worker_ends_nothing_and_another_takes_its_place(deploy):
    price = Price(Decimal("0.01"), Decimal(0), "USD", "test")
    gateway = deploy(InstantLauncher(platform=replace(InstantLauncher.platform, price=price)))
    job = await gateway.submit(resources={"workers": 1, "cpus": 1, "memory": 10**9})
    head = await gateway.head(job)
    gateway.clock.pass_by(10)
    gateway.launcher.end(f"{job}-1", 1, -9)
    await until(lambda: len(gateway.launcher.runs[f"{job}-1"]) == 3)
    assert [order.indices for order in gateway.launcher.orders] == [(0, 1), (0, 2)], "what was lost is not begun anew"
    replacement = await gateway.head(job, index=2, boot="boot-2")
    assert (await replacement.rendezvous(wait=0)).json() == {"done": False}
    stranger = Container(gateway.anonymous, f"{job}-1", gateway.keys.bootstrap(f"{job}-1"), 3, "boot-3")
    assert (await stranger.order()).status_code == 422
    gateway.clock.pass_by(10)
    await head.commit()
    view = await gateway.ended(job)
    assert view["state"] == "succeeded"
    assert view["usage"]["vcpu_seconds"] == 20 + 10 + 10
    assert view["usage"]["cost"] == "0.400000 USD"
    told = [(e["phase"], e["index"]) for e in await gateway.events(job) if e["type"] == "attempt"]
    assert told == [("launched", 0), ("lost", 1), ("launched", 2), ("committed", 0), ("gone", 0)]
    assert gateway.reconciler.figures.workers_replaced == 1


async def test_workers_that_die_at_once_are_replaced_after_pauses(gateway):
    job = await gateway.submit(resources={"workers": 2, "cpus": 1})
    head, run = await gateway.head(job), gateway.launcher.runs[f"{job}-1"]
    gateway.launcher.end(f"{job}-1", 1, 1)
    await until(lambda: 3 in run)  # at once
    gateway.clock.pass_by(2)
    gateway.launcher.end(f"{job}-1", 3, 1)
    await until(lambda: _lost_are(gateway, job, 1, 3))
    gateway.launcher.end(f"{job}-1", 2, 1)
    await until(lambda: 5 in run)  # another place
    for seconds in (7, 1):
        assert 4 not in run
        looks = gateway.launcher.looks
        gateway.clock.pass_by(seconds)
        await until(lambda looks=looks: gateway.launcher.looks > looks + 2)
    await until(lambda: 4 in run)
    await head.commit()
    assert (await gateway.ended(job))["state"] == "succeeded"
    assert [order.indices for order in gateway.launcher.orders] == [(0, 1, 2), (0, 2, 3), (0, 5), (0, 4, 5)]


async def _lost_are(gateway, job, *lost):
    return await _lost(gateway, job) == lost


async def test_a_worker_that_dies_after_the_head_let_workers_go_is_not_replaced(gateway):
    job = await gateway.submit(resources={"workers": 2, "cpus": 1})
    head = await gateway.head(job)
    await head.send({"type": "attempt", "time": TIME, "attempt": 1, "phase": "released", "index": 1})
    gateway.launcher.end(f"{job}-1", 1)
    gateway.launcher.end(f"{job}-1", 2, -9)
    await until(lambda: _lost(gateway, job))
    await head.commit()
    await gateway.ended(job)
    assert await _told(gateway, job) == [(2, {"exit_code": -9})]
    assert len(gateway.launcher.orders) == 1


async def test_a_replacement_that_is_refused_or_fails_leaves_the_job_with_its_head(deploy):
    class Grudging(InstantLauncher):
        """Takes no replacement: not now, and then never."""

        answers = iter([LaunchFailed("503"), LaunchRefused("no more of this size")])

        async def launch(self, order):
            if order.replacements:
                raise next(self.answers)
            return await super().launch(order)

    gateway = deploy(Grudging())
    job = await gateway.submit(resources={"workers": 1})
    head = await gateway.head(job)
    gateway.launcher.end(f"{job}-1", 1, -9)
    await until(lambda: _condition(gateway, job, "launch_failed"))
    gateway.clock.pass_by(1.1)
    await until(lambda: _refused(gateway, job))
    await head.commit()
    assert (await gateway.ended(job))["state"] == "succeeded"
    assert await _told(gateway, job) == [(1, {"exit_code": -9}), (2, {"story": "no more of this size"})]
    assert list(gateway.launcher.runs[f"{job}-1"]) == [0, 1]


async def _refused(gateway, job):
    return await _lost(gateway, job) == (1, 2)


async def test_a_gateway_killed_between_the_intention_and_the_launch_of_a_replacement_asks_again(deploy):
    class Dies(InstantLauncher):
        deaf = True

        async def launch(self, order):
            if order.replacements and self.deaf:
                await asyncio.Event().wait()
            return await super().launch(order)

    launcher = Dies()
    first = deploy(launcher)
    job = await first.submit(resources={"workers": 1})
    await first.head(job)
    launcher.end(f"{job}-1", 1, -9)
    await until(lambda: _lost(first, job))
    await first.close()
    launcher.deaf = False
    deploy(launcher)
    await until(lambda: 2 in launcher.runs[f"{job}-1"])
    assert list(launcher.runs[f"{job}-1"]) == [0, 1, 2]
    assert len(launcher.orders) == 2


async def _lost(gateway, job):
    """Workers that the running attempt has lost."""
    return (await gateway.repository.attempt(f"{job}-1")).lost


async def _told(gateway, job):
    """Of an ended job: which containers were lost, and what is told of each."""
    return [(event["index"], event["detail"]) for event in await gateway.events(job) if event.get("phase") == "lost"]


async def test_a_retry_is_a_new_attempt_and_the_old_one_is_fenced(gateway):
    job = await gateway.submit(limits={"timeout": 600})
    first = await gateway.head(job)
    gateway.launcher.end(f"{job}-1", 0, 137)
    second = await gateway.head(job, number=2)
    assert (await first.send(outcome(0))).json()["code"] == "attempt_over"
    assert (await first.commit()).json()["code"] == "attempt_over"
    await second.commit()
    view = await gateway.ended(job)
    assert (view["state"], [attempt.get("reason") for attempt in view["attempts"]]) == (
        "succeeded",
        ["head_lost", None],
    )
    states = [event["state"] for event in await gateway.events(job) if event["type"] == "state"]
    assert states == ["queued", "launching", "running", "retrying", "launching", "running", "finishing", "succeeded"]
    assert gateway.launcher.stops[0] == (f"{job}-1", True), "the remains go first"


async def test_a_refusal_is_final_and_a_failure_is_tried_again(deploy):
    gateway = deploy(RefusingLauncher())
    job = await gateway.submit()
    view = await gateway.ended(job)
    assert (view["state"], view["reason"], view["message"]) == ("failed", "platform_error", "no such size")


@pytest.mark.parametrize("launches", [False, True])
async def test_a_launch_that_failed_or_whose_answer_was_lost(deploy, launches):
    gateway = deploy(FailingLauncher(failures=2, launches_before_failing=launches))
    job = await gateway.submit()
    await until(lambda: _condition(gateway, job, "launch_failed"))
    for _ in range(4):
        gateway.clock.pass_by(1.1)
        await asyncio.sleep(0.05)
    head = await gateway.head(job)
    await head.commit()
    assert (await gateway.ended(job))["state"] == "succeeded"
    assert list(gateway.launcher.runs) == [f"{job}-1"]


@pytest.mark.parametrize("launching", [False, True])
async def test_jobs_wait_for_a_platform_that_takes_no_credentials(deploy, launching):
    """Not begun, or begun when the key was good: its deadlines count again when the key is mended."""
    gateway = deploy(BarringLauncher(barred=None if launching else "the API key is not taken"))
    if launching:
        launch = gateway.launcher.launch

        async def bar(order):
            gateway.launcher.barred = "the API key is not taken"
            return await launch(order)

        gateway.launcher.launch = bar
    job = await gateway.submit(limits={"retries": 0})
    await until(lambda: _condition(gateway, job, "platform_barred"))
    gateway.clock.pass_by(1000)
    await asyncio.sleep(0.1)
    view = await gateway.view(job)
    assert view["state"] == ("launching" if launching else "queued")
    assert {one["message"] for one in view["conditions"]} == {"the API key is not taken"}
    answer = await gateway.anonymous.get("/readyz")
    assert (answer.status_code, answer.json()["platform"]["barred"]) == (200, "the API key is not taken")
    assert "flaregate_platform_barred 1.0" in (await gateway.http.get("/metrics")).text
    gateway.launcher.barred = None
    if launching:
        gateway.launcher.launch = launch
    head = await gateway.head(job)
    await head.commit()
    assert (await gateway.ended(job))["state"] == "succeeded"
    assert (await gateway.http.get("/readyz")).json()["platform"] == {"name": "double", "barred": None}
    told = [event for event in await gateway.events(job) if event.get("name") == "platform_barred"]
    assert [event["active"] for event in told] == [True, False]


async def test_jobs_that_run_outlive_a_key_that_is_taken_no_more(deploy):
    gateway = deploy(BarringLauncher(barred=None))
    job = await gateway.submit()
    head = await gateway.head(job)
    gateway.launcher.barred = "the API key is not taken"
    await until(lambda: _condition(gateway, job, "platform_unseen"))
    assert [one["name"] for one in (await gateway.view(job))["conditions"]] == ["platform_unseen"]
    assert (await head.send()).status_code == 200
    await head.commit()
    gateway.launcher.barred = None
    assert (await gateway.ended(job))["state"] == "succeeded"


async def test_what_never_starts_has_a_deadline(deploy):
    gateway = deploy(SlowLauncher())
    job = await gateway.submit(limits={"retries": 0})
    await gateway.in_state(job, "launching")
    await asyncio.sleep(0.05)
    gateway.clock.pass_by(121)
    view = await gateway.ended(job)
    assert (view["state"], view["reason"]) == ("failed", "launch_timeout")
    assert view["usage"] == {"vcpu_seconds": 0, "gib_seconds": 0, "cost": "unknown"}
    assert await gateway.launcher.list() == []


async def test_code_that_never_ends_is_timed_out(gateway):
    job = await gateway.submit(limits={"timeout": 30})
    await gateway.head(job)
    gateway.clock.pass_by(31)
    view = await gateway.ended(job)
    assert (view["state"], view["reason"]) == ("timed_out", "timeout")


async def test_a_restarted_gateway_takes_up_its_jobs(deploy):
    launcher = InstantLauncher()
    first = deploy(launcher)
    running, queued = await first.submit(), await first.submit()
    head = await first.head(running)
    await first.head(queued)
    await head.send(outcome(0))
    await first.close()
    second = deploy(launcher)
    head.http = second.anonymous
    assert (await head.send(outcome(0), outcome(1), first=0)).json()["acknowledged"] == 2
    await head.commit()
    assert (await second.ended(running))["state"] == "succeeded"
    assert len([event for event in await second.events(running) if event["type"] == "outcome"]) == 2
    await second.http.post(f"/v1/jobs/{queued}/cancel")
    await second.in_state(queued, "cancelled")
    assert len(launcher.orders) == 2


async def test_a_crash_between_intention_and_launch_launches_once(deploy):
    class Crashes(InstantLauncher):
        crash = True

        async def launch(self, order):
            handle = await super().launch(order)
            if self.crash:
                await asyncio.Event().wait()  # the platform has it, the gateway never hears so
            return handle

    launcher = Crashes()
    first = deploy(launcher)
    job = await first.submit()
    await until(lambda: launcher.orders)
    await first.close()
    launcher.crash = False
    second = deploy(launcher)
    head = await second.head(job)
    await head.commit()
    assert (await second.ended(job))["state"] == "succeeded"
    assert list(launcher.runs) == [f"{job}-1"]


async def test_runs_without_a_live_attempt_are_ended(deploy, tmp_path):
    launcher = InstantLauncher()
    other = deploy(launcher)
    job = await other.submit()
    head = await other.head(job)
    launcher.runs["job-unknown-1"] = dict(launcher.runs[f"{job}-1"])
    await until(lambda: ("job-unknown-1", True) in launcher.stops)
    assert (await head.send()).status_code == 200, "the live one is left alone"


async def test_one_look_for_all_jobs_and_none_when_idle(deploy):
    gateway = deploy()
    jobs = [await gateway.submit() for _ in range(20)]
    heads = [await gateway.head(job) for job in jobs]
    before = gateway.launcher.looks
    await asyncio.sleep(0.5)
    assert gateway.launcher.looks - before <= 60, "looks do not grow with the number of jobs"
    for head in heads:
        await head.commit()
    for job in jobs:
        assert (await gateway.ended(job))["state"] == "succeeded"
    await until(lambda: gateway.reconciler.idle)
    await asyncio.sleep(0.05)
    before = gateway.launcher.looks
    await asyncio.sleep(0.2)
    assert gateway.launcher.looks == before


async def test_usage_is_what_the_platform_saw(deploy):
    launcher = InstantLauncher(clock=Clock())
    gateway = deploy(launcher)
    job = await gateway.submit(resources={"workers": 1, "cpus": 2, "memory": 1024**3})
    head = await gateway.head(job)
    launcher.clock.pass_by(10)
    launcher.end(f"{job}-1", 1)
    launcher.clock.pass_by(5)
    await head.commit()
    view = await gateway.ended(job)
    assert view["usage"]["vcpu_seconds"] == 2 * (10 + 15)
    assert view["usage"]["gib_seconds"] == 10 + 15
    end = [event for event in await gateway.events(job) if event["type"] == "usage"]
    assert end[0]["vcpu_seconds"] == 50


@pytest.mark.parametrize("turns", range(8))
async def test_a_gateway_that_is_stirred_just_then_still_ends(deploy, turns):
    gateway = deploy(reconcile=False)
    job = await gateway.submit()
    gateway.reconcile()
    await gateway.in_state(job, "launching", "running")
    await asyncio.sleep(0.05)
    gateway.reconciler.nudge(job)
    for _ in range(turns):
        await asyncio.sleep(0)
    gateway._work.cancel()
    ended, _ = await asyncio.wait({gateway._work}, timeout=2)
    assert ended
