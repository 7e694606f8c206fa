"""Code Engine's limits under load, and a gateway that is killed at every step of a launch: nothing is lost or left."""

import asyncio
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx
import pytest

from gateway.jobs.reconciler import Cadence
from gateway.launchers.code_engine import CodeEngineLauncher
from infra.code_engine.simulator.instances import Ending
from tests.doubles import outcome, until
from tests.gateway.conftest import Deployed, digits
from tests.served import listening, served
from tests.servers.code_engine import KEY, PROJECT, code_engine

pytestmark = pytest.mark.chaos
RESOURCES = {"cpus": 1, "memory": 4_000_000_000, "workers": 1}
LISTS = f"GET /v2/projects/{PROJECT}/job_runs"


@dataclass
class Pretended:
    """A container in a thread: a head that gives one outcome and commits, a worker that waits until it is done."""

    environment: dict
    stop: threading.Event = field(default_factory=threading.Event)
    code: int | None = None

    def __post_init__(self):
        threading.Thread(target=self._live, daemon=True).start()

    def ended(self):
        return None if self.code is None else Ending(self.code)

    def end(self, *, force):
        self.stop.set()

    def _live(self):
        try:
            with httpx.Client(base_url=self.environment["FLAREGATE_URL"], timeout=60, trust_env=False) as http:
                self.code = self._work(http, int(self.environment["JOB_INDEX"]))
        except (httpx.HTTPError, KeyError):
            self.code = 1

    def _work(self, http, index):
        path, boot = f"/v1/attempts/{self.environment['FLAREGATE_ATTEMPT']}", f"boot-{index}"
        shown = {"Authorization": f"Bearer {self.environment['FLAREGATE_BOOTSTRAP']}"}
        order = http.get(f"{path}/order", params={"index": index, "boot": boot}, headers=shown)
        if order.status_code != 200:
            return 1
        shown = {"Authorization": f"Bearer {order.json()['token']}"}
        if index == 0:
            told = {"boot": boot, "first": 0, "events": [outcome(0)]}
            while http.post(f"{path}/events", json=told, headers=shown).status_code >= 500:  # the gateway is away
                if self.stop.wait(0.05):
                    return 143
            manifest = {"boot": boot, "succeeded": True, "result": {"outcomes": 1, "failed": 0}}
            return 0 if http.post(f"{path}/commit", json=manifest, headers=shown).is_success else 1
        while not self.stop.wait(0.05):
            told = http.get(f"{path}/head", params={"until": "done", "wait": 20}, headers=shown)
            if told.status_code != 200 or told.json()["done"]:
                return 0
        return 143


class Pretends:
    def close(self):
        pass

    def start(self, name, environment, command, size):
        return Pretended(dict(environment))


@pytest.fixture
def simulator(tmp_path):
    with code_engine(tmp_path / "instances", starts=Pretends()) as simulator:
        yield simulator


def launcher_at(simulator):
    launcher = CodeEngineLauncher(simulator.settings())
    launcher.clock = lambda: datetime.now(UTC)
    launcher.looks = 0
    observe = launcher.observe

    async def counted(handles):
        launcher.looks += 1
        return await observe(handles)

    launcher.observe = counted
    return launcher


@pytest.mark.timeout(400)
async def test_five_hundred_jobs_fit_into_a_project_and_their_receipts_are_its_bill(tmp_path, simulator):
    launcher = launcher_at(simulator)
    async with served(tmp_path, launcher, linger=15, cadence=Cadence(tick=0.25, reap=5)) as gateway:
        async with httpx.AsyncClient(base_url=gateway.url, headers=gateway.http.headers, timeout=60) as http:
            places = asyncio.Semaphore(20)

            async def submit():
                async with places:
                    answer = await http.post("/v1/jobs", json=digits() | {"resources": RESOURCES})
                    assert answer.status_code == 202, answer.text

            await asyncio.gather(*(submit() for _ in range(500)))

            async def finished():
                await asyncio.sleep(0.5)
                page = (await http.get("/v1/jobs", params={"limit": 1000})).json()["jobs"]
                ends = [job for job in page if job["state"] in ("succeeded", "failed", "cancelled", "timed_out")]
                return ends if len(ends) == 500 else None

            jobs = await until(finished, 300)
        assert {job["state"] for job in jobs} == {"succeeded"}
        assert max(job["attempts"][-1]["number"] for job in jobs) == 1
        assert simulator.simulator.refusals["quota_exceeded"] == 0
        assert simulator.simulator.requests[LISTS] <= launcher.looks + 400 / 5
        await until(lambda: not simulator.project.visible(), 20)
        billed = simulator.project.billed
        assert sum(job["usage"]["vcpu_seconds"] for job in jobs) == pytest.approx(billed.vcpu_seconds, rel=0.01)
        cost = sum(float(job["usage"]["cost"].split()[0]) for job in jobs)
        expected = billed.vcpu_seconds * 0.00003431 + billed.gb_seconds * 0.00000356
        assert cost == pytest.approx(expected, rel=0.02)


