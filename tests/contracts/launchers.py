"""What each launcher brings to the conformance suite."""

import contextlib
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


@dataclass
class ContainerPlatform:
    """Containers of Podman, by its service of the Docker Engine API."""

    podman: object
    socket: str
    image: str
    gateway: str
    patience: float = 40.0
    cluster: Cluster = SMALL.model_copy(update={"memory": 100_000_000, "cpus": 0.5})
    made: list = field(default_factory=list)

    def launcher(self, program):
        from gateway.launchers.container import ContainerLauncher, ContainerSettings

        settings = ContainerSettings(self.socket, self.image, self.gateway, command=("python3", "-c", program))
        self.made.append(ContainerLauncher(settings))
        return self.made[-1]

    @contextlib.contextmanager
    def blind(self):
        hidden = self.podman.socket.with_suffix(".hidden")
        self.podman.socket.rename(hidden)
        try:
            yield
        finally:
            hidden.rename(self.podman.socket)


@dataclass
class CodeEnginePlatform:
    """Job runs of the simulator."""

    simulator: object
    patience: float = 20.0
    cluster: Cluster = SMALL.model_copy(update={"memory": 4_000_000_000, "cpus": 1.0})

    def launcher(self, program):
        from gateway.launchers.code_engine import CodeEngineLauncher

        self.simulator.program(program)
        return CodeEngineLauncher(self.simulator.settings())

    @contextlib.contextmanager
    def blind(self):
        self.simulator.faults.left["broken"] = 10**9
        try:
            yield
        finally:
            self.simulator.faults.left["broken"] = 0


@dataclass
class KubernetesPlatform:
    """Pods of a small Kubernetes."""

    api: object
    patience: float = 20.0
    cluster: Cluster = SMALL
    made: list = field(default_factory=list)
    gateway: str = "test"

    def launcher(self, program):
        from gateway.launchers.kubernetes import KubernetesLauncher, KubernetesSettings

        versions = dict.fromkeys(("python", "cloudpickle", "ray", "scikit-learn", "numpy"), "1.0")
        settings = KubernetesSettings(
            "flaregate",
            "image",
            self.gateway,
            kubeconfig=str(self.api.configuration),
            environment=versions,
            command=(sys.executable, "-c", program),
        )
        self.made.append(KubernetesLauncher(settings))
        return self.made[-1]

    @contextlib.contextmanager
    def blind(self):
        self.api.broken = True
        try:
            yield
        finally:
            self.api.broken = False


@dataclass
class AwsBatchPlatform:
    """Multi-node jobs of moto, in containers of Podman."""

    url: str
    image: str
    blinding: object
    gateway: str
    patience: float = 40.0
    cluster: Cluster = SMALL
    made: list = field(default_factory=list)

    def launcher(self, program):
        from gateway.launchers.aws_batch import AwsBatchLauncher, AwsBatchSettings
        from tests.servers.aws_batch import QUEUE, REGION

        versions = dict.fromkeys(("python", "cloudpickle", "ray", "scikit-learn", "numpy"), "1.0")
        settings = AwsBatchSettings(
            queue=QUEUE,
            gateway=self.gateway,
            image=self.image,
            region=REGION,
            endpoint=self.url,
            environment=versions,
            command=("python3", "-c", program),
        )
        self.made.append(AwsBatchLauncher(settings))
        return self.made[-1]

    @contextlib.contextmanager
    def blind(self):
        self.blinding.touch()
        try:
            yield
        finally:
            self.blinding.unlink()


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
