"""What the status of a pod, or of a Job that has none, says of its container. Pure."""

from datetime import datetime
from typing import Any

from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import Pod

from gateway.launchers.base import InstanceSighting, Phase, Trouble

GATEWAY, ATTEMPT, INDEX = "flaregate.io/gateway", "flaregate.io/attempt", "flaregate.io/index"
_PULL = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_DISK = ("ephemeral", "EmptyDir")
_SIGNALLED = 128


def sighting_of(pod: Pod) -> tuple[str, InstanceSighting]:
    """The attempt and what is seen of its container."""
    labels = (pod.metadata.labels if pod.metadata else None) or {}
    index = int(labels.get(INDEX, "0"))
    return labels.get(ATTEMPT, ""), _sighting(pod, index)


def sighting_of_job(job: Job) -> tuple[str, InstanceSighting]:
    """The attempt and what is known of a container without a pod: it waits for one, or its Job has ended."""
    labels = (job.metadata.labels if job.metadata else None) or {}
    index, status = int(labels.get(INDEX, "0")), job.status
    if status is None or not (status.failed or status.succeeded):
        return labels.get(ATTEMPT, ""), InstanceSighting(index, Phase.PENDING)
    told = next((one for one in status.conditions or () if one.type == "Failed"), None)
    story = f"{told.reason or ''} {told.message or ''}".strip() if told else ""
    return labels.get(ATTEMPT, ""), InstanceSighting(index, Phase.ENDED, story=story)


def _sighting(pod: Pod, index: int) -> InstanceSighting:
    status = pod.status
    told = next(iter((status.containerStatuses if status else None) or ()), None)
    state = told.state if told else None
    if state is not None and state.terminated is not None:
        return _ended(index, state.terminated)
    phase = (status.phase if status else None) or "Pending"
    if phase in ("Failed", "Succeeded"):  # evicted, or refused by its node: the container has never run
        reason = f"{(status.reason if status else '') or ''} {(status.message if status else '') or ''}".strip()
        disk = Trouble.OUT_OF_DISK if any(word in reason for word in _DISK) else None
        return InstanceSighting(index, Phase.ENDED, trouble=disk, story=reason)
    if state is not None and state.running is not None:
        return InstanceSighting(index, Phase.RUNNING, _time(state.running.startedAt))
    waiting = state.waiting if state else None
    reason, message = (waiting.reason or "", waiting.message or "") if waiting else ("", "")
    trouble = Trouble.IMAGE_PULL if reason in _PULL else None
    return InstanceSighting(index, Phase.PENDING, trouble=trouble, story=f"{reason} {message}".strip())


def _ended(index: int, ended: Any) -> InstanceSighting:
    code = ended.exitCode
    signalled = _SIGNALLED - code if code is not None and code > _SIGNALLED else code
    trouble = Trouble.OUT_OF_MEMORY if ended.reason == "OOMKilled" else None
    story = "" if ended.reason in ("Completed", "Error", None) else str(ended.reason)
    return InstanceSighting(
        index, Phase.ENDED, _time(ended.startedAt), _time(ended.finishedAt), signalled, trouble, story
    )


def _time(found: datetime | str | None) -> datetime | None:
    return datetime.fromisoformat(found) if isinstance(found, str) else found
