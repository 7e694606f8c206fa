"""The contract between the gateway and what holds files that it did not write: looking at them, never reading them."""

from typing import Protocol

from flaregate_wire.references import RemoteFile, RemoteRead


class TooMany(Exception):
    """A folder has more files than were asked for."""


class FindsFiles(Protocol):
    """One kind of place: buckets, or the web."""

    def fault(self, address: str) -> str | None:
        """Why an address will not be looked at, and what to do; None where nothing is known against it. No I/O."""
        ...

    async def files(self, address: str, most: int) -> tuple[RemoteFile, ...]:
        """The file, or the files of a folder in the order of their names; it takes a minute at most.

        Raises StoreUnavailable where the same may succeed later, another StoreError where it will not; TooMany.
        """
        ...

    def read(self, file: RemoteFile) -> RemoteRead:
        """How a container reads the file, if it is still the same. No I/O."""
        ...

    async def close(self) -> None:
        """Let go of connections and threads."""
        ...
