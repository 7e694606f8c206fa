"""The worker's settings: the one module of the worker that reads the environment."""

import os
import socket
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from urllib.parse import urlsplit

_OWN = (
    "FLAREGATE_URL",
    "FLAREGATE_ATTEMPT",
    "FLAREGATE_INDEX",
    "FLAREGATE_BOOTSTRAP",
    "FLAREGATE_NODE_IP",
    "FLAREGATE_PARK",
    "FLAREGATE_SPARE",
    "FLAREGATE_PACKAGES",
    "FLAREGATE_DROPS",
)
_INDICES = ("JOB_INDEX", "AWS_BATCH_JOB_NODE_INDEX")
"""Where Code Engine and AWS Batch say which container this is."""
_KEPT_BACK = ("RAY_", "UV_", "PIP_")
"""Beginnings of what is not for user code; addresses of indexes may hold passwords."""
_LOOPBACK_NET = int(IPv4Address("127.1.0.0"))
_LOOPBACK_SIZE = int(IPv4Address("127.255.255.0")) - _LOOPBACK_NET


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the gateway is, which container this is, and what its children inherit."""

    url: str
    attempt: str
    index: int
    bootstrap: str = field(repr=False)
    node_ip: str
    child_environment: Mapping[str, str] = field(repr=False)
    """The environment without this module's own variables, anybody's Ray, and how packages are got."""
    park: Path | None = None
    """The file by which this container says that it waits for another job, where its launcher has one."""
    packages: Path | None = None
    """Where containers of this machine share the packages that jobs bring."""
    drops: Path | None = None
    """Where a gateway on this machine takes large results as files, if it keeps its store in a folder."""
    spare: float | None = None
    """Seconds to wait for the first job, of a head that was started before there was one: attempt is a name only."""
    patience: float = 60.0
    """Seconds to wait for the order while the gateway is away; its lease is not known before."""

    @classmethod
    def take(cls, environ: MutableMapping[str, str] = os.environ) -> "Settings":
        """Read the settings and remove them from the environment. Raises KeyError naming what is missing."""
        own = {name: environ.pop(name) for name in _OWN if name in environ}
        url, attempt = own["FLAREGATE_URL"], own["FLAREGATE_ATTEMPT"]
        index = own.get("FLAREGATE_INDEX") or next((environ[name] for name in _INDICES if name in environ), None)
        if index is None:
            raise KeyError("FLAREGATE_INDEX")
        return cls(
            url=url,
            attempt=attempt,
            index=int(index),
            bootstrap=own["FLAREGATE_BOOTSTRAP"] if "FLAREGATE_SPARE" not in own else "",
            node_ip=own.get("FLAREGATE_NODE_IP") or node_ip(url, attempt, int(index)),
            park=_path(own.get("FLAREGATE_PARK")),
            packages=_path(own.get("FLAREGATE_PACKAGES")),
            drops=_path(own.get("FLAREGATE_DROPS")),
            spare=float(own["FLAREGATE_SPARE"]) if "FLAREGATE_SPARE" in own else None,
            child_environment={name: value for name, value in environ.items() if not name.startswith(_KEPT_BACK)},
        )


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def node_ip(url: str, attempt: str, index: int) -> str:
    """The address on which Ray listens: loopback if the gateway is there, else the one that faces the gateway."""
    parts = urlsplit(url)
    if not is_loopback(parts.hostname or ""):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((parts.hostname, parts.port or 443))
            return str(probe.getsockname()[0])
    if sys.platform != "linux":
        return "127.0.0.1"
    # Linux answers on all of 127.0.0.0/8: an address of its own for each container keeps runs apart on one machine.
    start = int.from_bytes(sha256(attempt.encode()).digest()[:4])
    return str(IPv4Address(_LOOPBACK_NET + (start + index) % _LOOPBACK_SIZE))


def is_loopback(host: str) -> bool:
    """Whether a host name is this machine's own."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
