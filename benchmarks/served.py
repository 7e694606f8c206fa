"""A gateway process on a platform that is a double: the benchmark itself plays the containers."""

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from gateway.jobs.keys import Keys
from tests.doubles import Container, until

TOKEN = "t" * 43
EXAMPLE = json.loads(Path("examples/digits.json").read_text())


@dataclass(frozen=True, slots=True)
class Served:
    """The process, and what it takes to talk to it as a user and as a container."""

    port: int
    pid: int
    keys: Keys

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def client(self, **settings: Any) -> httpx.AsyncClient:
        """A user's connection."""
        return httpx.AsyncClient(base_url=self.url, headers={"Authorization": f"Bearer {TOKEN}"}, **settings)

    async def submit(self, http: httpx.AsyncClient) -> str:
        """A job's id."""
        return str((await http.post("/v1/jobs", json=EXAMPLE)).raise_for_status().json()["id"])

    async def container(self, http: httpx.AsyncClient, job: str) -> Any:
        """The head of a job's first attempt, with its order."""
        head = Container(http, f"{job}-1", self.keys.bootstrap(f"{job}-1"))

        async def ordered() -> bool:
            return (await head.order()).status_code == httpx.codes.OK

        await until(ordered, 10)
        return head

    def memory(self, *, peak: bool = False) -> float:
        """MB that it has now, or the most since `forget_peak`."""
        wanted = "VmHWM:" if peak else "VmRSS:"
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1000 for line in lines if line.startswith(wanted))

    def forget_peak(self) -> None:
        """From here on the peak counts."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")


@contextmanager
def gateway(**settings: Any) -> Iterator[Served]:
    """Start one; it is ended at the end."""
    from gateway.home import Home

    with TemporaryDirectory(prefix="flaregate-bench-") as folder:
        given = json.dumps({"home": folder, "token": TOKEN, **settings})
        command = [sys.executable, "-c", "from benchmarks.served import serve; serve()", given]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                port = int(process.stdout.readline())
                yield Served(port, process.pid, Keys(Home(Path(folder)).secret()))
            finally:
                process.terminate()


def serve() -> None:
    """In a process of its own."""
    import uvicorn

    from gateway.home import Home
    from gateway.main import assemble
    from gateway.settings import Settings
    from tests.doubles import InstantLauncher

    settings = Settings(**json.loads(sys.argv[1]))
    home = Home(settings.home)
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    launcher = InstantLauncher(clock=lambda: datetime.now(UTC))
    assembled = assemble(settings, home, f"http://127.0.0.1:{port}", launcher)
    config = uvicorn.Config(assembled.app, log_config=None, access_log=False)
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    asyncio.run(uvicorn.Server(config).serve(sockets=[listening]))
