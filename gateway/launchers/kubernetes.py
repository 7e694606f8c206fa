"""Runs attempts as Jobs of Kubernetes, one for each container. The one module that imports lightkube.

Each Job makes one pod and never another one; those of the workers are owned by the head's, so that all go with it. A
Job for each container, not one with many completions: a lost worker is replaced and an idle one let go by itself, on
every version of Kubernetes. Ended Jobs go by themselves after a while, should no gateway be left to remove them.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx2
from lightkube import AsyncClient, KubeConfig
from lightkube.core.exceptions import ApiError, ConfigError
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import Pod
from lightkube.types import CascadeType

from gateway.launchers.base import (
    NO_QUOTA,
    SHM_SHARE,
    Barred,
    CannotSee,
    Capabilities,
    Handle,
    InstanceSighting,
    LaunchFailed,
    LaunchOrder,
    LaunchRefused,
    Phase,
    Price,
    Quota,
    Sighting,
)
from gateway.launchers.kubernetes_pods import ATTEMPT, GATEWAY, INDEX, sighting_of, sighting_of_job, taken_away

CONTAINER = "flaregate"
KEPT_SECONDS = 3600
"""How long an ended Job stays if no gateway removes it."""
GRACE_SECONDS = 10
FORCED_SECONDS = 1
"""Not 0: then the API would say that a pod is gone before its node has ended it."""
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _CONFLICT, _TOO_MANY, _SERVER_FAULT = 401, 403, 404, 409, 429, 500
_NAME_LENGTH = 63


@dataclass(frozen=True, slots=True)
class KubernetesSettings:
    """The namespace, and what its pods are made of."""

    namespace: str
    image: str
    gateway: str
    kubeconfig: str | None = None
    """A file; without it the pod's own service account."""
    service_account: str | None = None
    """Of the workers' pods; its token is not mounted."""
    image_pull_secrets: tuple[str, ...] = ()
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    gpu_resource: str = "nvidia.com/gpu"
    lease: float = 600.0
    environment: Mapping[str, str] = field(default_factory=dict)
    quota: Quota = NO_QUOTA
    price: Price | None = None
    command: tuple[str, ...] = ()
    """Instead of the image's own."""
    patience: float = 30.0
    """Seconds for an answer of the API."""


