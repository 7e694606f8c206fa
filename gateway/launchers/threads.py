"""Threads for the requests to one platform: one that takes its time must not take the threads that others wait for."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

THREADS = 10
"""As many as the reconciler has requests at once: its workers, a look, and a search for runs without an owner."""

T = TypeVar("T")


class Threads:
    """Of one launcher whose SDK blocks."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(THREADS, name)

    async def run(self, work: Callable[..., T], *given: Any) -> T:
        """Call it in one of them."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *given)

    def close(self) -> None:
        """Begin nothing more; what has begun is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)
