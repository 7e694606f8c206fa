"""A gateway over real HTTP in this process, on a platform that is a double."""

import asyncio
import contextlib
import socket

import uvicorn

from tests.doubles import InstantLauncher
from tests.gateway.conftest import Deployed


@contextlib.asynccontextmanager
async def served(folder, **settings):
    """Its URLs are good for other threads and processes."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        gateway = Deployed(folder, InstantLauncher(), url=url, **settings)
        gateway.reconcile()
        server = uvicorn.Server(uvicorn.Config(gateway.app, log_config=None, lifespan="off"))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        gateway.url = url
        try:
            yield gateway
        finally:
            server.should_exit = True
            await serving
            await gateway.close()
