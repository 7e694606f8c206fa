"""`flaregate doctor`: a job of next to nothing on the gateway's platform, and what came of it, step by step."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from rich.console import Console

from flaregate import flows
from flaregate.cli.exits import Exit, exit_of
from flaregate.client import Client, Job
from flaregate.errors import Refused
from flaregate.preflight import Step, definition, remarks, steps
from flaregate_wire.events import Event
from flaregate_wire.jobs import JobView
from flaregate_wire.problems import Code

LOG_LINES = 20


def check_platform(client: Client, wanted: str | None) -> str:
    """The name of the gateway's platform. Raises Refused where another one is wanted."""
    name = client.link.run(flows.asking_prices()).launcher
    if wanted is not None and wanted != name:
        told = (
            f"the gateway at {client.url} launches on {name!r}, not {wanted!r}: name the other gateway with "
            f"FLAREGATE_URL, or start one with FLAREGATE_LAUNCHER={wanted}"
        )
        raise Refused(told, code=Code.INVALID_REQUEST)
    return name


@dataclass(frozen=True, slots=True)
class Found:
    """What came of the job."""

    platform: str
    view: JobView
    steps: Sequence[Step]
    remarks: Sequence[str]
    log: Sequence[str]
    """The last lines that its containers wrote."""


def begin(client: Client, timeout: float) -> Job:
    """Submit the job for a head and a worker; for a head alone where the platform is set to have no others."""
    try:
        return client.submit_definition(definition(1, timeout))
    except Refused as refused:
        if all(fault.rule != "no_peer_tcp" for fault in refused.errors):
            raise
        return client.submit_definition(definition(0, timeout))


def examine(job: Job, platform: str, show: Callable[[Event], None]) -> Found:
    """Follow the job to its end; every event is shown meanwhile."""
    events: list[Event] = []
    for event in job.events():
        show(event)
        events.append(event)
    view = job.wait()
    return Found(platform, view, steps(events, view), remarks(events), list(job.logs(tail=LOG_LINES)))


def show(out: Console, found: Found) -> None:
    """A line for each step, what to do about the first that did not happen, and then what was said and logged."""
    view = found.view
    alone = "" if view.cluster.workers else f", on a head alone: {view.cluster.why}"
    _print(out, f"{view.id} on {found.platform!r}{alone}")
    for step in found.steps:
        when = "   –     " if step.seconds is None else f"{step.seconds:7.2f} s"
        _print(out, f"{'no' if step.seconds is None else 'ok':<3} {when}  {step.name}")
        if step.advice is not None:
            _print(out, f"               → {step.advice}")
    if exit_for(view, found.steps) is Exit.SUCCEEDED:
        return
    for line in (*found.remarks, f"{view.state}: {view.message or 'without a message'}", *found.log):
        _print(out, line)


def as_json(found: Found) -> str:
    """The same for programs."""
    view = found.view
    told = {"platform": found.platform, "job": view.id, "state": view.state, "reason": view.reason}
    more = {"message": view.message, "remarks": list(found.remarks), "log": list(found.log)}
    return json.dumps({**told, **more, "steps": [asdict(step) for step in found.steps]})


def exit_for(view: JobView, found: Sequence[Step]) -> Exit:
    """0 where every step happened; else as the job ended, or the platform's fault."""
    if all(step.seconds is not None for step in found):
        return exit_of(view)
    return exit_of(view) or Exit.PLATFORM


def _print(out: Console, line: str) -> None:
    out.print(line, markup=False, highlight=False)
