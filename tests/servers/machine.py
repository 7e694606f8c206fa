"""This machine with Podman: its service, the images, and an address on a bridge that containers reach."""

import contextlib
import json
import secrets

from tests.servers.podman import BARE, Podman

LABEL = "io.flaregate.gateway"


class Machine:
    """Podman with its service, and an address of this machine on a bridge that stays up."""

    def __init__(self, folder):
        self.podman = Podman(folder)
        self.name = f"t{secrets.token_hex(4)}"
        self.label = f"{LABEL}={self.name}"
        self.network = f"flaregate-{self.name}-bridge"

    @contextlib.contextmanager
    def up(self):
        podman, network = self.podman, self.network
        podman.bare()
        self.image = podman.worker()
        try:
            podman.run("network", "create", f"--label={self.label}-bridge", network)
            told = json.loads(podman.run("network", "inspect", network))[0]
            self.address = told["subnets"][0]["gateway"]
            # an address of a bridge is there as long as a container is on it
            holds = ["--rm", "--detach", f"--network={network}", f"--label={self.label}-bridge"]
            podman.run("run", *holds, BARE, "sleep", "infinity")
            with podman.service() as self.socket:
                yield self
        finally:
            podman.remove(self.label)
            podman.remove(f"{self.label}-bridge")

    def left(self):
        """Names of this gateway's containers and networks."""
        asked = f"--filter=label={self.label}"
        found = self.podman.run("ps", "--all", asked, "--format={{.Names}}").split()
        return found + self.podman.run("network", "ls", asked, "--format={{.Name}}").split()

    def containers(self, attempt, index=None):
        """Names of the running containers of an attempt."""
        asked = [f"--filter=label=io.flaregate.attempt={attempt}"]
        if index is not None:
            asked.append(f"--filter=label=io.flaregate.index={index}")
        return self.podman.run("ps", *asked, "--format={{.Names}}").split()
