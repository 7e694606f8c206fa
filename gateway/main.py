"""The composition root: the one place that names concrete stores and launchers, and puts a gateway together."""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import FastAPI

from flaregate_wire.states import Reason
from gateway.api.app import Parts, create
from gateway.api.describe import document
from gateway.api.guard import host_of
from gateway.api.identity import OWNER, Identity
from gateway.api.streams import Pace
from gateway.awake import Awake
from gateway.home import Home, HomeTaken
from gateway.jobs.decisions import Rules
from gateway.jobs.dialects import DatabaseRefused
from gateway.jobs.keys import Keys
from gateway.jobs.policy import Policy
from gateway.jobs.reconciler import Cadence, Reconciler
from gateway.jobs.references import Places
from gateway.jobs.repository import SqlRepository
from gateway.jobs.service import Service, Times
from gateway.launchers.base import Launcher
from gateway.launchers.local_packages import Packages, folder_in
from gateway.settings import Settings
from gateway.stores.base import Store, StoreError
from gateway.stores.folder import FolderStore
from gateway.stores.references import FindsFiles
from gateway.stores.signing import UrlSigner
from gateway.stores.web import WebFiles

if TYPE_CHECKING:
    from gateway.stores.s3 import Connection

log = logging.getLogger("gateway")
USAGE = 2
DRAIN = 1
"""Seconds that other requests than streams and long polls have at the end; those end at once, and are resumed."""


def openapi() -> dict[str, Any]:
    """The description of the HTTP API, without a gateway."""
    return document(create(None))


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway put together, not yet serving."""

    settings: Settings
    repository: SqlRepository
    service: Service
    reconciler: Reconciler
    launcher: Launcher
    app: FastAPI
    awake: Awake | None


def assemble(settings: Settings, home: Home, url: str, launcher: Launcher) -> Gateway:
    """Build every part and hand each what it needs."""

    def clock() -> datetime:
        return datetime.now(UTC)

    secret = settings.secret.get_secret_value().encode() if settings.secret else home.secret()
    signer = UrlSigner(secret, url, settings.url_age, clock)
    repository = SqlRepository(settings.database, home.name(), settings.hold)
    served = FolderStore(home.store, signer.sign) if settings.store == "folder" else None
    store: Store = served or _bucket(settings, repository.claims.hold)
    keys = Keys(secret)
    lease = launcher.capabilities.lease
    times = Times(lease, settings.join_timeout, settings.url_age)
    policy = Policy(
        settings.cache_bytes,
        settings.cache_age,
        settings.keep,
        settings.keep_by_tenant,
        settings.garbage_age,
        settings.gc_interval,
    )
    service = Service(repository, store, launcher, keys, times, policy, clock, direct=served is None)
    if settings.node_tls is not None:
        service.containers.node_tls = settings.node_tls
    service.retention.packages = Packages(folder_in(home.path))
    linger = launcher.capabilities.linger if settings.linger is None else settings.linger
    can = launcher.capabilities
    rules = Rules(settings.launch_timeout, settings.grace, linger, lease, clock(), can.price, can.sizes, can.max_memory)
    cadence = Cadence(settings.tick, settings.reap_interval)
    reconciler = Reconciler(repository, launcher, keys, service, rules, cadence, url, clock)
    service.stirred, service.place, service.figures = reconciler.nudge, reconciler.place, reconciler.figures
    service.references.places = _places(settings)
    works = [reconciler.run, service.cache.run, service.archiver.run, service.retention.run, service.readiness.run]
    awake = None if settings.awake is None else Awake(url, settings.awake, lambda: not reconciler.attended)
    if awake is not None:
        works.append(awake.run)
    if repository.kind == "postgresql":
        from gateway.jobs.news import News  # noqa: PLC0415 - only PostgreSQL needs its driver

        news = News(settings.database, repository, service.feed, reconciler.nudge)
        service.stirred = news.stir
        works.append(news.run)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(work()) for work in works]
        yield
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await service.references.close()
        await store.close()
        repository.close()

    identity = Identity(home.token(settings.token.get_secret_value() if settings.token else None), keys)
    parts = Parts(service, served, signer, identity, Pace(settings.heartbeat, settings.stream_age, settings.streams))
    hosts = {*settings.allowed_hosts, host_of(url.partition("://")[2])}
    return Gateway(settings, repository, service, reconciler, launcher, create(parts, hosts, lifespan), awake)


def _bucket(settings: Settings, claim: Callable[[str], AbstractAsyncContextManager[None]]) -> Store:
    """The store in a bucket."""
    from gateway.stores.s3 import Bucket, S3Store, Seal, connect  # noqa: PLC0415 - boto3 takes half a second

    bucket = Bucket(connect(_connection(settings)), str(settings.s3_bucket), settings.s3_prefix)
    return S3Store(bucket, settings.url_age, claim, Seal(settings.s3_encryption, settings.s3_kms_key))


def _connection(settings: Settings) -> "Connection":
    """To the service that has the store's bucket."""
    from gateway.stores.s3 import Connection  # noqa: PLC0415 - boto3 takes half a second

    secret = settings.s3_secret_key
    return Connection(
        endpoint=settings.s3_endpoint,
        region=settings.s3_region,
        addressing=settings.s3_addressing,
        access_key=settings.s3_access_key,
        secret_key=secret.get_secret_value() if secret else None,
        ca=settings.s3_ca,
    )


