"""The job of `flaregate doctor`, and what its events say of the platform: which steps worked, when, and what to do."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flaregate_wire.definitions import JobDefinition
from flaregate_wire.events import AttemptEvent, AttemptPhase, ConditionEvent, Event, LogEvent, OutcomeEvent
from flaregate_wire.jobs import JobView

CELLS = 12
"""Calls; with half a second each there are some for every node."""
_FUNCTION = "worker_image.preflight:probe"


def definition(workers: int, timeout: float) -> JobDefinition:
    """A job that does next to nothing on a head, and on a worker where there is one."""
    return JobDefinition.model_validate(
        {
            "pipeline": {"name": "doctor", "nodes": [{"name": "probe", "kind": "function", "import": _FUNCTION}]},
            "action": "sweep",
            "axes": [{"node": "probe", "param": "cell", "values": list(range(CELLS))}],
            "resources": {"workers": workers, "min_workers": workers, "cpus": 1},
            "limits": {"timeout": timeout, "retries": 0},
            "cache": "off",
        }
    )


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that has to work."""

    name: str
    seconds: float | None
    """Since the job was created; None where it did not happen."""
    advice: str | None = None
    """What to do where it did not happen, and what comes before it did."""


@dataclass(frozen=True, slots=True)
class _Expected:
    name: str
    advice: str
    seen: Callable[[Event, JobView], bool]
    worker: bool = False
    """Only where there is one; a head alone begins without Ray."""


def steps(events: Sequence[Event], view: JobView) -> list[Step]:
    """What happened of what should have, in order; the first that did not has an advice.

    Args:
        events: Of the job, until its end.
        view: The job when it had ended.
    """
    found: list[Step] = []
    for expected in _EXPECTED:
        if expected.worker and not view.cluster.workers:
            continue
        when = next((event.time for event in events if expected.seen(event, view)), None)
        missed = when is None and all(step.seconds is not None for step in found)
        seconds = None if when is None else max(0.0, (when - view.created).total_seconds())
        found.append(Step(expected.name, seconds, expected.advice if missed else None))
    return found


def remarks(events: Sequence[Event]) -> list[str]:
    """What the gateway and the platform said meanwhile, each once."""
    told: dict[str, None] = {}
    for event in events:
        match event:
            case ConditionEvent(active=True, message=str() as message):
                told[f"{event.name}: {message}"] = None
            case AttemptEvent(phase="lost"):
                ended = ", ".join(f"{name} {value}" for name, value in event.detail.items())
                told[f"worker {event.index} was lost: {ended or 'the platform does not say how'}"] = None
            case _:
                pass
    return list(told)


def _reached(phase: AttemptPhase, index: int = 0) -> Callable[[Event, JobView], bool]:
    return lambda event, _: isinstance(event, AttemptEvent) and (event.phase, event.index) == (phase, index)


def _logged(index: int) -> Callable[[Event, JobView], bool]:
    return lambda event, _: isinstance(event, LogEvent) and event.index == index


def _worked(event: Event, view: JobView) -> bool:
    """Whether a worker has done any of it; that is known when all is done."""
    hosts = () if view.result is None else view.result.stats.hosts
    return isinstance(event, OutcomeEvent) and any(host.startswith("worker") for host in hosts)


_EXPECTED = (
    _Expected(
        "the platform took the launch",
        "see the gateway's log: the platform's credentials, quota and sizes",
        _reached("launched"),
    ),
    _Expected(
        "the head started and reached the gateway",
        "if the platform started no container, see its image, pull secret and room; if it did, set "
        "FLAREGATE_PUBLIC_URL to an address of the gateway that containers reach",
        _reached("booted"),
    ),
    _Expected(
        "Ray started on the head",
        "see the job's log; Ray needs 1 vCPU and 2 GB, and room in /dev/shm or /tmp",
        _reached("ray_ready"),
        worker=True,
    ),
    _Expected(
        "the worker started and reached the gateway",
        "the platform started the head and not the worker: see its room and quota",
        _reached("booted", 1),
        worker=True,
    ),
    _Expected(
        "the worker reached the head",
        "containers of a run must reach each other by TCP on all ports: see network policies and security groups; "
        "where they cannot, set FLAREGATE_CODE_ENGINE_PEER_TCP=false on Code Engine, else give jobs workers=0",
        _reached("joined", 1),
        worker=True,
    ),
    _Expected(
        "the head reached the store",
        "containers must reach the store's address, or the gateway's where it serves the store",
        _logged(0),
    ),
    _Expected(
        "the head reached the worker",
        "traffic goes both ways: the head opens connections to the worker, too; see network policies and security "
        "groups",
        _worked,
        worker=True,
    ),
    _Expected(
        "the worker reached the store",
        "containers must reach the store's address, or the gateway's where it serves the store",
        _logged(1),
        worker=True,
    ),
    _Expected("the outcome was committed", "see the message, and the job's log", _reached("committed")),
    _Expected("every container is gone", "see the gateway's log: the platform did not confirm it", _reached("gone")),
)