class Killed(BaseException):
    """As far as the gateway gets."""


class Bomb:
    """Goes off at the n-th step of a reconciler towards the database or the platform: half of them before it, half after."""

    def __init__(self, at):
        self.at, self.count = at, 0
        self.gone_off = asyncio.Event()

    def tick(self):
        if self.count == self.at or self.gone_off.is_set():
            self.gone_off.set()
            raise Killed
        self.count += 1

    def around(self, thing, *names):
        for name in names:
            setattr(thing, name, self._stepped(getattr(thing, name)))

    def _stepped(self, real):
        async def stepped(*given, **named):
            self.tick()
            found = await real(*given, **named)
            self.tick()
            return found

        return stepped


class Address:
    """Where the containers find the gateway, whichever there is now."""

    def __init__(self):
        self.gateway = None
        self.requests = set()

    def cut(self):
        """The gateway is gone, and with it what it was asked."""
        self.gateway = None
        for request in self.requests:
            request.cancel()

    async def __call__(self, scope, receive, send):
        if self.gateway is None:
            await send({"type": "http.response.start", "status": 503, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        else:
            request = asyncio.create_task(self.gateway.app(scope, receive, send))
            self.requests.add(request)
            request.add_done_callback(self.requests.discard)
            await request


@pytest.mark.timeout(400)
async def test_a_gateway_killed_at_any_step_of_a_job_leaves_no_run_and_one_outcome(tmp_path, simulator):
    address = Address()
    async with listening(address) as url:
        at = 0
        while await _killed_at(tmp_path / str(at), simulator, address, url, at):
            at += 1
    assert at > 15, "a job takes steps"


async def _killed_at(folder, simulator, address, url, at):
    """A gateway that dies at a step, and its successor; gives whether there is such a step."""
    folder.mkdir()
    pace = {"url": url, "cadence": Cadence(tick=0.2, reap=1)}
    bomb, first = Bomb(at), Deployed(folder, launcher_at(simulator), **pace)
    bomb.around(first.launcher, "launch", "observe", "stop", "forget")
    bomb.around(first.reconciler, "_change")
    address.gateway = first
    job = await first.submit(resources=RESOURCES)
    first.reconcile()
    await until(lambda: bomb.gone_off.is_set() or _forgotten(first, job, simulator), 60, 0.02)
    reached = bomb.gone_off.is_set()
    bomb.at = bomb.at if reached else None  # what comes now is no step of the job
    if reached:
        address.cut()
        await first.die()
    second = Deployed(folder, launcher_at(simulator), **pace) if reached else first
    try:
        if reached:
            address.gateway = second
            second.reconcile()
        view = await until(lambda: _over(second, job), 100, 0.05)
        assert view["state"] == "succeeded", (at, view)
        events = await second.events(job)
        assert [event["type"] for event in events].count("end") == 1
        assert {event["candidate"] for event in events if event["type"] == "outcome"} == {0}
        await until(lambda: not simulator.project.living() and not simulator.project.visible(), 30)
    finally:
        await second.close()
    return reached


async def _forgotten(gateway, job, simulator):
    """All steps are done: the last one is that the platform forgets the run."""
    return await _over(gateway, job) and not simulator.project.visible()


async def _over(gateway, job):
    view = await gateway.view(job)
    return view if view["state"] in ("succeeded", "failed", "cancelled", "timed_out") else None


async def test_jobs_wait_while_iam_does_not_take_the_key_and_go_on_when_it_does(tmp_path, simulator):
    simulator.simulator.iam.key = "another"
    launcher = launcher_at(simulator)
    async with served(tmp_path, launcher, linger=15, cadence=Cadence(tick=0.2, reap=1)) as gateway:
        job = await gateway.submit(resources=RESOURCES)

        async def barred():
            return [one for one in (await gateway.view(job))["conditions"] if one["name"] == "platform_barred"]

        (told,) = await until(barred, 10)
        assert "API key could not be found" in told["message"]
        assert "FLAREGATE_CODE_ENGINE_KEY" in told["message"]
        assert (await gateway.view(job))["state"] == "queued"
        assert (await gateway.http.get("/readyz")).json()["platform"]["barred"] == told["message"]
        simulator.simulator.iam.key = KEY
        assert (await until(lambda: _over(gateway, job), 30))["state"] == "succeeded"
        assert await barred() == []
