"""Whether bytes are those that were announced. The one module that compares what is written with its sum."""

import hashlib

from gateway.stores.base import Expected, ObjectMismatch


class Check:
    """Looks at all bytes of one put as they pass."""

    def __init__(self, expected: Expected) -> None:
        self._expected = expected
        self._size = 0
        self._digest = hashlib.sha256()

    def take(self, data: bytes | bytearray) -> None:
        """Look at the next bytes, before they are written; of many, in a thread. Raises ObjectMismatch."""
        self._size += len(data)
        if self._expected.size is not None and self._size > self._expected.size:
            raise ObjectMismatch(f"more than the {self._expected.size} bytes that were announced")
        if self._expected.sha256 is not None:
            self._digest.update(data)

    def end(self) -> None:
        """All bytes have passed. Raises ObjectMismatch."""
        if self._expected.size not in (None, self._size):
            raise ObjectMismatch(f"{self._size} bytes came, {self._expected.size} were announced")
        if self._expected.sha256 not in (None, f"sha256:{self._digest.hexdigest()}"):
            raise ObjectMismatch(f"the bytes are not those of {self._expected.sha256}")
