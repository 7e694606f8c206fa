"""Platforms and containers that are not there: instant, slow, refusing, blind, forgetful, stubborn."""

import asyncio
import inspect
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from gateway.launchers.base import (
    Barred,
    CannotSee,
    Capabilities,
    Handle,
    InstanceSighting,
    LaunchFailed,
    LaunchRefused,
    Phase,
    Sighting,
)

BOOT = "boot-1"


class Clock:
    """The time, and how to move it on."""

    def __init__(self):
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self):
        return self.time

    def pass_by(self, seconds):
        self.time += timedelta(seconds=seconds)


@dataclass
class InstantLauncher:
    """Containers run as soon as they are asked for, and end as soon as they are told to."""

    clock: object = field(default_factory=Clock)
    platform: Capabilities = Capabilities(
        name="double", peer_tcp=True, max_cpus=16, max_memory=64_000_000_000, gpus=0, lease=60
    )
    has: dict = field(default_factory=lambda: {"python": "3.11.7", "scikit-learn": "1.9.1", "ray": "2.60.0"})
    orders: list = field(default_factory=list)
    runs: dict = field(default_factory=dict)
    stops: list = field(default_factory=list)
    forgotten: list = field(default_factory=list)
    looks: int = 0

    @property
    def capabilities(self):
        return self.platform

    def environment(self):
        return self.has

    def handle(self, attempt):
        return Handle(attempt, f"run-{attempt}")

    async def launch(self, order):
        self.orders.append(order)
        run = self.runs.setdefault(order.attempt, {})
        for index in order.indices:
            run.setdefault(index, InstanceSighting(index, Phase.RUNNING, self.clock()))
        return self.handle(order.attempt)

    def end(self, attempt, index=0, code=0):
        run = self.runs[attempt]
        if run[index].phase is not Phase.ENDED:
            run[index] = replace(run[index], phase=Phase.ENDED, ended=self.clock(), exit_code=code)

    async def observe(self, handles):
        self.looks += 1
        return {handle: Sighting(tuple(self.runs.get(handle.attempt, {}).values())) for handle in handles}

    async def stop(self, handle, *, force=False):
        self.stops.append((handle.attempt, force))
        for index in self.runs.get(handle.attempt, {}):
            self.end(handle.attempt, index, -9 if force else -15)

    async def list(self):
        return [self.handle(attempt) for attempt, run in self.runs.items() if not Sighting(tuple(run.values())).gone]

    async def kept(self):
        ended = (attempt for attempt, run in self.runs.items() if Sighting(tuple(run.values())).gone)
        return [self.handle(attempt) for attempt in ended if attempt not in self.forgotten]

    async def forget(self, handle):
        self.forgotten.append(handle.attempt)


class SlowLauncher(InstantLauncher):
    """Accepts, and nothing ever starts."""

    async def launch(self, order):
        handle = await super().launch(order)
        self.runs[order.attempt] = {index: InstanceSighting(index, Phase.PENDING) for index in self.runs[order.attempt]}
        return handle


class RefusingLauncher(InstantLauncher):
    """Never takes an order."""

    async def launch(self, order):
        raise LaunchRefused("no such size")


@dataclass
class FailingLauncher(InstantLauncher):
    """Takes the order after some failures; the answer to each may have been lost after the launch."""

    failures: int = 2
    launches_before_failing: bool = False

    async def launch(self, order):
        if self.launches_before_failing:
            await super().launch(order)
        if self.failures:
            self.failures -= 1
            raise LaunchFailed("503 from the platform")
        return await super().launch(order)


@dataclass
class BlindLauncher(InstantLauncher):
    """Runs everything, and cannot say so while it is blind."""

    blind: bool = True

    async def observe(self, handles):
        self.looks += 1
        if self.blind:
            raise CannotSee("429 from the platform")
        return await super().observe(handles)

    async def list(self):
        if self.blind:
            raise CannotSee("429 from the platform")
        return await super().list()


