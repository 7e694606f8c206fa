"""Runs attempts as multi-node parallel jobs of AWS Batch on EC2. The one launcher that imports boto3.

Node 0 is the head. Batch takes the same job twice and cannot grow one: its name says which attempt it is, what has the
name already is adopted, and a replacement is a job of its own with one node.
"""

import hashlib
import json
import math
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from gateway.launchers.aws_batch_jobs import children, instances, part_of
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
from gateway.launchers.threads import Threads

GATEWAY, ATTEMPT = "flaregate-gateway", "flaregate-attempt"
AT_ONCE = 100
"""Jobs that may be described in one request."""
NEW_SECONDS = 60.0
"""How long a job that was just submitted may be missing in what Batch lists."""
MOST_SECONDS, LEAST_SECONDS = 14 * 86_400.0, 60
_MIB, _GIB = 1 << 20, 1 << 30
_GIB_A_CPU = 32
"""The most memory that EC2's machines have for a vCPU."""
_PERMANENT = frozenset({"AccessDeniedException", "ClientException", "ValidationException", "ParamValidationError"})
_STRANGER = frozenset(
    {
        "UnrecognizedClientException",
        "InvalidClientTokenId",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidSignatureException",
    }
)
_WHY = "flaregate: not needed any more"


@dataclass(frozen=True, slots=True)
class AwsBatchSettings:
    """The queue, and what jobs are made of."""

    queue: str
    gateway: str
    """Begins the names of this gateway's jobs: at most 12 lower-case letters and digits."""
    image: str | None = None
    """The worker's image, for job definitions that this launcher registers, one a size; or"""
    job_definition: str | None = None
    """a multi-node definition of the operator's, whose node range is `0:`."""
    region: str | None = None
    endpoint: str | None = None
    lease: float = 600.0
    environment: Mapping[str, str] = field(default_factory=dict)
    """What the image has; its label says so."""
    command: tuple[str, ...] | None = None
    """Instead of the image's own, in definitions that this launcher registers."""
    quota: Quota = NO_QUOTA
    """Its vCPUs are at most what the queue has."""
    price: Price | None = None


def connect_to(settings: AwsBatchSettings) -> Any:
    """A client of the API, by AWS's own chain of credentials."""
    config = Config(connect_timeout=5, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 3})
    session = boto3.Session(region_name=settings.region)
    return session.client("batch", endpoint_url=settings.endpoint, config=config)


