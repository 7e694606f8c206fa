"""This container's part of the Ray cluster: `ray start` as a child, from outside only. Nothing here imports Ray."""

import asyncio
import os
import re
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flaregate_wire.jobs import Cluster
from worker_image.processes import signal_me_when_parent_ends

_RAY = (sys.executable, "-c", "import sys; from ray.scripts.scripts import main; sys.exit(main())")
CONTAINER = "container-"
"""And its number: a resource of each node."""
_STORE_SHARE = 0.3
_STORE_MINIMUM = 80_000_000
_STARTED = re.compile(rb"Ray runtime started")
_ADDRESS = re.compile(rb"ray start --address='([^']+)'")
_LAST_LINES = 20
_CONNECT_SECONDS = 2.0
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


class RayBroken(Exception):
    """Ray did not start, or has ended by itself; the message has its last lines."""


def ray_environment(inherited: Mapping[str, str], token: str, temp: Path) -> dict[str, str]:
    """What Ray and everything that uses it is started with; `temp` is for temporary files of user code."""
    return {
        **inherited,
        "TMPDIR": str(temp),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_gcs_rpc_server_reconnect_timeout_s": "1",  # else a worker outlives its head by a minute
        "PYTHONUNBUFFERED": "1",  # else the last line before a SIGKILL is lost
        **dict.fromkeys(_THREADS, "1"),  # a task has one CPU: more threads than that only get in each other's way
    }


def start_command(node_ip: str, temp: Path, cluster: Cluster, join: str | None, index: int = 0) -> list[str]:
    """`ray start` for a head, or for a node that joins the head at `join`; every port is a free one.

    The node has its container's number as a resource, by which the driver knows it.
    """
    role = (
        [f"--address={join}"]
        if join
        else ["--head", "--port=0", "--include-dashboard=false", "--no-monitor", "--include-log-monitor=false"]
    )
    return [
        *_RAY,
        "start",
        *role,
        "--block",
        "--disable-usage-stats",
        "--log-color=false",
        f"--node-ip-address={node_ip}",
        f"--temp-dir={temp}",
        f"--num-cpus={max(1, int(cluster.cpus))}",
        f"--num-gpus={cluster.gpus}",
        f'--resources={{"{CONTAINER}{index}": 1}}',
        f"--object-store-memory={max(_STORE_MINIMUM, int(cluster.memory * _STORE_SHARE))}",
    ]


@dataclass(slots=True)
class RayNode:
    """A running `ray start --block`."""

    process: asyncio.subprocess.Process
    lines: deque[bytes]

    @classmethod
    async def start(cls, command: Sequence[str], environment: Mapping[str, str], nice: int = 0) -> "RayNode":
        """`nice` is what its processes step back behind others."""

        def in_child() -> None:
            signal_me_when_parent_ends()
            os.nice(nice)

        process = await asyncio.create_subprocess_exec(
            *command,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            preexec_fn=in_child,
        )
        return cls(process, deque(maxlen=_LAST_LINES))

    async def head_ready(self, patience: float) -> str:
        """Wait until a cluster can be joined, and give host:port of its GCS. Raises RayBroken."""
        return (await self._wait_for(_ADDRESS, patience)).group(1).decode()

    async def joined(self, patience: float) -> None:
        """Wait until this node is in the cluster. Raises RayBroken."""
        await self._wait_for(_STARTED, patience)

    async def ended(self) -> str:
        """Wait until Ray has ended by itself, and tell how."""
        while await self._next_line():
            pass
        return self._story(f"Ray ended with exit code {await self.process.wait()}")

    async def _wait_for(self, sign: re.Pattern[bytes], patience: float) -> re.Match[bytes]:
        """Wait for Ray's own word: its port accepts connections before it can be used."""
        try:
            async with asyncio.timeout(patience):
                while line := await self._next_line():
                    if match := sign.search(line):
                        return match
                raise RayBroken(self._story(f"Ray ended with exit code {await self.process.wait()}"))
        except TimeoutError as exc:
            raise RayBroken(self._story(f"Ray was not ready after {patience:.0f} s")) from exc

    async def _next_line(self) -> bytes:
        assert self.process.stdout is not None  # noqa: S101 - it was started with a pipe
        line = await self.process.stdout.readline()
        if line.strip():
            self.lines.append(line.rstrip())
        return line

    def _story(self, fact: str) -> str:
        lines = b"\n".join(self.lines).decode(errors="replace")
        return f"{fact}; its last lines:\n{lines}"


async def listens(address: str) -> bool:
    """Whether anything accepts connections at host:port."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(host, int(port))
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
