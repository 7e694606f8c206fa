"""Runs attempts as job runs of IBM Cloud Code Engine. The one module that imports ibm_code_engine_sdk.

A run is one job run with an array: index 0 is the head. Its name says which attempt it is; Code Engine has no labels.
A replacement is a job run of its own. What the API lists is the only thing that is believed, once a tick.
"""

import asyncio
import json
import math
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeVar

from ibm_cloud_sdk_core import ApiException
from ibm_cloud_sdk_core.authenticators import Authenticator, IAMAuthenticator
from ibm_code_engine_sdk.code_engine_v2 import CodeEngineV2
from requests.exceptions import RequestException

from gateway.launchers.base import (
    CannotSee,
    Capabilities,
    Handle,
    InstanceSighting,
    LaunchFailed,
    LaunchOrder,
    LaunchRefused,
    Phase,
    Price,
    Quota,
    Sighting,
)
from gateway.launchers.code_engine_runs import attempt_of, instances, name_of_replacement, spec_of

API_VERSION = "2025-07-10"
PAYLOAD_BYTES = 8 * 1024
"""Of a job run's body at most: Code Engine takes 10 KiB."""
NAME_LENGTH = 63
MOST_SECONDS = 86_400
RECENT_SECONDS = 1.0
NEW_SECONDS = 60.0
"""How long a run that was just created may be missing in what the API lists."""
_GB = 1_000_000_000
SIZES: tuple[tuple[float, int], ...] = tuple(
    (cpus, int(memory * _GB))
    for cpus, sizes in (
        (0.125, (0.25, 0.5, 1)),
        (0.25, (0.5, 1, 2)),
        (0.5, (1, 2, 4)),
        (1, (2, 4, 8)),
        (2, (4, 8, 16)),
        (4, (8, 16, 32)),
        (6, (12, 24, 48)),
        (8, (16, 32)),
        (10, (20, 40)),
        (12, (24, 48)),
    )
    for memory in sizes
)
"""The combinations of vCPU and memory that Code Engine documents (2026-06)."""
PRICE = Price(
    vcpu_second=Decimal("0.00003431"),
    gib_second=Decimal("0.00000356") * 1024**3 / 10**9,
    currency="USD",
    source="IBM's list price of 2026-06 (for 10^9 bytes), without the free tier",
)
QUOTA = Quota(cpus=128, memory=512 * _GB, instances=250, runs=100)
_UNAUTHORIZED, _NOT_FOUND, _CONFLICT, _TOO_MANY, _SERVER_FAULT = 401, 404, 409, 429, 500
_QUOTA_WORDS = ("quota", "limit")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CodeEngineSettings:
    """The project, and how to get into it."""

    project: str
    region: str
    gateway: str
    """Begins the names of this gateway's runs: at most 12 lower-case letters and digits."""
    job: str
    """The job whose runs these are: it has the image, its secret and its service account."""
    key: str = field(repr=False)
    """An API key of IAM that may write in the project."""
    url: str | None = None
    iam_url: str | None = None
    peer_tcp: bool = True
    """Whether instances of a project reach each other by TCP; where they do not, a job runs on its head alone."""
    lease: float = 600.0
    environment: Mapping[str, str] = field(default_factory=dict)
    """What the image has; its label says so."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Further variables of each container."""
    price: Price | None = PRICE
    quota: Quota = QUOTA