class KubernetesLauncher:
    """The launcher for one namespace."""

    def __init__(self, settings: KubernetesSettings) -> None:
        """Raises LaunchRefused where there is no configuration to reach the cluster with."""
        try:
            config = (
                KubeConfig.from_file(settings.kubeconfig) if settings.kubeconfig else KubeConfig.from_service_account()
            )
        except (ConfigError, OSError) as exc:
            raise LaunchRefused(f"no way into Kubernetes: {exc}; set FLAREGATE_KUBERNETES_CONFIG") from exc
        self._settings = settings
        self._api = AsyncClient(config.get(), namespace=settings.namespace, timeout=httpx2.Timeout(settings.patience))
        self._known = defaultdict[str, dict[int, str]](dict)
        """The containers of each attempt that this process has seen or made, and why one was taken away."""
        quota = settings.quota
        self.capabilities = Capabilities(
            name="kubernetes",
            peer_tcp=True,
            max_cpus=quota.cpus or 100_000.0,
            max_memory=quota.memory or 2**60,
            gpus=1_000,
            lease=settings.lease,
            linger=10,
            private_network=False,
            quota=quota,
            price=settings.price,
        )

    def environment(self) -> Mapping[str, str]:
        return self._settings.environment

    def handle(self, attempt: str) -> Handle:
        return Handle(attempt=attempt, name=f"fg-{self._settings.gateway}-{attempt}")

    async def launch(self, order: LaunchOrder) -> Handle:
        """Make the head's Job, then those of the workers, which it owns. One that exists is adopted."""
        handle = self.handle(order.attempt)
        try:
            head = await self._make(handle, order, 0, None)
            for index in order.indices[1:]:
                if index not in self._known[order.attempt]:
                    await self._make(handle, order, index, head)
        except ApiError as exc:
            raise _refusal(handle.name, exc) from exc
        except httpx2.HTTPError as exc:
            raise LaunchFailed(f"Kubernetes gave no answer to the launch of {handle.name}: {exc!r}") from exc
        return handle

    async def observe(self, handles: Collection[Handle]) -> Mapping[Handle, Sighting]:
        seen = await self._seen({handle.attempt for handle in handles})
        return {handle: Sighting(tuple(seen.get(handle.attempt, ()))) for handle in handles}

    async def list(self) -> Collection[Handle]:
        seen = await self._seen()
        return [self.handle(attempt) for attempt, run in sorted(seen.items()) if not Sighting(tuple(run)).gone]

    async def kept(self) -> Collection[Handle]:
        seen = await self._seen()
        return [self.handle(attempt) for attempt, run in sorted(seen.items()) if Sighting(tuple(run)).gone]

    async def stop(self, handle: Handle, *, force: bool = False) -> None:
        """Delete its Jobs, which would make other pods, and then its pods, with the grace that is asked for."""
        async with self._seeing():
            await self._forget(handle)
            async for pod in self._api.list(Pod, labels=self._labels(handle.attempt)):
                name = pod.metadata.name if pod.metadata else None
                if name and not (pod.metadata and pod.metadata.deletionTimestamp and not force):
                    await self._gone(Pod, name, FORCED_SECONDS if force else GRACE_SECONDS)

    async def forget(self, handle: Handle) -> None:
        async with self._seeing():
            await self._forget(handle)

    async def close(self) -> None:
        await self._api.close()

    async def _forget(self, handle: Handle) -> None:
        async for job in self._api.list(Job, labels=self._labels(handle.attempt)):
            if job.metadata and job.metadata.name:
                await self._gone(Job, job.metadata.name)
        self._known.pop(handle.attempt, None)

    async def _gone(self, kind: type[Any], name: str, grace: int | None = None) -> None:
        try:
            await self._api.delete(kind, name, grace_period=grace, cascade=CascadeType.BACKGROUND)
        except ApiError as exc:
            if exc.status.code != _NOT_FOUND:
                raise

    async def _make(self, handle: Handle, order: LaunchOrder, index: int, head: Job | None) -> Job:
        name = f"{handle.name}-{index}"
        if len(name) > _NAME_LENGTH:
            raise LaunchRefused(f"{name!r} is longer than the {_NAME_LENGTH} letters that Kubernetes takes")
        job: Any = Job.from_dict(self._job(name, order, index, head))
        try:
            made: Job = await self._api.create(job)
        except ApiError as exc:
            if exc.status.code != _CONFLICT:
                raise
            made = await self._adopted(name, exc)
        self._known[order.attempt].setdefault(index, "")
        return made

    async def _adopted(self, name: str, conflict: ApiError) -> Job:
        """The Job that has the name. There may be none: it goes just now, or two wrote one quota at once."""
        try:
            return await self._api.get(Job, name)
        except ApiError as exc:
            if exc.status.code != _NOT_FOUND:
                raise
            raise LaunchFailed(f"Kubernetes did not take {name} now: {conflict.status.message}") from exc

    def _labels(self, attempt: str | None = None) -> dict[str, Any]:
        own = {GATEWAY: self._settings.gateway}
        return own if attempt is None else own | {ATTEMPT: attempt}

    def _job(self, name: str, order: LaunchOrder, index: int, head: Job | None) -> dict[str, Any]:
        labels = self._labels(order.attempt) | {INDEX: str(index)}
        metadata: dict[str, Any] = {"name": name, "labels": labels}
        if head is not None and head.metadata is not None:
            owner = {"apiVersion": "batch/v1", "kind": "Job", "name": head.metadata.name, "uid": head.metadata.uid}
            metadata["ownerReferences"] = [owner]
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": metadata,
            "spec": {
                "parallelism": 1,
                "completions": 1,
                "backoffLimit": 0,
                "activeDeadlineSeconds": int(max(60, order.max_seconds)),
                "ttlSecondsAfterFinished": KEPT_SECONDS,
                "template": {"metadata": {"labels": labels}, "spec": self._pod(order, index)},
            },
        }

    def _pod(self, order: LaunchOrder, index: int) -> dict[str, Any]:
        settings, cluster = self._settings, order.cluster
        variables = {
            "FLAREGATE_URL": order.gateway_url,
            "FLAREGATE_ATTEMPT": order.attempt,
            "FLAREGATE_INDEX": str(index),
            "FLAREGATE_BOOTSTRAP": order.bootstrap,
            "HOME": "/tmp",  # noqa: S108 - an empty folder of the pod's own
        }
        size: dict[str, Any] = {"cpu": f"{cluster.cpus:g}", "memory": str(cluster.memory)}
        if cluster.gpus:
            size[settings.gpu_resource] = str(cluster.gpus)
        container = {
            "name": CONTAINER,
            "image": settings.image,
            "env": [{"name": key, "value": value} for key, value in variables.items()],
            "resources": {"requests": size, "limits": size},
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "shm", "mountPath": "/dev/shm"}],  # noqa: S108
        }
        if settings.command:
            container["command"] = list(settings.command)
        pod: dict[str, Any] = {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "fsGroup": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [
                {"name": "tmp", "emptyDir": {"sizeLimit": str(cluster.memory)}},
                {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": str(int(cluster.memory * SHM_SHARE))}},
            ],
            "nodeSelector": dict(settings.node_selector),
            "tolerations": [dict(one) for one in settings.tolerations],
            "imagePullSecrets": [{"name": name} for name in settings.image_pull_secrets],
        }
        if settings.service_account:
            pod["serviceAccountName"] = settings.service_account
        return pod

    async def _seen(self, asked: Collection[str] | None = None) -> Mapping[str, Sequence[InstanceSighting]]:
        """Every container of this gateway's by its attempt: its pod, or its Job where it has none.

        Jobs are listed where a pod is missing of what is known, or a head that was `asked` for; and where none was.
        """
        found = defaultdict[str, dict[int, InstanceSighting]](dict)
        async with self._seeing():
            async for pod in self._api.list(Pod, labels=self._labels()):
                attempt, seen = sighting_of(pod)
                if seen.phase is not Phase.ENDED or seen.index not in found[attempt]:  # a Job may replace a lost pod
                    found[attempt][seen.index] = seen
                    self._known[attempt][seen.index] = taken_away(pod)
            headless = asked is None or any(0 not in found[attempt] for attempt in asked)
            if headless or any(run.keys() - found[attempt].keys() for attempt, run in self._known.items()):
                await self._add_jobs(found)
        return {attempt: [run[index] for index in sorted(run)] for attempt, run in found.items() if run}

    async def _add_jobs(self, found: defaultdict[str, dict[int, InstanceSighting]]) -> None:
        """Add the Jobs without a pod. What has neither is known no longer."""
        async for job in self._api.list(Job, labels=self._labels()):
            attempt, seen = sighting_of_job(job)
            why = self._known[attempt].get(seen.index)
            told = replace(seen, story=f"{why}; {seen.story}") if why and seen.phase is Phase.ENDED else seen
            found[attempt].setdefault(seen.index, told)
        self._known = defaultdict(
            dict,
            {
                attempt: {index: self._known[attempt].get(index, "") for index in run}
                for attempt, run in found.items()
                if run
            },
        )

    @asynccontextmanager
    async def _seeing(self) -> AsyncIterator[None]:
        """Turns every fault into CannotSee."""
        try:
            yield
        except ApiError as exc:
            story = f"Kubernetes answers {exc.status.code}: {exc.status.message}"
            raise (Barred if exc.status.code == _UNAUTHORIZED else CannotSee)(story) from exc
        except httpx2.HTTPError as exc:
            raise CannotSee(f"Kubernetes gave no answer: {exc!r}") from exc


def _refusal(name: str, exc: ApiError) -> LaunchRefused | LaunchFailed:
    """What the API's answer to a launch means: over quota is not now, what is forbidden or wrong never."""
    code, story = exc.status.code or 0, f"Kubernetes did not take {name}: {exc.status.code} {exc.status.message}"
    over_quota = code == _FORBIDDEN and "quota" in str(exc.status.message).lower()
    if code == _UNAUTHORIZED:
        return Barred(story)
    if over_quota or code == _TOO_MANY or code >= _SERVER_FAULT:
        return LaunchFailed(story)
    return LaunchRefused(story)