@dataclass
class BarringLauncher(InstantLauncher):
    """Takes no credentials until someone has mended them; what runs there goes on."""

    barred: str | None = "the API key is not taken"

    def _enter(self):
        if self.barred:
            raise Barred(self.barred)

    async def launch(self, order):
        self._enter()
        return await super().launch(order)

    async def observe(self, handles):
        self._enter()
        return await super().observe(handles)

    async def list(self):
        self._enter()
        return await super().list()


class ForgetfulLauncher(InstantLauncher):
    """Knows nothing of a run that has ended."""

    async def observe(self, handles):
        seen = await super().observe(handles)
        return {handle: Sighting() if sighting.gone else sighting for handle, sighting in seen.items()}


class StubbornLauncher(InstantLauncher):
    """Ends nothing unless it is forced."""

    async def stop(self, handle, *, force=False):
        if force:
            await super().stop(handle, force=True)
        else:
            self.stops.append((handle.attempt, False))


class Container:
    """One container as the gateway sees it: it asks for its order, reports, and commits."""

    def __init__(self, http, attempt, bootstrap, index=0, boot=BOOT):
        self.http, self.attempt, self.index, self.boot = http, attempt, index, boot
        self.bootstrap, self.sent, self.token = bootstrap, 0, None

    def _path(self, name):
        return f"/v1/attempts/{self.attempt}/{name}"

    @property
    def _shown(self):
        return {"Authorization": f"Bearer {self.token}"}

    async def order(self):
        answer = await self.http.get(
            self._path("order"),
            params={"index": self.index, "boot": self.boot},
            headers={"Authorization": f"Bearer {self.bootstrap}"},
        )
        if answer.status_code == 200:
            self.token = answer.json()["token"]
        return answer

    async def send(self, *events, first=None):
        body = {"boot": self.boot, "first": self.sent if first is None else first, "events": events}
        answer = await self.http.post(self._path("events"), json=body, headers=self._shown)
        if answer.status_code == 200:
            self.sent = answer.json()["acknowledged"]
        return answer

    async def register(self, address="127.0.0.2:6379"):
        return await self.http.put(
            self._path("head"), json={"boot": self.boot, "address": address}, headers=self._shown
        )

    async def rendezvous(self, **params):
        return await self.http.get(self._path("head"), params=params, headers=self._shown)

    async def write(self, name, data):
        """Write an object under the attempt's prefix; gives its key."""
        answer = await self.http.post(self._path("objects"), json={"put": [name]}, headers=self._shown)
        ((key, transfer),) = answer.json()["put"]
        sent = await self.http.put(transfer["url"], content=data, headers=transfer["headers"])
        assert sent.status_code == 204, sent.text
        return key

    async def log(self, text, number=0, start=0):
        key = await self.write(f"logs/{self.index}/{number:06d}", text)
        return await self.send(log(self.index, key, start, len(text)))

    async def commit(self, **manifest):
        body = {"boot": self.boot, "succeeded": True, "result": {"outcomes": 0, "failed": 0}} | manifest
        return await self.http.post(self._path("commit"), json=body, headers=self._shown)


TIME = "2026-01-01T00:00:01.000000Z"


def progress(done, total=10):
    return {"type": "progress", "time": TIME, "done": done, "total": total}


def outcome(candidate, **more):
    return {"type": "outcome", "time": TIME, "candidate": candidate, "path": ["pca", "logistic"], **more}


def log(index, key, start, size):
    return {"type": "log", "time": TIME, "index": index, "key": key, "start": start, "size": size}


async def until(condition, seconds=20.0, every=0.01):
    """Wait for a condition, which may be awaitable; a falsy last value fails the test."""
    end = asyncio.get_running_loop().time() + seconds
    while True:
        found = condition()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        assert asyncio.get_running_loop().time() < end, "it did not come about"
        await asyncio.sleep(every)
