"""Cold start by phase on each platform that this machine can be: processes, containers, Code Engine's simulator."""

import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import flaregate as fg
from benchmarks import harness
from benchmarks.cold_start import cluster, trivial
from benchmarks.harness import Claim

ABOUT = (
    "Seconds since a job of one candidate was queued at a gateway that serves already, by phase and platform: local, a "
    "process; container, Podman with the worker's image, which is there already; code_engine, the simulator, whose "
    "instances are processes. ray_ready: of a job that works until Ray is there. local has all CPUs, the others one."
)
TOKEN = secrets.token_hex(32)
SIZES = {
    "local": {},
    "container": {"cpus": 1, "memory": 2_000_000_000},
    "code_engine": {"cpus": 1, "memory": 4 * 10**9},
}


@contextmanager
def gateway(folder: Path, settings: Mapping[str, str]) -> Iterator[fg.Client]:
    """A gateway process, and a client of it."""
    folder.mkdir()
    given = {**settings, "HOME": str(folder / "home"), "TOKEN": TOKEN}
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FLAREGATE_")}
    environment = clean | {f"FLAREGATE_{name}": value for name, value in given.items()}
    command = [sys.executable, "-m", "gateway"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[-1]
            with fg.Client(url, token=TOKEN) as client:
                yield client
        finally:
            process.terminate()


@contextmanager
def containers(folder: Path) -> Iterator[Mapping[str, str]]:
    """Settings for Podman, at an address that containers reach."""
    from tests.servers.machine import Machine

    folder.mkdir()
    with Machine(folder).up() as machine:
        yield {
            "HOST": machine.address,
            "GATEWAY": machine.name,
            "LAUNCHER": "container",
            "CONTAINER_SOCKET": machine.socket,
            "CONTAINER_IMAGE": machine.image,
        }


@contextmanager
def simulated(folder: Path) -> Iterator[Mapping[str, str]]:
    """Settings for the simulator of Code Engine."""
    from tests.servers.code_engine import code_engine

    with code_engine(folder) as simulator:
        yield simulator.of_gateway(PLATFORM_LEASE="600")


def run(name: str, pairs: int = harness.PAIRS) -> None:
    """Measure each platform in turn, several times."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flaregate-bench-")))
        settings: dict[str, Mapping[str, str]] = {
            "local": {"LAUNCHER": "local"},
            "container": stack.enter_context(containers(folder / "podman")),
            "code_engine": stack.enter_context(simulated(folder / "instances")),
        }
        clients = {
            platform: stack.enter_context(gateway(folder / platform, given)) for platform, given in settings.items()
        }
        rows = []
        for _ in range(pairs):
            row: dict[str, float] = {}
            for platform, client in clients.items():
                measured = trivial(client, **SIZES[platform]) | cluster(client, **SIZES[platform])
                row |= {f"{platform}_{phase}": seconds for phase, seconds in measured.items()}
            rows.append(row)
    title = "first outcome on {}, against processes of this machine"
    told = [
        Claim(title.format(platform), f"{platform}_first_outcome", "local_first_outcome", "at most")
        for platform in ("container", "code_engine")
    ]
    harness.keep(name, rows, told, ABOUT)
