"""A gateway whose jobs run in real containers, and Swift where they reach it."""

import contextlib

from tests.conftest import gateway_on
from tests.servers.machine import Machine
from tests.servers.s3 import environment, swift_server


@contextlib.contextmanager
def machine(folder):
    with Machine(folder).up() as made:
        yield made


@contextlib.contextmanager
def gateway_of(folder, machine, store, **given):
    """A gateway process with a bucket, at the address that containers reach; the container launcher without another."""
    containers = {"LAUNCHER": "container", "CONTAINER_SOCKET": machine.socket, "CONTAINER_IMAGE": machine.image}
    own = {"HOST": machine.address, "GATEWAY": machine.name, "REAP_INTERVAL": 2}
    settings = environment(
        folder / "home", store, store.bucket(), **own | (given if "LAUNCHER" in given else containers | given)
    )
    with gateway_on(folder / "home", **settings) as gateway:
        yield gateway


@contextlib.contextmanager
def store_of(folder, machine):
    """Swift, at the address that containers reach."""
    with swift_server(folder, machine.address) as server:
        yield server