class AwsBatchLauncher:
    """The launcher for one job queue."""

    def __init__(
        self,
        settings: AwsBatchSettings,
        clock: Callable[[], float] = time.monotonic,
        connect: Callable[[AwsBatchSettings], Any] = connect_to,
    ) -> None:
        """Raises LaunchRefused if the queue cannot run such jobs, CannotSee if Batch does not answer."""
        if not re.fullmatch(r"[a-z0-9]{1,12}", settings.gateway):
            raise LaunchRefused(f"the gateway's name {settings.gateway!r} is not 1 to 12 lower-case letters and digits")
        self._settings = settings
        self._clock = clock
        self._batch = connect(settings)
        self._threads = Threads("aws-batch")
        self._launching = threading.Lock()
        self._created: dict[str, tuple[str, float]] = {}
        """Jobs that this process submitted, by name: id and time. They may not be listed yet."""
        cpus = self._cpus()
        self.capabilities = Capabilities(
            name="aws_batch",
            peer_tcp=True,
            max_cpus=cpus,
            max_memory=int(cpus * _GIB_A_CPU * _GIB),
            gpus=0,
            lease=settings.lease,
            max_seconds=MOST_SECONDS,
            linger=15,
            private_network=False,
            quota=replace(settings.quota, cpus=min(cpus, settings.quota.cpus or cpus)),
            price=settings.price,
        )

    def environment(self) -> Mapping[str, str]:
        return self._settings.environment

    def handle(self, attempt: str) -> Handle:
        return Handle(attempt=attempt, name=f"{self._prefix}{attempt}")

    @property
    def _prefix(self) -> str:
        return f"flaregate-{self._settings.gateway}-"

    async def launch(self, order: LaunchOrder) -> Handle:
        if order.cluster.gpus:
            raise LaunchRefused("the aws_batch launcher has no GPUs")
        await self._threads.run(self._launch, order)
        return self.handle(order.attempt)

    async def observe(self, handles: Collection[Handle]) -> Mapping[Handle, Sighting]:
        seen = await self._threads.run(self._seen, {handle.name for handle in handles} or {self._prefix})
        return {handle: Sighting(tuple(seen.get(handle.attempt, ()))) for handle in handles}

    async def list(self) -> Collection[Handle]:
        seen = await self._threads.run(self._seen, {self._prefix})
        return [self.handle(attempt) for attempt, run in seen.items() if not Sighting(tuple(run)).gone]

    async def kept(self) -> Collection[Handle]:
        """None: Batch forgets an ended job by itself after some days, and has no limit of them."""
        return []

    async def stop(self, handle: Handle, *, force: bool = False) -> None:
        """Terminate its jobs: Batch sends SIGTERM, and SIGKILL 30 seconds later, whatever is asked for."""
        await self._threads.run(self._stop, handle)

    async def forget(self, handle: Handle) -> None:
        """Nothing can be removed."""

    async def close(self) -> None:
        await self._threads.run(self._batch.close)
        self._threads.close()

    def _cpus(self) -> float:
        """What the queue's compute environments have at most. Raises LaunchRefused or CannotSee."""
        queue = self._settings.queue
        try:
            found = self._batch.describe_job_queues(jobQueues=[queue])["jobQueues"]
            if not found:
                raise LaunchRefused(f"AWS Batch has no job queue {queue!r} in this region; create it, or name another")
            names = [one["computeEnvironment"] for one in found[0]["computeEnvironmentOrder"]]
            told = self._batch.describe_compute_environments(computeEnvironments=names)["computeEnvironments"]
        except ClientError as exc:
            if _code(exc) in _PERMANENT:
                raise LaunchRefused(f"AWS Batch does not show the queue {queue!r}: {_story(exc)}") from exc
            raise CannotSee(f"AWS Batch does not answer: {_story(exc)}") from exc
        except BotoCoreError as exc:
            raise CannotSee(f"AWS Batch does not answer: {exc}") from exc
        resources = [one.get("computeResources") or {} for one in told]
        if any("FARGATE" in str(one.get("type", "")) for one in resources):
            raise LaunchRefused(f"the queue {queue!r} is on Fargate, which has no multi-node jobs; use one on EC2")
        return float(sum(one.get("maxvCpus") or 0 for one in resources)) or math.inf

    def _launch(self, order: LaunchOrder) -> None:
        handle = self.handle(order.attempt)
        name = handle.name
        wanted: list[tuple[str, int, int | None]] = [(name, order.cluster.instances, None)]
        wanted += [(f"{name}-r{index}", 1, index) for index in order.replacements]
        try:
            with self._launching:  # Batch would take a second job of the same name
                known = {str(job["jobName"]) for job in self._listed(_all_of(handle))} | self._new()
                for job, nodes, index in wanted:
                    if job not in known:
                        self._submit(order, job, nodes, index)
        except Barred:
            raise
        except CannotSee as exc:
            raise LaunchFailed(str(exc)) from exc
        except ClientError as exc:
            story = f"AWS Batch did not take the job {name}: {_story(exc)}"
            raise (LaunchRefused(story) if _code(exc) in _PERMANENT else LaunchFailed(story)) from exc
        except BotoCoreError as exc:
            raise LaunchFailed(f"AWS Batch gave no answer to the launch of {name}: {exc}") from exc

    def _submit(self, order: LaunchOrder, name: str, nodes: int, index: int | None) -> None:
        variables = {
            "FLAREGATE_URL": order.gateway_url,
            "FLAREGATE_ATTEMPT": order.attempt,
            "FLAREGATE_BOOTSTRAP": order.bootstrap,
        }
        if index is not None:
            variables["FLAREGATE_INDEX"] = str(index)
        environment = [{"name": key, "value": value} for key, value in variables.items()]
        overrides = {"environment": environment, "resourceRequirements": _requirements(order)}
        answer = self._batch.submit_job(
            jobName=name,
            jobQueue=self._settings.queue,
            jobDefinition=self._settings.job_definition or self._definition(order),
            nodeOverrides={
                "numNodes": nodes,
                "nodePropertyOverrides": [{"targetNodes": "0:", "containerOverrides": overrides}],
            },
            retryStrategy={"attempts": 1},
            timeout={"attemptDurationSeconds": int(min(MOST_SECONDS, max(LEAST_SECONDS, order.max_seconds)))},
            tags={GATEWAY: self._settings.gateway, ATTEMPT: order.attempt},
            propagateTags=True,
        )
        self._created[name] = (str(answer["jobId"]), self._clock())

    def _definition(self, order: LaunchOrder) -> str:
        """The name of a definition for this size; what is in it makes its name, so the same is registered once."""
        container: dict[str, Any] = {
            "image": str(self._settings.image),
            "resourceRequirements": _requirements(order),
            "readonlyRootFilesystem": True,
            "privileged": False,
            "linuxParameters": {
                "initProcessEnabled": True,
                "sharedMemorySize": int(order.cluster.memory * SHM_SHARE) // _MIB,
                "tmpfs": [
                    {
                        "containerPath": "/tmp",  # noqa: S108 - of the container's own
                        "size": order.cluster.memory // _MIB,
                        "mountOptions": ["rw", "exec", "mode=1777"],
                    }
                ],
            },
        }
        if self._settings.command:
            container["command"] = list(self._settings.command)
        properties = {
            "numNodes": 2,
            "mainNode": 0,
            "nodeRangeProperties": [{"targetNodes": "0:", "container": container}],
        }
        digest = hashlib.sha256(json.dumps(properties, sort_keys=True).encode()).hexdigest()
        name = f"flaregate-worker-{digest[:16]}"
        asked = self._batch.describe_job_definitions(jobDefinitionName=name, status="ACTIVE", maxResults=1)
        if not asked["jobDefinitions"]:
            self._batch.register_job_definition(
                jobDefinitionName=name, type="multinode", nodeProperties=properties, platformCapabilities=["EC2"]
            )
        return name

    def _new(self) -> set[str]:
        """Names of jobs that may not be listed yet."""
        now = self._clock()
        for name in [name for name, (_, at) in self._created.items() if now - at > NEW_SECONDS]:
            del self._created[name]
        return set(self._created)

    def _seen(self, names: Collection[str]) -> Mapping[str, Sequence[InstanceSighting]]:
        """The containers of runs by attempt; by the prefix of all runs, no single nodes. Raises CannotSee."""
        found = defaultdict[str, dict[int, InstanceSighting]](dict)
        listed = sorted(self._listed([f"{name}*" for name in names]), key=_age, reverse=True)
        jobs = {str(job["jobName"]): job for job in listed}  # of two with one name the older one
        shown = [] if self._prefix in names else [node for job in jobs.values() for node in children(job)]
        details = {str(job["jobId"]): job for job in self._described(shown)}
        for name, job in jobs.items():
            attempt, index = part_of(name.removeprefix(self._prefix))
            for one in instances(job, index, details):
                found[attempt][one.index] = one
        for name in self._new() - jobs.keys():
            attempt, index = part_of(name.removeprefix(self._prefix))
            found[attempt].setdefault(index or 0, InstanceSighting(index or 0, Phase.PENDING))
        return {attempt: [run[index] for index in sorted(run)] for attempt, run in found.items()}

    def _listed(self, names: Collection[str]) -> Iterator[Mapping[str, Any]]:
        """The jobs of these names, living and ended; a name may end with an asterisk. Raises CannotSee."""
        asked = sorted(names)
        for first in range(0, len(asked), AT_ONCE):
            filters = [{"name": "JOB_NAME", "values": asked[first : first + AT_ONCE]}]
            pages = self._batch.get_paginator("list_jobs").paginate(jobQueue=self._settings.queue, filters=filters)
            yield from self._told(pages)

    def _told(self, pages: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        try:
            for page in pages:
                yield from page["jobSummaryList"]
        except ClientError as exc:
            story = f"AWS Batch did not list the jobs: {_story(exc)}"
            raise (Barred if _code(exc) in _STRANGER else CannotSee)(story) from exc
        except NoCredentialsError as exc:
            raise Barred(f"there is no way into AWS: {exc}") from exc
        except BotoCoreError as exc:
            raise CannotSee(f"AWS Batch gave no answer: {exc}") from exc

    def _described(self, wanted: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """Nodes, a hundred a request. Raises CannotSee."""
        try:
            for first in range(0, len(wanted), AT_ONCE):
                yield from self._batch.describe_jobs(jobs=wanted[first : first + AT_ONCE])["jobs"]
        except ClientError as exc:
            raise CannotSee(f"AWS Batch did not describe the jobs: {_story(exc)}") from exc
        except BotoCoreError as exc:
            raise CannotSee(f"AWS Batch gave no answer: {exc}") from exc

    def _stop(self, handle: Handle) -> None:
        jobs = [job["jobId"] for job in self._listed(_all_of(handle)) if job["status"] not in ("SUCCEEDED", "FAILED")]
        jobs += [job for name, (job, _) in self._created.items() if part_of(name)[0] == handle.name and job not in jobs]
        try:
            for job in jobs:
                self._batch.terminate_job(jobId=job, reason=_WHY)  # one that has not started is cancelled by it
        except ClientError as exc:
            raise CannotSee(f"AWS Batch did not end {handle.name}: {_story(exc)}") from exc
        except BotoCoreError as exc:
            raise CannotSee(f"AWS Batch gave no answer: {exc}") from exc


def _all_of(handle: Handle) -> set[str]:
    """Names of the jobs of a run: its own, and its replacements'."""
    return {handle.name, f"{handle.name}-r*"}


def _requirements(order: LaunchOrder) -> list[dict[str, str]]:
    """Whole vCPUs and MiB, as Batch on EC2 takes them."""
    size = {"VCPU": math.ceil(order.cluster.cpus), "MEMORY": order.cluster.memory // _MIB}
    return [{"type": kind, "value": str(value)} for kind, value in size.items()]


def _age(job: Mapping[str, Any]) -> int:
    return int(job.get("createdAt") or 0)


def _code(exc: ClientError) -> str:
    return str(exc.response.get("Error", {}).get("Code", ""))


def _story(exc: ClientError) -> str:
    return f"{_code(exc)}: {exc.response.get('Error', {}).get('Message', '')}"
