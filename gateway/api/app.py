"""The ASGI application: routes, guard and problems put together."""

from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI

from gateway.api import about, attempts, garbage, jobs, logs, problems, staging
from gateway.api.describe import document
from gateway.api.guard import Guard
from gateway.api.identity import Identity
from gateway.api.streams import Pace, Places
from gateway.jobs.service import Service
from gateway.stores.signing import ServedStore, UrlSigner

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class Parts:
    """What the routes use."""

    service: Service
    served: ServedStore | None
    """The store, where the gateway serves its URLs."""
    signer: UrlSigner
    identity: Identity
    pace: Pace


def create(parts: Parts | None, hosts: Collection[str] = (), lifespan: Lifespan | None = None) -> FastAPI:
    """The application; without parts it can only describe itself."""
    app = FastAPI(
        title="flaregate",
        version="1",
        description="Runs pipelines on Ray clusters that exist only while they work. Times are RFC 3339 UTC, durations "
        "seconds, sizes bytes. Every error is `application/problem+json`.",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    for module in (jobs, logs, garbage, staging, attempts, about):
        app.include_router(module.router)
    problems.install(app)
    app.add_middleware(Guard, hosts=tuple(hosts))
    if parts is not None:
        for name in ("service", "served", "signer", "identity", "pace"):
            setattr(app.state, name, getattr(parts, name))
        app.state.places = Places(parts.pace.most)
    described: dict[str, Any] = {}

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> dict[str, Any]:
        if not described:
            described.update(document(app))
        return described

    return app
