"""A gateway at zero: seconds from the first request to its answer, by phase, against a bare FastAPI application."""

import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from benchmarks import harness
from benchmarks.harness import Claim
from tests.servers import postgres
from tests.servers.processes import free_ports
from tests.servers.s3 import environment, swift_server

ABOUT = (
    "Seconds from the start of a new process, on an empty home, to the answer of the first request: a list of jobs of "
    "a gateway on PostgreSQL and S3 whose tables are there, and a line of a bare FastAPI application on uvicorn. "
    "process: until Python runs; import: settings, launcher and modules; database: connecting, comparing the schema; "
    "ready: store asked, jobs taken up, listening; answer: the request itself. The platform's own time for a container "
    "comes on top."
)
PHASES = ("process", "import", "database", "ready", "answer")
TOKEN = "t" * 43
GATEWAY = """
import gc, json, sys, time
stamps = [time.time()]
gc.disable()
from gateway.platforms import launcher
from gateway.settings import load
settings = load()
platform = launcher(settings)
import gateway.main as main
assemble = main.assemble
def stamped(*given):
    stamps.append(time.time())
    made = assemble(*given)
    stamps.append(time.time())
    print(json.dumps(stamps), flush=True)
    return made
main.assemble = stamped
sys.exit(main.main(settings, platform))
"""
BARE = """
import json, os, time
stamps = [time.time()]
import uvicorn
from fastapi import FastAPI
app = FastAPI()
@app.get("/v1/jobs")
async def hello() -> dict[str, str]:
    return {"hello": "world"}
print(json.dumps([*stamps, time.time()]), flush=True)
uvicorn.run(app, port=int(os.environ["FLAREGATE_PORT"]), log_config=None)
"""


def started(program: str, given: dict[str, str]) -> list[float]:
    """Run a program, ask it until it answers, end it; gives seconds since its start: its stamps, ready, answered."""
    (port,) = free_ports(1)
    begin = time.time()
    with subprocess.Popen(
        [sys.executable, "-c", program], env=given | {"FLAREGATE_PORT": str(port)}, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            ready = answered(port)
            end = time.time()
            assert process.stdout is not None
            stamps = json.loads(process.stdout.readline())
        finally:
            process.terminate()
    return [stamp - begin for stamp in (*stamps, ready, end)]


def answered(port: int) -> float:
    """Ask until there is an answer; gives when the connection that got it was taken."""
    with httpx.Client(trust_env=False, timeout=30, headers={"Authorization": f"Bearer {TOKEN}"}) as http:
        while True:
            asked = time.time()
            try:
                http.get(f"http://127.0.0.1:{port}/v1/jobs").raise_for_status()
            except httpx.ConnectError:
                time.sleep(0.005)
            else:
                return asked


def woken(given: dict[str, str]) -> dict[str, float]:
    """A gateway by phase."""
    with TemporaryDirectory(prefix="flaregate-bench-") as home:
        times = started(GATEWAY, given | {"FLAREGATE_HOME": home})
    phases = zip(PHASES, (after - before for before, after in zip([0.0, *times], times, strict=False)), strict=True)
    return {**dict(phases), "wake": times[-1]}


def bare(given: dict[str, str]) -> dict[str, float]:
    """The application that does nothing."""
    _, imported, *_, end = started(BARE, given)
    return {"bare_import": imported, "bare": end}


def run(name: str, pairs: int = harness.PAIRS) -> None:
    """Measure pairs of both."""
    folder = TemporaryDirectory(prefix="flaregate-bench-")
    with postgres.running() as database, folder as place, swift_server(Path(place)) as s3:
        own = {"DATABASE_URL": database.database(), "TOKEN": TOKEN, "SECRET": secrets.token_hex(32)}
        given: dict[str, str] = environment(place, s3, s3.bucket(), **own)
        woken(given)  # makes the tables
        bare(given)
        rows: list[dict[str, Any]] = [bare(given) | woken(given) for _ in range(pairs)]
    told = [
        Claim("from the first request to the answer, s", "wake", None, "at most"),
        Claim("the same, against a bare FastAPI application", "wake", "bare", "at most"),
    ]
    notes = {"load_average": os.getloadavg()[0]}
    harness.keep(name, rows, told, ABOUT, notes=notes)
