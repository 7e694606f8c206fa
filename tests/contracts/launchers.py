"""What each launcher brings to the conformance suite."""

import sys
import time
from dataclasses import dataclass, field
from typing import Protocol

from flaregate_wire.jobs import Cluster
from gateway.launchers.base import Launcher, LaunchOrder


class Platform(Protocol):
    """A launcher, and programs of known behaviour to run on it."""

    def launcher(self, program: str) -> Launcher:
        """A launcher of the same gateway whose containers run this Python code; a second one is a restarted gateway."""


@dataclass
class LocalPlatform:
    """Containers are this machine's processes."""

    home: object
    inherited: dict = field(default_factory=dict)

    def launcher(self, program):
        from gateway.launchers.local import LocalLauncher

        return LocalLauncher(self.home, self.inherited, command=(sys.executable, "-c", program))


def order(attempt=None, workers=1, **changes):
    given = {
        "job": "j1",
        "attempt": attempt or f"j1-{time.monotonic_ns():x}",
        "tenant": "t",
        "cluster": Cluster(
            topology="cluster" if workers else "single",
            workers=workers,
            min_workers=0,
            cpus=1,
            memory=1_000_000_000,
            why="test",
        ),
        "gateway_url": "http://127.0.0.1:9",
        "bootstrap": "bootstrap-canary",
        "max_seconds": 60,
        **changes,
    }
    return LaunchOrder(**given)
