"""Two gateways, processes of their own, on one PostgreSQL; one is killed, stopped or frozen under 50 running jobs."""

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import httpx
import psycopg
import pytest

from gateway.jobs.keys import Keys
from tests.chaos.replica import FolderLauncher
from tests.doubles import Container, outcome, progress, until
from tests.gateway.conftest import digits
from tests.gateway.test_streams import kept, last_id
from tests.servers.databases import BOTH

pytestmark = pytest.mark.chaos
DATABASES = BOTH[1:]
SECRET, TOKEN = "s" * 64, "t" * 64
HOLD = 3.0
JOBS = 50
OUTCOMES = 30


class Replica:
    """One gateway process."""

    def __init__(self, folder, name, database):
        self.home = folder / name
        self.home.mkdir(mode=0o700)
        (self.home / "store").symlink_to(folder / "store")
        self._log = folder / f"{name}.log"
        settings = {
            "HOME": self.home,
            "DATABASE_URL": database,
            "SECRET": SECRET,
            "TOKEN": TOKEN,
            "HOLD": HOLD,
            "TICK": 0.1,
            "REAP_INTERVAL": 1,
            "LINGER": 0,
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FLAREGATE_")}
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.replica", str(folder / "platform")],
                env=kept | {f"FLAREGATE_{name}": str(value) for name, value in settings.items()},
                stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        line = self.process.stdout.readline()
        assert line.startswith("flaregate gateway ready on "), self._log.read_text()
        self.url = line.split()[-1]
        self.name = (self.home / "name").read_text().strip()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process.stdout.close()
        print(self._log.read_text()[-5000:])


class Anywhere:
    """An HTTP client of all gateways: a request that one does not answer goes to the next."""

    def __init__(self, urls):
        limits = httpx.Limits(max_connections=200)
        shown = {"Authorization": f"Bearer {TOKEN}"}
        self._clients = [httpx.AsyncClient(base_url=url, headers=shown, timeout=5, limits=limits) for url in urls]
        self._turn = random.randrange(2)

    async def _ask(self, method, path, **more):
        said = []
        for _ in range(200):
            client = self._clients[self._turn % len(self._clients)]
            try:
                answer = await client.request(method, path, **more)
                if answer.status_code < 400 or not answer.json()["retryable"]:
                    return answer
                said.append(answer.text)
            except httpx.TransportError as error:
                said.append(repr(error))
            self._turn += 1
            await asyncio.sleep(0.05)
        raise AssertionError(f"no gateway answers {method} {path}: {said}")

    async def get(self, path, **more):
        return await self._ask("GET", path, **more)

    async def post(self, path, **more):
        return await self._ask("POST", path, **more)

    async def lines(self, path, last):
        """A stream's bytes from one gateway, until it is cut."""
        self._turn += 1
        got = b""
        client = self._clients[self._turn % len(self._clients)]
        with contextlib.suppress(httpx.TransportError):
            async with client.stream("GET", path, headers={"Last-Event-ID": str(last)}) as answer:
                assert answer.status_code == 200
                async for piece in answer.aiter_raw():
                    got += piece
        return got

    async def close(self):
        for client in self._clients:
            await client.aclose()


class World:
    """Both gateways, what happens at the platform, and everyone who talks to them."""

    def __init__(self, folder, database):
        self.folder, self.database = folder, database
        for name in ("store", "platform"):
            (folder / name).mkdir()
        self.replicas = [Replica(folder, name, database) for name in ("a", "b")]
        self.platform = FolderLauncher(folder=folder / "platform")
        self.clients = []

    def client(self):
        self.clients.append(Anywhere([replica.url for replica in self.replicas]))
        return self.clients[-1]

    async def submit(self, count=JOBS):
        client = self.client()

        async def one(number):
            definition = digits() | {"labels": {"number": str(number)}}
            answer = await client.post("/v1/jobs", json=definition, headers={"Idempotency-Key": str(number)})
            assert answer.status_code == 202, answer.text
            client._turn += 1
            return answer.json()["id"]

        return await asyncio.gather(*(one(number) for number in range(count)))

    async def feed(self, job, enough):
        """What the head of a job does, whichever gateway answers: OUTCOMES outcomes, and when it may, its last word."""
        attempt = f"{job}-1"
        await until(lambda: self.platform._file(attempt, ".run").exists(), 30)
        head = Container(self.client(), attempt, Keys(SECRET.encode()).bootstrap(attempt))
        assert (await head.order()).status_code == 200
        for number in range(OUTCOMES):
            answer = await head.send(outcome(number), progress(number + 1, OUTCOMES))
            assert answer.status_code == 200, answer.text
            self.sent[job] = number + 1
            await asyncio.sleep(0.1)
        await enough.wait()
        assert (await head.commit()).status_code in (204, 409)

    async def read(self, job):
        """A stream as a client puts it together."""
        client, parts, last = self.client(), [], 0
        while not parts or b"event: end" not in parts[-1]:
            new = kept(await client.lines(f"/v1/jobs/{job}/events", last))
            parts += new
            last = last_id(new, last)
        return b"".join(parts)

    def holders(self):
        with psycopg.connect(self.database) as connection:
            found = connection.execute("SELECT holder, count(*) FROM jobs WHERE active GROUP BY holder").fetchall()
        return dict(found)

    async def run(self, trouble):
        """50 jobs from the first to the last word, with trouble in the midst of it."""
        self.sent = Counter()
        jobs = await self.submit()
        assert len(set(jobs)) == JOBS
        enough = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            reading = [group.create_task(self.read(job)) for job in jobs]
            for job in jobs:
                group.create_task(self.feed(job, enough))
            await until(lambda: all(self.sent[job] >= 3 for job in jobs), 60)
            await trouble()
            enough.set()
        texts = [task.result() for task in reading]
        for job, text in zip(jobs, texts, strict=True):
            await self.check(job, text)
        starts = Counter((self.folder / "platform" / "starts").read_text().split())
        assert starts == Counter({f"{job}-1": 1 for job in jobs})
        assert await self.platform.list() == []

    async def check(self, job, text):
        client = self.client()
        view = (await client.get(f"/v1/jobs/{job}")).json()
        assert view["state"] == "succeeded", view
        assert [attempt["number"] for attempt in view["attempts"]] == [1]
        assert await self.read(job) == text, "a late reader has the same bytes"
        events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith(b"data: ")]
        assert [event["id"] for event in events] == list(range(1, len(events) + 1))
        assert [event["candidate"] for event in events if event["type"] == "outcome"] == list(range(OUTCOMES))
        assert [event["type"] for event in events].count("end") == 1
        states = [event["state"] for event in events if event["type"] == "state"]
        assert states == ["queued", "launching", "running", "finishing", "succeeded"]


