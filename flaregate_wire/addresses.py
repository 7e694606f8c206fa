"""Where a user's URL may lead: to hosts that all the world can reach, and to those that the operator allows.

The gateway and the containers are inside a network that users are not. A name is resolved once, every address that it
has is looked at, and the connection goes to the one that was looked at; so does each redirect.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Protocol, TypeVar
from urllib.parse import urljoin, urlsplit

REDIRECTS = 3
HTTPS = 443
_MOVED = frozenset({301, 302, 303, 307, 308})
_NAT64 = IPv6Network("64:ff9b::/96")

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host. Raises OSError where it has none."""


class AddressRefused(Exception):
    """A URL leads to where users may not send us; the message says what to do."""


def is_public(address: str) -> bool:
    """Whether an IP address is one that all the world can reach; one that carries another is judged by that."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    return _global(_inner(found) or found)


def _global(found: IPv4Address | IPv6Address) -> bool:
    return found.is_global and not (found.is_multicast or found.is_reserved or found.is_unspecified)


def _inner(found: IPv4Address | IPv6Address) -> IPv4Address | None:
    """The IPv4 address within: mapped, 6to4, or that of a translator."""
    if isinstance(found, IPv4Address):
        return None
    if found in _NAT64:
        return IPv4Address(int(found) & 0xFFFFFFFF)
    return found.ipv4_mapped or found.sixtofour


@dataclass(frozen=True, slots=True)
class Target:
    """Whom one request is for."""

    url: str
    host: str
    port: int
    allowed: bool
    """Whether the operator has named this host and port."""

    @property
    def name(self) -> str:
        """host:port, as in a Host header."""
        return _netloc(self.host, self.port)

    def at(self, address: str) -> str:
        """The URL with an address of the host in the host's place."""
        return urlsplit(self.url)._replace(netloc=_netloc(address, self.port), fragment="").geturl()

    def check(self, addresses: Sequence[str]) -> str:
        """The address to connect to. Raises AddressRefused."""
        if not addresses or not (self.allowed or all(map(is_public, addresses))):
            raise AddressRefused(
                f"{self.host} is not on the public internet; data inside a network can be read where the operator "
                f"names it: FLAREGATE_REFERENCE_HOSTS={self.host}:{self.port}"
            )
        return addresses[0]


def _netloc(host: str, port: int) -> str:
    name = f"[{host}]" if ":" in host else host
    return name if port == HTTPS else f"{name}:{port}"


def target_of(url: str, allowed: Collection[str]) -> Target:
    """Whom a URL is for. Raises AddressRefused.

    Args:
        url: What a user wrote, or a server answered.
        allowed: `host:port` that the operator has named; no rule but https is left for these.
    """
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip(".").encode("idna").decode(), parts.port or HTTPS
    except ValueError as error:
        raise AddressRefused(f"{url} is no address: {error}") from error
    if parts.scheme != "https" or not host:
        raise AddressRefused(f"{url} does not begin with https:// and a host; only such addresses are read")
    if parts.username is not None or parts.password is not None:
        raise AddressRefused(f"https://{host} was given with a name or a password; give a signed or a public address")
    known = f"{host}:{port}" in allowed
    if port != HTTPS and not known:
        raise AddressRefused(
            f"{host}:{port} is not port {HTTPS}; others can be read where the operator names them: "
            f"FLAREGATE_REFERENCE_HOSTS={host}:{port}"
        )
    target = Target(url, host, port, known)
    if _is_address(host):
        target.check([host])
    return target


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


class Answer(Protocol):
    """The beginning of an HTTP answer."""

    @property
    def status_code(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    async def aclose(self) -> None: ...


A = TypeVar("A", bound=Answer)
Send = Callable[[str, str, str], Awaitable[A]]
"""Asks for a URL that has an address as its host, with this Host header, of the server with this certificate's name."""


async def ask(url: str, send: Send[A], allowed: Collection[str], resolve: Resolver) -> A:
    """The answer of the last of at most three redirects, each looked at as the first address is.

    Raises AddressRefused; OSError of the resolver; what `send` raises.
    """
    for _ in range(REDIRECTS + 1):
        target = target_of(url, allowed)
        address = target.check(await resolve(target.host, target.port))
        answer = await send(target.at(address), target.name, target.host)
        location = answer.headers.get("location")
        if answer.status_code not in _MOVED or location is None:
            return answer
        await answer.aclose()
        url = urljoin(url, location)
    raise AddressRefused(f"{url} comes after {REDIRECTS} redirects; give the address that they lead to")


async def resolve(host: str, port: int) -> Sequence[str]:
    """What the system knows of a host."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]
