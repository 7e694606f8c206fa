"""Chooses what to launch for a job, and says why. A pure function of the plan, the request and the platform."""

import math
from collections.abc import Sequence

from flaregate_wire.definitions import Resources
from flaregate_wire.jobs import Cluster
from flaregate_wire.planning import Counts
from flaregate_wire.problems import Fault
from gateway.jobs.errors import InvalidDefinition
from gateway.launchers.base import Capabilities

HEAD_CPUS = 8.0
"""vCPU of a container where the user does not say."""
GB = 1_000_000_000
MEMORY_PER_CPU = 2 * GB
TASKS_PER_CPU = 25
"""Fewer tasks than this for each vCPU of the head: joining workers would cost more than they bring."""


def choose(resources: Resources, counts: Counts, capabilities: Capabilities) -> Cluster:
    """The cluster for a job. Raises InvalidDefinition for what the platform cannot give."""
    cpus = resources.cpus or max(1.0, min(HEAD_CPUS, capabilities.max_cpus))
    workers, why = _workers(resources, counts, capabilities, cpus)
    share = capabilities.max_memory // (1 + workers)
    memory = resources.memory or int(min(MEMORY_PER_CPU * max(1.0, cpus), share))
    cpus, memory = _size(cpus, memory, capabilities)
    cluster = Cluster(
        topology="cluster" if workers or resources.topology == "cluster" else "single",
        workers=workers,
        min_workers=resources.min_workers,
        cpus=cpus,
        memory=memory,
        gpus=resources.gpus,
        why=why,
    )
    faults = _over(cluster, capabilities)
    if faults:
        raise InvalidDefinition("; ".join(fault.message for fault in faults), tuple(faults))
    return cluster


def larger(cluster: Cluster, sizes: Sequence[tuple[float, int]], max_memory: int) -> str:
    """What a container that ran out of memory could have, as a last clause; empty where the platform has no more.

    Args:
        cluster: What it had.
        sizes: Those of the platform, as in its capabilities. Where it has none: twice the memory, if there is that.
        max_memory: Bytes that all containers of a run may have together.
    """
    if not sizes:
        twice = min(2 * cluster.memory, max_memory // cluster.instances)
        return f"; resources.memory can be {twice / GB:g} GB" if twice > cluster.memory else ""
    fitting = [size for size in sizes if size[0] >= cluster.cpus and size[1] > cluster.memory]
    cpus, memory = min(fitting, key=lambda size: (size[1], size[0]), default=(0.0, 0))
    return f"; the next size has {memory / GB:g} GB with {cpus:g} vCPU" if fitting else ""


def _size(cpus: float, memory: int, capabilities: Capabilities) -> tuple[float, int]:
    """The smallest size of the platform's that has what is wanted. Raises InvalidDefinition where there is none."""
    if not capabilities.sizes:
        return cpus, memory
    fitting = [size for size in capabilities.sizes if size[0] >= cpus and size[1] >= memory]
    if not fitting:
        most = max(capabilities.sizes)
        message = (
            f"a container of {cpus:g} vCPU and {memory / GB:g} GB is larger than any of {capabilities.name!r}; "
            f"the largest is {most[0]:g} vCPU and {most[1] / GB:g} GB"
        )
        pointer = "/resources/cpus" if cpus > most[0] else "/resources/memory"
        raise InvalidDefinition(message, (Fault(pointer=pointer, rule="no_size", message=message),))
    return min(fitting)


def _workers(resources: Resources, counts: Counts, capabilities: Capabilities, cpus: float) -> tuple[int, str]:
    asking = _asking_for_workers(resources)
    if asking is not None and not capabilities.peer_tcp:
        message = (
            f"resources.{asking} asks for workers, and containers of {capabilities.name!r} cannot reach each other: "
            f"leave it out, and ask for as many CPUs of one container with resources.cpus{_largest(capabilities)}"
        )
        fault = Fault(pointer=f"/resources/{asking}", rule="no_peer_tcp", message=message)
        raise InvalidDefinition(message, (fault,))
    if resources.workers is not None:
        return resources.workers, f"{resources.workers} workers were asked for"
    if resources.topology == "single":
        return 0, "topology 'single' was asked for"
    if not capabilities.peer_tcp:
        return 0, f"containers of {capabilities.name!r} cannot reach each other"
    room = max(0, math.floor(capabilities.max_cpus / cpus) - 1)
    if resources.topology == "cluster" or resources.min_workers:
        return max(resources.min_workers, min(1, room)), "topology 'cluster' or min_workers was asked for"
    if room == 0:
        return 0, f"the head's {cpus:g} vCPU are all that {capabilities.name!r} has"
    if counts.tasks is not None and counts.tasks <= TASKS_PER_CPU * cpus:
        return 0, f"{counts.tasks} tasks are done by the head before workers could join"
    useful = room if counts.tasks is None else math.ceil(counts.tasks / (TASKS_PER_CPU * cpus)) - 1
    tasks = "an unknown number of" if counts.tasks is None else counts.tasks
    return min(room, useful), f"{tasks} tasks, {cpus:g} vCPU a container, room for {room} workers"


def _asking_for_workers(resources: Resources) -> str | None:
    """The field that cannot be met without a worker."""
    if resources.workers:
        return "workers"
    if resources.min_workers:
        return "min_workers"
    return "topology" if resources.topology == "cluster" and resources.workers is None else None


def _largest(capabilities: Capabilities) -> str:
    return f"; the largest has {max(capabilities.sizes)[0]:g}" if capabilities.sizes else ""


def _over(cluster: Cluster, capabilities: Capabilities) -> list[Fault]:
    wanted = (
        ("cpus", cluster.cpus * cluster.instances, capabilities.max_cpus, "vCPU"),
        ("memory", cluster.memory * cluster.instances, capabilities.max_memory, "bytes of memory"),
        ("gpus", cluster.gpus * cluster.instances, capabilities.gpus, "GPUs"),
    )
    return [
        Fault(
            pointer=f"/resources/{name}",
            rule="over_capacity",
            message=f"{cluster.instances} containers need {need:g} {unit}; {capabilities.name!r} has {has:g}",
        )
        for name, need, has, unit in wanted
        if need > has
    ]