def _places(settings: Settings) -> Places:
    """Where jobs may read files: the web, and buckets where the operator has said which."""
    stores: dict[str, FindsFiles] = {"https": WebFiles(settings.reference_hosts)}
    if settings.references:
        from gateway.stores.s3 import BucketFiles, Connection, connect  # noqa: PLC0415 - boto3 takes half a second

        elsewhere, secret = settings.references_endpoint, settings.references_secret_key
        connection = _connection(settings) if elsewhere is None else Connection(endpoint=elsewhere)
        if settings.references_region is not None:
            connection = replace(connection, region=settings.references_region)
        if settings.references_access_key is not None and secret is not None:
            key = settings.references_access_key
            connection = replace(connection, access_key=key, secret_key=secret.get_secret_value())
        stores["s3"] = BucketFiles(connect(connection), settings.url_age)
    return Places(stores, settings.references)


async def serve(gateway: Gateway, home: Home, listening: socket.socket, url: str) -> None:
    """Serve until asked to end; an embedded gateway also until no program holds it open."""
    gc.freeze()
    gc.enable()
    await gateway.service.readiness.begin()
    settings = gateway.settings
    config = uvicorn.Config(
        gateway.app, log_config=None, access_log=False, timeout_graceful_shutdown=DRAIN, server_header=False
    )
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.005)
    if server.started:
        home.announce(url, embedded=settings.embedded)
        sys.stdout.write(f"flaregate gateway ready on {url}\n")
        sys.stdout.flush()
        endings = {serving, asyncio.create_task(asked.wait())}
        if settings.embedded:
            endings.add(asyncio.create_task(_abandoned(home, settings, url)))
        await asyncio.wait(endings, return_when=asyncio.FIRST_COMPLETED)
        if settings.embedded:
            await _end_jobs(gateway)
    awake = gateway.awake if gateway.awake is not None and gateway.awake.needed() else None
    server.should_exit = True
    gateway.service.feed.close()
    await serving
    await gateway.launcher.close()
    if awake is not None:
        await awake.ask()


async def _abandoned(home: Home, settings: Settings, url: str) -> None:
    """Wait until no program holds this gateway open; the first one has some time to appear.

    Programs that come after the announced end start a gateway of their own; one that came just before it is waited for.
    """
    for _ in range(int(settings.openers_wait / settings.openers_interval)):
        if home.openers():
            break
        await asyncio.sleep(settings.openers_interval)
    ending = False
    while not ending:
        while home.openers():  # noqa: ASYNC110 - the kernel tells nobody of a freed lock
            await asyncio.sleep(settings.openers_interval)
        home.announce(url, embedded=True, ending=True)
        ending = not home.openers()
        if not ending:
            home.announce(url, embedded=True)


async def _end_jobs(gateway: Gateway) -> None:
    """Cancel what runs, and wait until it is gone; what takes too long is ended by force."""
    for job in await gateway.repository.active():
        await gateway.service.cancel(OWNER.tenant, job, Reason.CLIENT_GONE)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(gateway.settings.ending):
            while await gateway.repository.active():  # noqa: ASYNC110 - at the end, a few times
                await asyncio.sleep(gateway.settings.tick)
    for handle in await gateway.launcher.list():  # what could not be ended in time by asking
        await gateway.launcher.stop(handle, force=True)


def _listen(settings: Settings, home: Home) -> socket.socket:
    """The settings' port; for 0 the last one again, so that containers find a restarted gateway, or a free one."""
    last = str((home.address() or {}).get("url", "")).rpartition(":")[2]
    ports = [settings.port] if settings.port else [*([int(last)] if last.isdigit() else []), 0]
    for place, port in enumerate(ports):
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        # asyncio sends small answers at once (TCP_NODELAY) only where the protocol is named; else each may wait 40 ms
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((settings.host, port))
        except OSError:
            listening.close()
            if place == len(ports) - 1:
                raise
        else:
            return listening
    raise AssertionError(ports)


def main(settings: Settings, launcher: Launcher) -> int:
    """Run a gateway on its home; gives the exit code."""
    home = Home(settings.home)
    target = {"filename": home.path / "gateway.log"} if settings.embedded else {"stream": sys.stderr}
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s", **target
    )
    for chatty in ("alembic", "httpx", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        with home.locked(), _listen(settings, home) as listening:
            host, port = listening.getsockname()[:2]
            url = settings.public_url or f"http://{f'[{host}]' if ':' in host else host}:{port}"
            asyncio.run(serve(assemble(settings, home, url, launcher), home, listening, url))
    except HomeTaken as taken:
        sys.stderr.write(f"{taken}\n")
        return USAGE
    except DatabaseRefused as refused:
        sys.stderr.write(f"{refused}\n")
        return USAGE
    except StoreError as refused:
        sys.stderr.write(f"the store cannot be used: {refused}\n")
        return USAGE
    except OSError as error:
        sys.stderr.write(f"cannot listen on {settings.host}:{settings.port}: {error}\n")
        return USAGE
    return 0
