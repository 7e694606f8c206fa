"""The contract between the gateway and what keeps its objects: small abilities, keys like paths, bytes in streams."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from flaregate_wire.blobs import Transfer


class StoreError(Exception):
    """The store could not do it.

    StoreError
    ├── ObjectMissing     there is no object under the key
    ├── ObjectExists      a put with `if_absent` came second
    ├── ObjectMismatch    the bytes are not the ones that were announced; nothing was kept
    └── KeyRefused        the key is not one that the store takes
    """


class ObjectMissing(StoreError):
    """There is no object under this key."""


class ObjectExists(StoreError):
    """There is an object under this key already."""


class ObjectMismatch(StoreError):
    """The bytes are not the ones that were announced; nothing was kept."""


class KeyRefused(StoreError):
    """A key is parts of letters, digits and `._=+@-`, separated by single slashes; no part is `.` or `..`."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What the store knows of an object without reading it."""

    key: str
    size: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class Expected:
    """What the bytes of a put have to be; None where it is not known beforehand."""

    size: int | None = None
    sha256: str | None = None
    """`sha256:…`"""


ANYTHING = Expected()

Method = Literal["GET", "PUT"]


class Gets(Protocol):
    """Reading."""

    def get(self, key: str, *, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start` up to `stop`, in pieces of at most 1 MiB. Raises ObjectMissing at the first piece."""
        ...

    async def head(self, key: str) -> ObjectInfo:
        """Size and time. Raises ObjectMissing."""
        ...


class Puts(Protocol):
    """Writing: whole or not at all."""

    async def put(
        self, key: str, pieces: AsyncIterator[bytes], *, if_absent: bool = False, expected: Expected = ANYTHING
    ) -> ObjectInfo:
        """Keep the bytes under the key. Raises ObjectExists with `if_absent`, ObjectMismatch; may be repeated."""
        ...


class Lists(Protocol):
    """Finding and removing."""

    def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """Every object whose key starts with the prefix, which ends with a slash, in no order."""
        ...

    async def delete(self, key: str) -> None:
        """Remove the object; one that is not there is a success."""
        ...


class Presigns(Protocol):
    """Giving others one request."""

    def presign(self, method: Method, key: str, expected: Expected = ANYTHING) -> Transfer:
        """A request that anyone can make for some minutes, without a credential. No call to the store."""
        ...


class Store(Gets, Puts, Lists, Presigns, Protocol):
    """All that the gateway needs of a store."""
