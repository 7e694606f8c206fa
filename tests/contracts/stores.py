"""The stores that the suite runs on, each empty, with what a test cannot ask the contract for."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
from fastapi import FastAPI

from gateway.api import problems, staging
from gateway.jobs.claims import Claims
from gateway.jobs.database import Database
from gateway.stores.folder import FolderStore
from gateway.stores.s3 import Bucket, Connection, S3Store, connect

MIB = 1024 * 1024
PREFIX = "some/prefix"


@dataclass(frozen=True)
class Kit:
    """One store under test."""

    store: Any
    http: httpx.AsyncClient
    """A plain client, which reaches the gateway's own URLs too."""
    left: Callable[[], list[str]]
    """All that is kept: objects, drafts, uploads."""
    memory: int
    """Bytes that a put or a get may take."""


@contextlib.asynccontextmanager
async def folder(path, signer):
    store = FolderStore(path / "store", signer.sign)
    app = FastAPI()
    app.include_router(staging.router)
    problems.install(app)
    app.state.served, app.state.signer = store, signer
    async with httpx.AsyncClient(mounts={"http://gateway": httpx.ASGITransport(app)}) as http:
        files = (path / "store").rglob
        yield Kit(store, http, lambda: [str(file) for file in files("*") if file.is_file()], 8 * MIB)


@contextlib.asynccontextmanager
async def bucket(server, path, *, conditional=True, age=900, **how):
    """A new bucket of a server; the gateway that uses it has a database of its own."""
    name = server.bucket()
    client = connect(connection(server, **how))
    if not conditional:
        client.meta.events.register("before-sign.s3", _without_condition)
    database = Database(f"sqlite:///{path / 'claims.db'}")
    store = S3Store(Bucket(client, name, PREFIX, page_size=3), age, Claims(database).hold)
    try:
        async with httpx.AsyncClient() as http:
            yield Kit(store, http, lambda: _left(server, name), 48 * MIB)
    finally:
        await store.close()
        database.close()


def connection(server, **how):
    return Connection(server.endpoint, access_key=server.access_key, secret_key=server.secret_key, **how)


def _without_condition(request, **_):
    """As the service does that knows no condition: it never heard of it."""
    del request.headers["If-None-Match"]


def _left(server, name):
    with contextlib.closing(server.client()) as client:
        objects = client.list_objects_v2(Bucket=name).get("Contents", [])
        uploads = client.list_multipart_uploads(Bucket=name).get("Uploads", [])
    return [item["Key"] for item in (*objects, *uploads)]
