"""Requests of the gateway to itself, from outside: while they come the platform does not end it as idle."""

import asyncio
import logging
from collections.abc import Callable

log = logging.getLogger(__name__)
_TIMEOUT = 10.0


class Awake:
    """They are sent only while there is work of which nobody else will tell a gateway."""

    def __init__(self, url: str, seconds: float, needed: Callable[[], bool]) -> None:
        self._url = f"{url.rstrip('/')}/healthz"
        self._seconds = seconds
        self.needed = needed

    async def run(self) -> None:
        """Look every so many seconds, until cancelled."""
        while True:
            await asyncio.sleep(self._seconds)
            if self.needed():
                await self.ask()

    async def ask(self) -> None:
        """One request. From a gateway that has ended it starts the next one."""
        import httpx  # noqa: PLC0415 - few gateways need it

        try:
            async with httpx.AsyncClient(trust_env=False, timeout=_TIMEOUT) as http:
                (await http.get(self._url)).raise_for_status()
        except httpx.HTTPError as error:
            log.warning("no answer at %s, this gateway's own address; work is left: %r", self._url, error)
