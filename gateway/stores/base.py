"""The contract between the gateway and what keeps its objects: small abilities, keys like paths, bytes in streams."""

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from flaregate_wire.blobs import Part, Transfer


class StoreError(Exception):
    """The store could not do it.

    StoreError
    ├── ObjectMissing      there is no object under the key
    ├── ObjectExists       a put with `if_absent` came second
    ├── ObjectMismatch     the bytes are not the ones that were announced; nothing was kept
    ├── UploadMissing      the upload in parts was given up, or never begun
    ├── KeyRefused         the key is not one that the store takes
    ├── StoreDenied        the store will never do it: wrong key, no permission, no bucket, a clock that is wrong
    └── StoreUnavailable   the store does not answer, or not now; the same may succeed later
    """


class ObjectMissing(StoreError):
    """There is no object under this key."""


class ObjectExists(StoreError):
    """There is an object under this key already."""


class ObjectMismatch(StoreError):
    """The bytes are not the ones that were announced; nothing was kept."""


class UploadMissing(StoreError):
    """The upload in parts was given up, or never begun."""


class StoreDenied(StoreError):
    """The store will never do it; the message says which action on which key, why, and what to do."""


class StoreUnavailable(StoreError):
    """The store does not answer, or not now."""


class KeyRefused(StoreError):
    """A key is parts of letters, digits and `._=+@-`, separated by single slashes; no part is `.` or `..`."""


_KEY = re.compile(r"[\w.=+@-]+(/[\w.=+@-]+)*", re.ASCII)
KEY_LENGTH = 800
DELETED_AT_ONCE = 1000
PART_LENGTH = 200


def checked(key: str) -> str:
    """The key, if every store can take it. Raises KeyRefused."""
    parts = key.split("/")
    refused = not _KEY.fullmatch(key) or any(part in (".", "..") or len(part) > PART_LENGTH for part in parts)
    if refused or len(key) > KEY_LENGTH:
        raise KeyRefused(f"{KeyRefused.__doc__} This one is {key[:80]!r}")
    return key


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What the store knows of an object without reading it."""

    key: str
    size: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class Begun:
    """An upload in parts that is neither finished nor given up."""

    key: str
    upload: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Expected:
    """What the bytes of a put have to be; None where it is not known beforehand."""

    size: int | None = None
    sha256: str | None = None
    """`sha256:…`"""


ANYTHING = Expected()


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a store was found to be able to do when it was asked at the start."""

    kind: str
    conditional_put: bool
    """It refuses itself to replace an object. Which of two puts at one moment comes first, the gateway decides."""
    checked_parts: bool
    """It refuses bytes whose sum is not the signed one; else only whoever reads them finds out."""


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

    async def delete_all(self, keys: Sequence[str]) -> None:
        """Remove these objects, DELETED_AT_ONCE at most; those that are not there are a success."""
        ...


class Presigns(Protocol):
    """Giving others one request."""

    def presign(self, method: Method, key: str, expected: Expected = ANYTHING) -> Transfer:
        """A request that anyone can make for some minutes, without a credential. No call to the store."""
        ...


class TakesParts(Protocol):
    """Writing one object in parts, which others send by presigned requests, at once and in any order."""

    async def begin(self, key: str, parts: Sequence[Part]) -> str:
        """Begin an upload of these parts (the first is number 0); gives its name. Nothing is under the key yet."""
        ...

    def presign_part(self, key: str, upload: str, number: int, parts: Sequence[Part]) -> Transfer:
        """A request that sends one part; repeating it is harmless. No call to the store."""
        ...

    async def arrived(self, key: str, upload: str, parts: Sequence[Part]) -> frozenset[int]:
        """Numbers of the parts that are there, and are the ones announced as far as the store can say.

        Raises UploadMissing.
        """
        ...

    async def finish(self, key: str, upload: str, parts: Sequence[Part]) -> ObjectInfo:
        """Make the object of its parts; doing it again is a success.

        Raises ObjectMismatch with the numbers of parts that are missing or other ones; UploadMissing.
        """
        ...

    async def abandon(self, key: str, upload: str) -> None:
        """Give an upload up and remove its parts; one that is not there is a success."""
        ...

    def uploads(self, prefix: str) -> AsyncIterator["Begun"]:
        """Every upload under way whose key starts with the prefix, which ends with a slash, in no order."""
        ...


class Store(Gets, Puts, Lists, Presigns, TakesParts, Protocol):
    """All that the gateway needs of a store."""

    async def probe(self) -> Abilities:
        """Find out what the store can do, with an object that is removed again. Raises StoreError."""
        ...

    async def close(self) -> None:
        """Let go of connections and threads."""
        ...
