"""What the controllers of a real cluster do for Jobs: pods, deadlines, ends, and removing what has no owner."""

import contextlib
import secrets
from collections import defaultdict
from datetime import UTC, datetime, timedelta

from lightkube.core.exceptions import ApiError
from lightkube.resources.batch_v1 import Job, JobStatus
from lightkube.resources.core_v1 import Pod
from lightkube.types import PatchType

from tests.servers.kubelet import now

BACKOFF = ("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
DEADLINE = ("Failed", "DeadlineExceeded", "Job was active longer than specified deadline")
COMPLETE = ("Complete", "", "")


class Controllers:
    """A part of tests.servers.kubelet.at_work."""

    def __init__(self, api):
        self._api = api

    def step(self):
        pods = list(self._api.list(Pod))  # first: who deletes a Job and then its pod must not see another one made
        jobs = {one.metadata.uid: one for one in self._api.list(Job)}
        owned = defaultdict(list)
        for pod in pods:
            for owner in pod.metadata.ownerReferences or ():
                owned[owner.uid].append(pod)
        for uid, job in jobs.items():
            if any(owner.uid not in jobs for owner in job.metadata.ownerReferences or ()):
                self._delete(Job, job)
            elif job.status and job.status.conditions:
                self._over(job)
            else:
                self._work(job, owned[uid])
        for uid in owned.keys() - jobs.keys():
            self._end(owned[uid])

    def close(self):
        pass

    def _work(self, job, pods):
        """A Job has one pod that is not leaving, until one has ended."""
        phases = {pod.status.phase for pod in pods}
        if _past(job.metadata.creationTimestamp, job.spec.activeDeadlineSeconds):
            self._tell(job, {}, DEADLINE)  # without a count, as a real one may where a first write was too late
            self._end(pods)
        elif "Failed" in phases:
            self._tell(job, {"failed": 1}, BACKOFF)
        elif "Succeeded" in phases:
            self._tell(job, {"succeeded": 1}, COMPLETE)
        elif all(pod.metadata.deletionTimestamp for pod in pods):
            self._make(job)

    def _over(self, job):
        if _past(job.status.conditions[0].lastTransitionTime, job.spec.ttlSecondsAfterFinished):
            self._delete(Job, job)

    def _make(self, job):
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job.metadata.name, "uid": job.metadata.uid}
        pod = job.spec.template.to_dict() | {"apiVersion": "v1", "kind": "Pod"}
        pod["metadata"] = {
            "name": f"{job.metadata.name}-{secrets.token_hex(3)}",
            "labels": job.spec.template.metadata.labels,
            "ownerReferences": [owner | {"controller": True}],
        }
        self._api.create(Pod.from_dict(pod))

    def _tell(self, job, counts, condition):
        kind, reason, message = condition
        told = {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": now()}
        with contextlib.suppress(ApiError):
            found = {"status": counts | {"conditions": [told]}}
            self._api.patch(JobStatus, job.metadata.name, found, patch_type=PatchType.MERGE)

    def _end(self, pods):
        for pod in pods:
            if not pod.metadata.deletionTimestamp:
                self._delete(Pod, pod)

    def _delete(self, kind, one):
        with contextlib.suppress(ApiError):
            self._api.delete(kind, one.metadata.name)


def _past(begun, seconds):
    return datetime.now(UTC) > begun + timedelta(seconds=seconds)
