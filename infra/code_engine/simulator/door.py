"""The simulator's own door, `/_simulator`: faults, pace and the time to set; the bill and the requests to read."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request

from infra.code_engine.simulator.asking import Own, body_of
from infra.code_engine.simulator.checks import Refused
from infra.code_engine.simulator.project import Clock

router = APIRouter(prefix="/_simulator")


@router.post("/faults")
async def faults(request: Request, simulator: Own) -> dict[str, Any]:
    """Make things go wrong, by the names of `faults.Faults`; `expire` makes IAM's tokens of no use."""
    asked = await body_of(request)
    if asked.pop("expire", False):
        simulator.iam.tokens.clear()
    try:
        simulator.faults.set(asked)
    except (TypeError, ValueError, AttributeError) as problem:
        raise Refused(400, "unknown_fault", f"a fault has another form: {problem}") from problem
    return {"left": dict(simulator.faults.left)}


@router.post("/pace")
async def pace(request: Request, simulator: Own) -> dict[str, float]:
    """Seconds that the platform takes, by the names of `project.Pace`."""
    asked = await body_of(request)
    known = asdict(simulator.project.pace)
    if not all(name in known and isinstance(value, int | float) for name, value in asked.items()):
        raise Refused(400, "unknown_pace", f"seconds of {', '.join(known)}")
    for name, value in asked.items():
        setattr(simulator.project.pace, name, float(value))
    return asdict(simulator.project.pace)


@router.post("/clock")
async def clock(request: Request, simulator: Own) -> dict[str, float]:
    """Put the time forward by so many seconds: `{"forward": 604800}`."""
    seconds = (await body_of(request)).get("forward")
    now = simulator.project.now
    if not isinstance(seconds, int | float) or seconds < 0 or not isinstance(now, Clock):
        raise Refused(400, "unknown_time", "forward: seconds from 0 on")
    now.ahead += seconds
    return {"ahead": now.ahead}


@router.get("/bill")
async def bill(simulator: Own) -> dict[str, Any]:
    billed, living = simulator.project.billed, len(simulator.project.living())
    return {"vcpu_seconds": billed.vcpu_seconds, "gb_seconds": billed.gb_seconds, "runs": billed.runs, "living": living}


@router.get("/requests")
async def requests(simulator: Own) -> dict[str, int]:
    return dict(simulator.requests)