@pytest.fixture
async def world(tmp_path, database_url):
    world = World(tmp_path, database_url)
    yield world
    for client in world.clients:
        await client.close()
    for replica in world.replicas:
        replica.close()


async def test_a_killed_gateways_jobs_go_on_at_the_other(world):
    killed, other = world.replicas

    async def kill():
        assert min(world.holders().values()) > 10, "both have some"
        killed.kill()
        begun = time.monotonic()
        await until(lambda: set(world.holders()) == {other.name}, 2 * HOLD)
        assert time.monotonic() - begun < HOLD
        assert world.holders() == {other.name: JOBS}

    await world.run(kill)


async def test_a_frozen_gateway_comes_back_to_nothing_and_spoils_nothing(world):
    frozen, other = world.replicas

    async def freeze():
        frozen.process.send_signal(signal.SIGSTOP)
        await until(lambda: set(world.holders()) == {other.name}, 2 * HOLD)
        frozen.process.send_signal(signal.SIGCONT)

    await world.run(freeze)


async def test_a_gateway_that_ends_gives_its_jobs_up_at_once(world):
    ending, other = world.replicas

    async def end():
        ending.process.terminate()
        assert await asyncio.to_thread(ending.process.wait, 10) == 0
        begun = time.monotonic()
        await until(lambda: world.holders() == {other.name: JOBS}, HOLD)
        assert time.monotonic() - begun < HOLD / 2

    await world.run(end)


async def test_killed_while_jobs_are_submitted_and_launched_none_is_lost_or_doubled(world):
    killed, other = world.replicas
    submitting = asyncio.create_task(world.submit())
    await until((world.folder / "platform" / "launches").exists, 20, every=0.001)
    killed.kill()
    jobs = await submitting
    assert len(set(jobs)) == JOBS
    world.sent = Counter()
    enough = asyncio.Event()
    enough.set()
    await asyncio.gather(*(world.feed(job, enough) for job in jobs))
    for job, text in zip(jobs, await asyncio.gather(*(world.read(job) for job in jobs)), strict=True):
        await world.check(job, text)
    with psycopg.connect(world.database) as connection:
        (rows,) = connection.execute("SELECT count(*) FROM jobs").fetchone()
    assert rows == JOBS, "the answer that was lost made no second job"
    assert Counter((world.folder / "platform" / "starts").read_text().split()) == {f"{job}-1": 1 for job in jobs}
    assert other.process.poll() is None
