"""A gateway over real HTTP in this process, on a platform that is a double."""

import asyncio
import contextlib
import socket

import uvicorn

from tests.doubles import InstantLauncher
from tests.gateway.conftest import Deployed


@contextlib.asynccontextmanager
async def listening(app):
    """An application over real HTTP; gives its URL, which is good for other threads and processes."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as place:
        place.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        serving = asyncio.create_task(server.serve(sockets=[place]))
        try:
            yield f"http://127.0.0.1:{place.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


@contextlib.asynccontextmanager
async def served(folder, launcher=None, **settings):
    """A gateway that works jobs off, with its `url`."""
    later = []

    async def app(scope, receive, send):
        await later[0].app(scope, receive, send)

    async with listening(app) as url:
        gateway = Deployed(folder, launcher or InstantLauncher(), url=url, **settings)
        later.append(gateway)
        gateway.reconcile()
        gateway.url = url
        try:
            yield gateway
        finally:
            await gateway.close()
