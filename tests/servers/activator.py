"""What a platform has before an app that scales to zero: it starts it for a request, cuts long ones, ends it when idle."""

import asyncio
import contextlib
import subprocess
import sys
import threading
import time

import httpx
import uvicorn

from tests.servers.processes import free_ports

HOP = {b"connection", b"transfer-encoding", b"keep-alive"}


class Activator:
    """A proxy on loopback, in a thread of its own. Each start is a new gateway on a new, empty home."""

    def __init__(self, folder, settings, *, cut, idle):
        self.folder, self.settings, self.cut, self.idle = folder, settings, cut, idle
        self.starts, self.cuts, self.ends, self.requests = 0, 0, [], []
        self.process = None
        self._open, self._last, self._port = 0, 0.0, 0
        self._starting = asyncio.Lock()
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        config = uvicorn.Config(self, port=port, log_level="critical", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._server.install_signal_handlers = lambda: None
        self._thread = threading.Thread(target=self._server.run)

    @property
    def at_zero(self):
        return self.process is None

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            return await self._lifespan(receive, send)
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.requests.append((scope["method"], scope["path"]))
        self._open += 1
        try:
            async with asyncio.timeout(self.cut):
                await self._pass_on(scope, body, send)
        except TimeoutError:
            self.cuts += 1  # the answer is not whole: uvicorn closes the connection
        finally:
            self._open -= 1
            self._last = time.monotonic()
        return None

    async def _lifespan(self, receive, send):
        await receive()
        self._http = httpx.AsyncClient(timeout=None, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))
        watching = asyncio.create_task(self._watch())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        watching.cancel()
        await self._http.aclose()
        await asyncio.to_thread(self.stop)
        await send({"type": "lifespan.shutdown.complete"})

    async def _pass_on(self, scope, body, send):
        for _ in range(100):  # a gateway that is just ending takes no more requests: the next one is started
            await asyncio.shield(self._started())  # a start goes on when the request is cut
            url = f"http://127.0.0.1:{self._port}{scope['raw_path'].decode()}"
            if scope["query_string"]:
                url += f"?{scope['query_string'].decode()}"
            request = self._http.build_request(scope["method"], url, headers=scope["headers"], content=body)
            try:
                response = await self._http.send(request, stream=True)
                break
            except httpx.ConnectError:
                await asyncio.sleep(0.02)
        with contextlib.suppress(httpx.TransportError):  # cut off by the gateway: so is the answer
            async with contextlib.aclosing(response):
                headers = [(name, value) for name, value in response.headers.raw if name.lower() not in HOP]
                await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
                async for chunk in response.aiter_raw():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

    async def _started(self):
        async with self._starting:
            if self.process is not None and self.process.poll() is None:
                return
            await asyncio.to_thread(self._start)

    def _start(self):
        self.starts += 1
        home = str(self.folder / f"home-{self.starts}")
        (port,) = free_ports(1)
        own = {"HOME": home, "PORT": str(port), "PUBLIC_URL": self.url}
        settings = self.settings | {f"FLAREGATE_{name}": value for name, value in own.items()}
        with (self.folder / "gateway.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "gateway"], env=settings, stdout=subprocess.PIPE, stderr=log, text=True
            )
        line = process.stdout.readline()
        if not line:
            process.wait()
            process.stdout.close()
            raise RuntimeError((self.folder / "gateway.log").read_text()[-3000:])
        self.process, self._port, self._last = process, port, time.monotonic()

    async def _watch(self):
        while True:
            await asyncio.sleep(0.05)
            idle = not self._open and time.monotonic() - self._last > self.idle
            if self.process is not None and (idle or self.process.poll() is not None):
                async with self._starting:
                    await asyncio.to_thread(self.stop)

    def stop(self):
        """SIGTERM, as the platform does; how long it took is kept."""
        process, self.process = self.process, None
        if process is None:
            return
        start = time.monotonic()
        process.terminate()
        code = process.wait(20)
        process.stdout.close()
        self.ends.append((code, time.monotonic() - start))

    def kill(self):
        """As a machine that is gone."""
        process, self.process = self.process, None
        process.kill()
        process.wait()
        process.stdout.close()

    def open(self):
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)

    def close(self):
        self._server.should_exit = True
        self._thread.join()


@contextlib.contextmanager
def activator(folder, settings, *, cut, idle):
    made = Activator(folder, settings, cut=cut, idle=idle)
    made.open()
    try:
        yield made
    finally:
        made.close()
