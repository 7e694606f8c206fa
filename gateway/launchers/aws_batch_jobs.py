"""What AWS Batch tells of a multi-node job, as sightings of its nodes. Pure.

`ListJobs` has the job; its nodes are the jobs `ID#0`, `ID#1` …, which `DescribeJobs` has once they are placed.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from gateway.launchers.base import InstanceSighting, Phase, Trouble
from gateway.launchers.images import pull_trouble

_PHASES = {"RUNNING": Phase.RUNNING, "SUCCEEDED": Phase.ENDED, "FAILED": Phase.ENDED}
_REPLACEMENT = re.compile(r"(.*)-r(\d+)")
_TROUBLES = {
    "outofmemory": Trouble.OUT_OF_MEMORY,
    "cannotpull": Trouble.IMAGE_RETRIED,
    "no space left on device": Trouble.OUT_OF_DISK,
}
_KILLED, _SIGNALLED = 137, 128


def part_of(name: str) -> tuple[str, int | None]:
    """The attempt in a job's name without its prefix, and the number of a replacement."""
    found = _REPLACEMENT.fullmatch(name)
    return (found[1], int(found[2])) if found else (name, None)


def nodes(job: Mapping[str, Any]) -> int:
    """How many it has."""
    return int((job.get("nodeProperties") or {}).get("numNodes") or 1)


def children(job: Mapping[str, Any]) -> Sequence[str]:
    """Ids of its nodes."""
    return [f"{job['jobId']}#{node}" for node in range(nodes(job))]


def instances(
    job: Mapping[str, Any], replacement: int | None, details: Mapping[str, Mapping[str, Any]]
) -> Sequence[InstanceSighting]:
    """Its nodes; one that Batch does not show yet is as the job is."""
    seen = []
    for node in range(nodes(job)):
        shown = details.get(f"{job['jobId']}#{node}")
        mine = dict(shown or job)
        if node and shown is None:
            mine.pop("container", None)  # the job's exit code is the head's
        if job["status"] == "FAILED" and _PHASES.get(str(mine["status"])) is not Phase.ENDED:
            mine |= {"status": "FAILED", "stoppedAt": job.get("stoppedAt")}  # never placed, or ended with the job
        seen.append(_sighting(node if replacement is None else replacement, mine, job))
    return seen


def _sighting(index: int, shown: Mapping[str, Any], job: Mapping[str, Any]) -> InstanceSighting:
    phase = _PHASES.get(str(shown["status"]), Phase.PENDING)
    if phase is Phase.PENDING:
        told = str(shown.get("statusReason") or "")
        return InstanceSighting(index, phase, trouble=_waits(told), story=told)
    started = _time(shown.get("startedAt")) or _time(job.get("startedAt"))
    if phase is Phase.RUNNING:
        return InstanceSighting(index, phase, started)
    container = shown.get("container") or {}
    story = "; ".join(str(text) for text in (shown.get("statusReason"), container.get("reason")) if text)
    ended = _time(shown.get("stoppedAt")) or _time(job.get("stoppedAt"))
    return InstanceSighting(
        index, phase, started or ended, ended, _signed(container.get("exitCode")), _trouble(story), story
    )


def _signed(code: int | None) -> int | None:
    return _SIGNALLED - code if code is not None and code > _SIGNALLED else code


def _trouble(story: str) -> Trouble | None:
    low = story.lower()
    found = next((trouble for words, trouble in _TROUBLES.items() if words in low), None)
    return pull_trouble(story) if found is Trouble.IMAGE_RETRIED else found


def _waits(story: str) -> Trouble | None:
    """What Batch says of a job that its queue can never place."""
    return Trouble.MISCONFIGURED if story.startswith("MISCONFIGURATION") else None


def _time(milliseconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None
