"""Servers that speak S3: moto for error paths, and OpenStack Swift, which keeps objects and checks signatures."""

import contextlib
import os
import pwd
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
from botocore.config import Config

from tests.servers.processes import free_ports, running

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Server:
    """Where it is, and a key that may do everything."""

    endpoint: str
    access_key: str
    secret_key: str
    region: str = "us-east-1"

    def client(self, **settings):
        config = Config(signature_version="s3v4", s3={"addressing_style": "path"}, request_checksum_calculation="when_required", response_checksum_validation="when_required", **settings)  # fmt: skip
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=config,
        )

    def bucket(self):
        """A new, empty one."""
        name = f"bucket-{secrets.token_hex(6)}"
        with contextlib.closing(self.client()) as client:
            client.create_bucket(Bucket=name)
        return name


def environment(home, server, bucket, **more):
    """Of a gateway on this bucket."""
    given = {
        "HOME": home,
        "STORE": "s3",
        "S3_BUCKET": bucket,
        "S3_ENDPOINT": server.endpoint,
        "S3_ACCESS_KEY": server.access_key,
        "S3_SECRET_KEY": server.secret_key,
        **more,
    }
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FLAREGATE_")}
    return clean | {f"FLAREGATE_{name}": str(value) for name, value in given.items()}


@contextlib.contextmanager
def moto_server(folder):
    """In memory, in a process of its own; it believes every signature."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running(command, ports=[port], log=folder / "moto.log"):
        yield Server(f"http://127.0.0.1:{port}", "any", "key")


@contextlib.contextmanager
def swift_server(folder, host="127.0.0.1"):
    """One node with one replica: proxy, account, container and object server, and the S3 API before them, at a host."""
    ports = dict(zip(("proxy", "account", "container", "object"), free_ports(4), strict=True))
    key, secret = "test:tester", secrets.token_hex(8)
    _configure(folder, ports, secret, host)
    commands = [[BIN / f"swift-{name}-server", folder / f"{name}.conf"] for name in ports]
    inner = [port for name, port in ports.items() if name != "proxy"]
    with running(*commands, ports=[*inner, (host, ports["proxy"])], log=folder / "swift.log"):
        yield Server(f"http://{host}:{ports['proxy']}", key, secret)


def _configure(folder, ports, secret, host):
    from swift.common.ring import RingBuilder

    user = pwd.getpwuid(os.geteuid()).pw_name
    (folder / "node" / "d1").mkdir(parents=True)
    (folder / "cache").mkdir()
    salt = f"swift_hash_path_prefix = {secrets.token_hex(8)}\nswift_hash_path_suffix = {secrets.token_hex(8)}"
    (folder / "swift.conf").write_text(f"[swift-hash]\n{salt}\n[storage-policy:0]\nname = only\ndefault = yes\n")
    for name in ("account", "container", "object"):
        ring = RingBuilder(part_power=4, replicas=1, min_part_hours=0)
        place = {"ip": "127.0.0.1", "port": ports[name]}
        ring.add_dev(
            {"region": 1, "zone": 1, "device": "d1", "weight": 1.0, **place}
            | {f"replication_{name}": value for name, value in place.items()}
        )
        ring.rebalance()
        ring.get_ring().save(str(folder / f"{name}.ring.gz"))
        (folder / f"{name}.conf").write_text(
            _STORAGE.format(name=name, host="127.0.0.1", port=ports[name], folder=folder, user=user)
        )
    (folder / "proxy.conf").write_text(
        _PROXY.format(host=host, port=ports["proxy"], folder=folder, user=user, secret=secret)
    )


_DEFAULT = """[DEFAULT]
swift_dir = {folder}
devices = {folder}/node
mount_check = false
fallocate_reserve = 0
bind_ip = {host}
bind_port = {port}
user = {user}
workers = 0
log_level = WARNING
"""
_STORAGE = (
    _DEFAULT
    + """
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
recon_cache_path = {folder}/cache
"""
)
_PROXY = (
    _DEFAULT
    + """
[pipeline:main]
pipeline = catch_errors gatekeeper cache s3api tempauth slo dlo copy proxy-server
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:1
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = {secret} .admin
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
[filter:copy]
use = egg:swift#copy
"""
)


@pytest.fixture(scope="session")
def moto(tmp_path_factory):
    with moto_server(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(scope="session")
def swift(tmp_path_factory):
    with swift_server(tmp_path_factory.mktemp("swift")) as server:
        yield server
