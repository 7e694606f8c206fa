"""What each launcher brings to the conformance suite."""

import sys
import time
from dataclasses import dataclass, field

from flaregate_wire.jobs import Cluster
from gateway.launchers.base import LaunchOrder

SMALL = Cluster(topology="cluster", workers=1, min_workers=0, cpus=1, memory=1_000_000_000, why="test")


@dataclass
class LocalPlatform:
    """Containers are this machine's processes."""

    home: object
    inherited: dict = field(default_factory=dict)
    patience: float = 10.0
    cluster: Cluster = SMALL

    def launcher(self, program):
        from gateway.launchers.local import LocalLauncher

        return LocalLauncher(self.home, self.inherited, command=(sys.executable, "-c", program))

    def blind(self):
        return None


def order(attempt=None, workers=1, **changes):
    given = {
        "job": "j1",
        "attempt": attempt or f"j1-{time.monotonic_ns():x}",
        "tenant": "t",
        "cluster": SMALL.model_copy(update={"topology": "cluster" if workers else "single", "workers": workers}),
        "gateway_url": "http://127.0.0.1:9",
        "bootstrap": "bootstrap-canary",
        "max_seconds": 60,
        **changes,
    }
    return LaunchOrder(**given)
