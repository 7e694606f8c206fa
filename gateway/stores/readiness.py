"""Whether the store can be used: found out at the start, and looked at again when somebody asks."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

from gateway.stores.base import Abilities, ObjectMissing, Store, StoreDenied, StoreError

log = logging.getLogger(__name__)
AGE = 5.0
"""Seconds for which an answer is given again: everybody may ask."""
PATIENCE = 10.0
"""Seconds for the store to answer."""


class Readiness:
    """One store, asked by one at a time."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._now = clock
        self._turn = asyncio.Lock()
        self._abilities: Abilities | None = None
        self._answer: Abilities | None = None
        self._asked = float("-inf")

    async def begin(self) -> None:
        """Ask for the first time; a store that is only away now is asked again later. Raises StoreDenied."""
        async with self._turn:
            await self._ask(refuse=True)

    async def run(self) -> None:
        """Ask until it has answered once."""
        while await self.look() is None:  # noqa: ASYNC110 - it tells nobody when it is back
            await asyncio.sleep(AGE)

    async def look(self) -> Abilities | None:
        """What the store can do; None while it cannot be used."""
        async with self._turn:
            if self._now() - self._asked >= AGE:
                await self._ask()
            return self._answer

    async def _ask(self, *, refuse: bool = False) -> None:
        self._answer = None
        try:
            async with asyncio.timeout(PATIENCE):
                await self._look()
            self._answer = self._abilities
        except TimeoutError:
            log.warning("the store does not answer within %s s", PATIENCE)
        except StoreError as error:
            if refuse and isinstance(error, StoreDenied):
                raise
            log.warning("the store cannot be used: %s", error)
        finally:
            self._asked = self._now()

    async def _look(self) -> None:
        if self._abilities is None:
            self._abilities = await self._store.probe()
            log.info("the store: %s", self._abilities)
            return
        with suppress(ObjectMissing):  # that is an answer
            await self._store.head("probe")