class CodeEngineLauncher:
    """The launcher for one project."""

    def __init__(self, settings: CodeEngineSettings, clock: Callable[[], float] = time.monotonic) -> None:
        if not re.fullmatch(r"[a-z0-9]{1,12}", settings.gateway):
            raise LaunchRefused(f"the gateway's name {settings.gateway!r} is not 1 to 12 lower-case letters and digits")
        self._settings = settings
        self._clock = clock
        self._local = threading.local()
        self._created: dict[str, float] = {}
        """When a run was created by this process: it may not be listed yet."""
        self._names = defaultdict[str, set[str]](set)
        """The job runs of each attempt, as far as this process has seen them."""
        self._last: tuple[float, Mapping[str, Sequence[InstanceSighting]]] = (-math.inf, {})
        """When the API was last asked, and what it said."""
        self._quiet_until = 0.0
        """Until then the API has asked not to be asked."""
        quota = settings.quota
        self.capabilities = Capabilities(
            name="code_engine",
            peer_tcp=settings.peer_tcp,
            max_cpus=quota.cpus or math.inf,
            max_memory=quota.memory or 512 * _GB,
            gpus=0,
            lease=settings.lease,
            sizes=SIZES,
            max_seconds=MOST_SECONDS,
            linger=15,
            private_network=False,
            quota=quota,
            price=settings.price,
        )

    def environment(self) -> Mapping[str, str]:
        return self._settings.environment

    def handle(self, attempt: str) -> Handle:
        return Handle(attempt=attempt, name=f"{self._prefix}{attempt}")

    @property
    def _prefix(self) -> str:
        return f"fg-{self._settings.gateway}-"

    async def launch(self, order: LaunchOrder) -> Handle:
        handle = self.handle(order.attempt)
        await asyncio.to_thread(self._launch, handle.name, order, range(order.cluster.instances))
        for index in order.replacements:
            await asyncio.to_thread(self._launch, name_of_replacement(handle.name, index), order, (index,))
        return handle

    async def observe(self, handles: Collection[Handle]) -> Mapping[Handle, Sighting]:
        seen = await asyncio.to_thread(self._seen)
        return {handle: Sighting(tuple(sorted(seen.get(handle.attempt, ()), key=_index))) for handle in handles}

    async def list(self) -> Collection[Handle]:
        seen = await asyncio.to_thread(self._seen)
        return [self.handle(attempt) for attempt, run in seen.items() if not Sighting(tuple(run)).gone]

    async def kept(self) -> Collection[Handle]:
        now, seen = self._last  # whoever asks has just asked for the living ones
        if self._clock() - now > RECENT_SECONDS:
            seen = await asyncio.to_thread(self._seen)
        return [self.handle(attempt) for attempt, run in seen.items() if Sighting(tuple(run)).gone]

    async def stop(self, handle: Handle, *, force: bool = False) -> None:
        """Delete its job runs: Code Engine sends SIGTERM, and SIGKILL after its own time, whatever is asked for."""
        await asyncio.to_thread(self._delete, handle)

    async def forget(self, handle: Handle) -> None:
        await asyncio.to_thread(self._delete, handle)

    async def close(self) -> None:
        """Nothing is kept open."""

    def _launch(self, name: str, order: LaunchOrder, indices: Collection[int]) -> None:
        body = self._body(name, order, indices)
        size = len(json.dumps(body).encode())
        if len(name) > NAME_LENGTH or size > PAYLOAD_BYTES:
            raise LaunchRefused(f"the job run {name!r} would be {size} bytes; at most {PAYLOAD_BYTES}, and 63 letters")
        try:
            self._ask(lambda api: api.create_job_run(self._settings.project, **body))
        except ApiException as exc:
            if exc.status_code == _CONFLICT:
                return  # created before, by this gateway or by the one before it
            story = f"Code Engine did not take the job run {name}: {_story(exc)}"
            refused = exc.status_code < _SERVER_FAULT and exc.status_code not in (_TOO_MANY, _UNAUTHORIZED)
            if refused and not any(word in story.lower() for word in _QUOTA_WORDS):
                raise LaunchRefused(story) from exc
            raise LaunchFailed(story) from exc
        except (CannotSee, RequestException) as exc:
            raise LaunchFailed(f"Code Engine gave no answer to the launch of {name}: {exc}") from exc
        self._created[name] = self._clock()
        self._names[order.attempt].add(name)

    def _body(self, name: str, order: LaunchOrder, indices: Collection[int]) -> dict[str, Any]:
        cluster = order.cluster
        if (cluster.cpus, cluster.memory) not in SIZES:
            listed = ", ".join(f"{cpus:g} vCPU with {memory / _GB:g} GB" for cpus, memory in SIZES)
            asked = f"{cluster.cpus:g} vCPU with {cluster.memory / _GB:g} GB"
            raise LaunchRefused(f"{asked} is no size of Code Engine's; these are: {listed}")
        variables = {
            "FLAREGATE_URL": order.gateway_url,
            "FLAREGATE_ATTEMPT": order.attempt,
            "FLAREGATE_BOOTSTRAP": order.bootstrap,
            **self._settings.variables,
        }
        memory = f"{cluster.memory // 10**6}M" if cluster.memory % _GB else f"{cluster.memory // _GB}G"
        return {
            "name": name,
            "job_name": self._settings.job,
            "run_mode": "task",
            "run_env_variables": [{"type": "literal", "name": key, "value": value} for key, value in variables.items()],
            "scale_array_spec": spec_of(indices),
            "scale_cpu_limit": f"{cluster.cpus:g}",
            "scale_memory_limit": memory,
            "scale_ephemeral_storage_limit": memory,  # Ray's object store lies there: /dev/shm has 64 MB
            "scale_max_execution_time": int(min(MOST_SECONDS, max(60, order.max_seconds))),
            "scale_retry_limit": 0,
        }

    def _seen(self) -> Mapping[str, Sequence[InstanceSighting]]:
        """Every container of this gateway's by its attempt. Raises CannotSee."""
        runs = {str(run.get("name", "")): run for run in self._listed()}
        own = {name: run for name, run in runs.items() if name.startswith(self._prefix)}
        now = self._clock()
        self._created = {name: at for name, at in self._created.items() if now - at < NEW_SECONDS and name not in own}
        found = defaultdict[str, Any](lambda: [])  # noqa: PIE807
        self._names = defaultdict(set)
        for name in (*own, *self._created):
            attempt, index = attempt_of(name.removeprefix(self._prefix))
            self._names[attempt].add(name)
            new = (InstanceSighting(index or 0, Phase.PENDING),)
            found[attempt].extend(instances(own[name], index) if name in own else new)
        self._last = (now, found)
        return found

    def _listed(self) -> Iterator[Mapping[str, Any]]:
        start: str | None = None
        while True:
            try:
                page = self._ask(
                    lambda api, start=start: api.list_job_runs(  # type: ignore[misc]
                        self._settings.project, job_name=self._settings.job, limit=100, start=start
                    )
                )
            except ApiException as exc:
                raise CannotSee(f"Code Engine did not list the job runs: {_story(exc)}") from exc
            except RequestException as exc:
                raise CannotSee(f"Code Engine gave no answer: {exc}") from exc
            yield from page.get("job_runs", ())
            start = (page.get("next") or {}).get("start")
            if not start:
                return

    def _delete(self, handle: Handle) -> None:
        for name in {handle.name} | self._names[handle.attempt]:
            try:
                self._ask(lambda api, name=name: api.delete_job_run(self._settings.project, name))  # type: ignore[misc]
            except ApiException as exc:
                if exc.status_code != _NOT_FOUND:
                    raise CannotSee(f"Code Engine did not delete {name}: {_story(exc)}") from exc
            except RequestException as exc:
                raise CannotSee(f"Code Engine gave no answer: {exc}") from exc
            self._created.pop(name, None)

    def _ask(self, request: Callable[[CodeEngineV2], Any]) -> Any:
        """One request; a token that is no longer taken is asked for anew, once. Raises ApiException and others."""
        if self._clock() < self._quiet_until:
            raise CannotSee("Code Engine has asked not to be asked for a while")
        try:
            return request(self._api()).get_result()
        except ApiException as exc:
            if exc.status_code == _TOO_MANY:
                self._quiet_until = self._clock() + _retry_after(exc)
            if exc.status_code != _UNAUTHORIZED:
                raise
        self._local.api = None
        return request(self._api()).get_result()

    def _api(self) -> CodeEngineV2:
        """A client of this thread's: its session is not to be shared."""
        api: CodeEngineV2 | None = getattr(self._local, "api", None)
        if api is None:
            api = CodeEngineV2(authenticator=self._authenticator(), version=API_VERSION)
            region = self._settings.region
            api.set_service_url(self._settings.url or f"https://api.{region}.codeengine.cloud.ibm.com/v2")
            api.set_http_config({"timeout": 30})
            self._local.api = api
        return api

    def _authenticator(self) -> Authenticator:
        return IAMAuthenticator(self._settings.key, url=self._settings.iam_url)


def _index(sighting: InstanceSighting) -> int:
    return sighting.index


def _story(exc: ApiException) -> str:
    return f"{exc.status_code} {exc.message}"


def _retry_after(exc: ApiException) -> float:
    headers = getattr(exc.http_response, "headers", None) or {}
    text = str(headers.get("Retry-After", "1"))
    return float(text) if text.replace(".", "", 1).isdigit() else 1.0
