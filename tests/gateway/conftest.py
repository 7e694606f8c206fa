"""A gateway put together in this process, on a platform that is a double."""

import asyncio
import contextlib
import json
from pathlib import Path

import httpx
import pytest

from gateway.api.app import Parts, create
from gateway.api.identity import Identity
from gateway.api.streams import Pace
from gateway.jobs.decisions import Rules
from gateway.jobs.keys import Keys
from gateway.jobs.policy import Policy
from gateway.jobs.reconciler import Cadence, Reconciler
from gateway.jobs.repository import SqlRepository
from gateway.jobs.service import Service, Times
from gateway.stores.folder import FolderStore
from gateway.stores.signing import UrlSigner
from tests import doubles

ROOT = Path(__file__).parents[2]
URL = "http://127.0.0.1:8080"
TOKEN = "the-owners-token"
CADENCE = Cadence(tick=0.01, reap=0.05)


class Deployed:
    """The parts of one gateway, on a folder that can outlive it."""

    def __init__(
        self,
        folder,
        launcher,
        url=URL,
        *,
        cache_bytes=10**9,
        policy=None,
        direct=False,
        database=None,
        name="a",
        cadence=CADENCE,
        linger=0,
        **pace,
    ):
        self.launcher = launcher
        self.keys = Keys(b"s" * 32)
        clock = launcher.clock
        self.clock = clock
        self.signer = UrlSigner(b"s" * 32, url, 900, clock)
        self.store = FolderStore(folder / "store", self.signer.sign)
        self.repository = SqlRepository(database or f"sqlite:///{folder / 'gateway.db'}", name)
        times = Times(60, 60, 900)
        policy = Policy(cache_bytes, **(policy or {}))
        self.service = Service(self.repository, self.store, launcher, self.keys, times, policy, clock, direct=direct)
        price = launcher.capabilities.price
        rules = Rules(launch_timeout=120, grace=5, linger=linger, lease=60, since=clock(), price=price)
        self.reconciler = Reconciler(self.repository, launcher, self.keys, self.service, rules, cadence, url, clock)
        self.service.stirred, self.service.place = self.reconciler.nudge, self.reconciler.place
        self.service.figures = self.reconciler.figures
        pace = Pace(**({"heartbeat": 15, "age": 240} | pace))
        parts = Parts(self.service, self.store, self.signer, Identity(TOKEN, self.keys), pace)
        self.app = create(parts)
        self.anonymous = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url=url)
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}
        )
        self._work = None

    def reconcile(self):
        self._work = asyncio.create_task(self.reconciler.run())

    async def die(self):
        """As by SIGKILL: what it held is not given back."""
        self.repository.holding.release = self._nothing
        with contextlib.suppress(BaseException):
            await self._work
        self._work = None
        await self.close()

    @staticmethod
    async def _nothing():
        pass

    async def close(self):
        if self._work is not None:
            self._work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._work
        await self.http.aclose()
        await self.anonymous.aclose()
        self.repository.close()

    def definition(self, **more):
        return digits() | more

    async def submit(self, definition=None, **more):
        answer = await self.http.post("/v1/jobs", json=(definition or digits()) | more)
        assert answer.status_code == 202, answer.text
        return answer.json()["id"]

    async def view(self, job):
        return (await self.http.get(f"/v1/jobs/{job}")).json()

    async def in_state(self, job, *states):
        async def there():
            view = await self.view(job)
            return view if view["state"] in states else None

        return await doubles.until(there)

    async def ended(self, job):
        return await self.in_state(job, "succeeded", "failed", "cancelled", "timed_out")

    async def head(self, job, number=1, index=0, boot=doubles.BOOT):
        """A container of a launched attempt, which has its order."""
        attempt = f"{job}-{number}"
        await doubles.until(lambda: attempt in self.launcher.runs)
        container = doubles.Container(self.anonymous, attempt, self.keys.bootstrap(attempt), index, boot)
        assert (await container.order()).status_code == 200
        return container

    async def events(self, job):
        answer = await self.http.get(f"/v1/jobs/{job}/events", headers={"Accept": "application/x-ndjson"})
        return [json.loads(line) for line in answer.text.splitlines()]


def digits():
    return json.loads((ROOT / "examples" / "digits.json").read_text())


@pytest.fixture
def definition():
    return digits()


@pytest.fixture
async def deploy(tmp_path, database_url):
    """Put a gateway together; it works jobs off unless told not to."""
    made = []

    def build(launcher=None, *, reconcile=True, **pace):
        deployed = Deployed(tmp_path, launcher or doubles.InstantLauncher(), database=database_url, **pace)
        if reconcile:
            deployed.reconcile()
        made.append(deployed)
        return deployed

    yield build
    for deployed in made:
        await deployed.close()


@pytest.fixture
async def still(deploy):
    """A gateway that takes jobs and launches none."""
    return deploy(reconcile=False)


@pytest.fixture
async def gateway(deploy):
    return deploy()
