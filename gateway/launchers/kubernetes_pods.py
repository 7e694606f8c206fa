"""What the status of a pod, or of a Job without one, says of its container. Pure."""

import re
from datetime import datetime
from typing import Any

from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import Pod

from gateway.launchers.base import InstanceSighting, Phase, Trouble
from gateway.launchers.images import pull_trouble

GATEWAY, ATTEMPT, INDEX = "flaregate.io/gateway", "flaregate.io/attempt", "flaregate.io/index"
_PULL = frozenset(
    {
        "ErrImagePull",
        "ErrImageNeverPull",
        "ImageInspectError",
        "ImagePullBackOff",
        "InvalidImageName",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
_MAKE = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_OVER_LIMIT = re.compile(r"exceed\w* (the|its) .*limit")
"""How it is told of a pod that was evicted for what itself wrote, and not because its node had little room."""
_SIGNALLED = 128
_WITHOUT_POD = "its Job has no pod yet"


def sighting_of(pod: Pod) -> tuple[str, InstanceSighting]:
    """The attempt and what is seen of its container."""
    attempt, index = _place(pod.metadata.labels if pod.metadata else None)
    return attempt, _sighting(pod, index)


def sighting_of_job(job: Job) -> tuple[str, InstanceSighting]:
    """The attempt and what is known of a container without a pod: it waits for one, or its Job has ended."""
    attempt, index = _place(job.metadata.labels if job.metadata else None)
    status = job.status
    conditions = (status.conditions if status else None) or ()
    over = next((one for one in conditions if one.type in ("Failed", "Complete") and one.status == "True"), None)
    if status is None or not (status.failed or status.succeeded or over):
        return attempt, InstanceSighting(index, Phase.PENDING, story=_WITHOUT_POD)
    ended, story = (_time(over.lastTransitionTime), _story(over.reason, over.message)) if over else (None, "")
    return attempt, InstanceSighting(index, Phase.ENDED, ended=ended, story=story)


def taken_away(pod: Pod) -> str:
    """Why Kubernetes ends a pod of its own will: preempted, drained, evicted; empty where it does not."""
    return _condition(pod, "DisruptionTarget", "True")


def _place(labels: dict[str, str] | None) -> tuple[str, int]:
    given = labels or {}
    return given.get(ATTEMPT, ""), int(given.get(INDEX, "0"))


def _sighting(pod: Pod, index: int) -> InstanceSighting:
    status = pod.status
    state: Any = next((one.state for one in (status.containerStatuses if status else None) or ()), None)
    phase = (status.phase if status else None) or "Pending"
    ended = state.terminated if state else None
    if ended is not None or phase in ("Failed", "Succeeded"):  # or its container has never run
        return _ended(pod, index, ended)
    if state is not None and state.running is not None:
        return InstanceSighting(index, Phase.RUNNING, _time(state.running.startedAt), story=taken_away(pod))
    waiting = state.waiting if state else None
    story = _story(waiting.reason, waiting.message) if waiting else _condition(pod, "PodScheduled", "False")
    return InstanceSighting(
        index, Phase.PENDING, trouble=_waits(waiting.reason if waiting else None, story), story=story
    )


def _waits(reason: str | None, story: str) -> Trouble | None:
    """What is in the way of a container that has not begun."""
    if reason in _PULL:
        return pull_trouble(story)
    return Trouble.MISCONFIGURED if reason in _MAKE else None


def _ended(pod: Pod, index: int, ended: Any) -> InstanceSighting:
    """The container's end, and the pod's where Kubernetes ended it."""
    status: Any = pod.status
    whole = _story(status.reason, status.message) or taken_away(pod)
    full = Trouble.OUT_OF_DISK if status.reason == "Evicted" and _OVER_LIMIT.search(whole) else None
    if ended is None:
        return InstanceSighting(index, Phase.ENDED, trouble=full, story=whole)
    code = ended.exitCode
    signalled = _SIGNALLED - code if code is not None and code > _SIGNALLED else code
    trouble = Trouble.OUT_OF_MEMORY if ended.reason == "OOMKilled" else full
    own = "" if ended.reason in ("Completed", "Error", None) else _story(ended.reason, ended.message)
    story = "; ".join(filter(None, (own, whole)))
    return InstanceSighting(
        index, Phase.ENDED, _time(ended.startedAt), _time(ended.finishedAt), signalled, trouble, story
    )


def _condition(pod: Pod, kind: str, value: str) -> str:
    """Reason and message of a condition, where it has this value."""
    conditions = (pod.status.conditions if pod.status else None) or ()
    found = next((one for one in conditions if (one.type, one.status) == (kind, value)), None)
    return _story(found.reason, found.message) if found else ""


def _story(reason: str | None, message: str | None) -> str:
    return ": ".join(part.strip() for part in (reason, message) if part and part.strip())


def _time(found: datetime | str | None) -> datetime | None:
    return datetime.fromisoformat(found) if isinstance(found, str) else found
