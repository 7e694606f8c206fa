"""The client of `client=None`: one in the process, opened at first use and kept warm until the process ends."""

import atexit
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

from flaregate.client import Client
from flaregate.sklearn.jobs import JobClient


def in_task() -> bool:
    """Whether this process runs tasks: it has the engine."""
    return "worker_image.engine" in sys.modules


class SharedClient:
    """Opens a client once for all threads; a forked child leaves its parent's alone and opens its own."""

    def __init__(self, opened: Callable[[], Client] = Client, inside: Callable[[], bool] = in_task) -> None:
        self._opened = opened
        self._inside = inside
        self._lock = Lock()
        self._client: Client | None = None
        self._lent: JobClient | None = None
        self._parents: list[Client] = []
        """Kept, not closed: their connections and gateway belong to the parent."""

    def get(self) -> JobClient | None:
        """The client; None in a process of user code, where a job within a job would wait for its own machines."""
        with self._lock:
            if self._lent is not None:
                return self._lent
            if self._inside():
                return None
            if self._client is None:
                self._client = self._opened()
            return self._client

    @contextmanager
    def lend(self, client: JobClient | None) -> Iterator[None]:
        """Use another one meanwhile, in all threads; None for the process's own."""
        before, self._lent = self._lent, client
        try:
            yield
        finally:
            self._lent = before

    def close(self) -> None:
        """Close it; an embedded gateway ends with its last user."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def forked(self) -> None:
        """In the child: begin anew."""
        self._lock = Lock()
        if self._client is not None:
            self._parents.append(self._client)
            self._client = None


SHARED = SharedClient()
atexit.register(SHARED.close)
os.register_at_fork(after_in_child=SHARED.forked)
