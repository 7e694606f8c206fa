"""The driver's connection to the attempt's Ray: which machines there are, and how many tasks they run at once."""

import logging
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from flaregate_wire.states import Reason
from worker_image.engine.prepare import JobFailed
from worker_image.ray_cluster import CONTAINER

_RAY: Any = ray
"""Some of its functions have no types."""
_LOOK_SECONDS = 1.0
"""How old the count of slots may be."""
_POLL_SECONDS = 0.1


@dataclass(slots=True)
class Connection:
    """What is known of the cluster. The driver runs on its head."""

    head: str
    """Id of the head's node."""
    _slots: int = 1
    _looked: float = -_LOOK_SECONDS
    _hosts: dict[str, str] = field(default_factory=dict)

    @property
    def on_head(self) -> NodeAffinitySchedulingStrategy:
        """For tasks that read or write this machine's files."""
        return NodeAffinitySchedulingStrategy(self.head, soft=False)

    def slots(self) -> int:
        """CPUs of all machines that are there; workers may join late."""
        if monotonic() - self._looked >= _LOOK_SECONDS:
            self._looked = monotonic()
            self._slots = max(1, int(_RAY.cluster_resources().get("CPU", 1)))
        return self._slots

    def host(self, node: str) -> str:
        """A node by its role, and a worker's address."""
        if node == self.head:
            return "head"
        if node not in self._hosts:
            self._hosts |= {
                found["NodeID"]: f"worker {found['NodeManagerAddress']}:{found['NodeManagerPort']}"
                for found in _RAY.nodes()
            }
        return self._hosts.get(node, node)

    def idle_workers(self) -> tuple[int, ...]:
        """Containers beside the head's whose CPUs are all free. Ray gives work to whoever is free: none waits then."""
        free = _available()
        return tuple(
            int(name.removeprefix(CONTAINER))
            for node in _RAY.nodes()
            if node["Alive"] and node["NodeID"] != self.head
            if free.get(node["NodeID"], {}).get("CPU", 0.0) == node["Resources"].get("CPU")
            for name in node["Resources"]
            if name.startswith(CONTAINER)
        )

    def wait_for_workers(self, count: int, seconds: float) -> None:
        """Wait until so many workers have joined; raises JobFailed after so many seconds."""
        end = monotonic() + seconds
        while (joined := self._workers()) < count:
            if monotonic() > end:
                message = f"{joined} of the {count} workers that min_workers asks for joined within {seconds:.0f} s"
                raise JobFailed(Reason.WORKERS_NOT_JOINED, message)
            sleep(_POLL_SECONDS)

    def _workers(self) -> int:
        return sum(node["Alive"] and node["NodeID"] != self.head for node in _RAY.nodes())


def _available() -> dict[str, dict[str, float]]:
    """What is free on each node; Ray has no public way to ask that needs no dashboard."""
    from ray._private.state import available_resources_per_node  # noqa: PLC0415 - private: kept to one place

    return dict(available_resources_per_node())  # type: ignore[no-untyped-call]


def connect(address: str) -> Connection:
    """Join the Ray whose head listens at `host:port`, on this machine. Its token is in RAY_AUTH_TOKEN.

    Raises JobFailed where that is refused.
    """
    try:
        ray.init(
            address=address,
            _node_ip_address=address.rpartition(":")[0],
            log_to_driver=False,
            logging_level=logging.ERROR,  # it warns of being joined by a thread
        )
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise JobFailed(Reason.PLATFORM_ERROR, f"Ray at {address} cannot be joined: {error}") from error
    return Connection(ray.get_runtime_context().get_node_id())


def disconnect() -> None:
    """Leave Ray, which goes on without this process."""
    ray.shutdown()
