"""Presigned URLs of the gateway itself, for a store that has none of its own."""

import hashlib
import hmac
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from urllib.parse import quote, urlencode

from flaregate_wire.blobs import Transfer
from gateway.stores.base import Expected, Method, Store, StoreError

_SIGNED = ("method", "expires", "size", "sha256", "upload", "part", "offset")


class UrlRefused(StoreError):
    """The URL's time is over, or its signature is not ours."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Where one part of an upload goes."""

    upload: str
    part: int
    offset: int
    """Bytes of the object before it."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a signed request may do."""

    expected: Expected
    slot: Slot | None = None
    """None: the bytes are the whole object."""


class ServedStore(Store, Protocol):
    """A store whose presigned URLs the gateway serves."""

    async def take(self, key: str, drop: str) -> None:
        """Make a file that a process of this machine has dropped an object; whoever reads it checks its sum.

        Raises UploadMissing where there is no such file, ObjectExists where the object is there already.
        """
        ...

    async def put_part(self, key: str, slot: Slot, pieces: AsyncIterator[bytes], expected: Expected) -> None:
        """Keep one part. Raises UploadMissing, ObjectMismatch; a part that is there already stays as it is."""
        ...


@dataclass(frozen=True, slots=True)
class UrlSigner:
    """Signs and checks URLs under `/v1/objects/`."""

    secret: bytes
    base_url: str
    age: float
    """Seconds."""
    now: Callable[[], datetime]

    def sign(self, method: Method, key: str, expected: Expected, slot: Slot | None = None) -> Transfer:
        """One request for one key, with the size and sum that a PUT has to have."""
        params = {"method": method, "expires": str(int((self.now() + timedelta(seconds=self.age)).timestamp()))}
        if expected.size is not None:
            params["size"] = str(expected.size)
        if expected.sha256 is not None:
            params["sha256"] = expected.sha256
        if slot is not None:
            params |= {"upload": slot.upload, "part": str(slot.part), "offset": str(slot.offset)}
        params["signature"] = self._signature(key, params)
        headers = {"Content-Type": "application/octet-stream"} if method == "PUT" else {}
        return Transfer(
            method=method, url=f"{self.base_url}/v1/objects/{quote(key)}?{urlencode(params)}", headers=headers
        )

    def check(self, method: str, key: str, params: Mapping[str, str]) -> Grant:
        """What a signed request may do. Raises UrlRefused."""
        signed = {name: params[name] for name in _SIGNED if name in params}
        genuine = hmac.compare_digest(self._signature(key, signed).encode(), params.get("signature", "").encode())
        if not genuine or signed.get("method") != method:
            raise UrlRefused("the signature does not fit this request")
        if int(signed["expires"]) < self.now().timestamp():
            raise UrlRefused("its time is over")
        expected = Expected(int(signed["size"]) if "size" in signed else None, signed.get("sha256"))
        if "upload" not in signed:
            return Grant(expected)
        return Grant(expected, Slot(signed["upload"], int(signed["part"]), int(signed["offset"])))

    def _signature(self, key: str, params: Mapping[str, str]) -> str:
        text = "\n".join([key, *(f"{name}={params[name]}" for name in sorted(params))])
        return hmac.new(self.secret, b"url\n" + text.encode(), hashlib.sha256).hexdigest()
