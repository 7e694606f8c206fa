"""Artifacts out: files that driver and running code have made, small ones whole and large ones in parts."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from flaregate.sums import Sums
from flaregate_wire.attempts import CommittedArtifact, LargePlace
from worker_image.gateway_link import GatewayLink, Refused, insist
from worker_image.parts import AT_ONCE, Ask, Finish, Send, in_parts, pieces, sums_of
from worker_image.transfers import StoreRefused, upload
from worker_image.work import LocalArtifact


async def put_artifact(link: GatewayLink, artifact: LocalArtifact, patience: float) -> CommittedArtifact:
    """Write a file to the store, without holding it in memory. Raises GatewayAway or StoreRefused."""
    path, name = Path(artifact.path), f"artifacts/{artifact.name}"
    sums = await asyncio.to_thread(sums_of, path)
    sending = _Large(link, path, patience).put if sums.parts else _Small(link, path, patience).put
    key = await sending(name, sums)
    return CommittedArtifact(
        name=artifact.name, key=key, media_type=artifact.media_type, size=sums.size, sha256=sums.sha256
    )


class _Small:
    """A file that goes by one request."""

    def __init__(self, link: GatewayLink, path: Path, patience: float) -> None:
        self._link, self._path, self._patience = link, path, patience

    async def put(self, name: str, sums: Sums) -> str:
        """Gives its key."""
        return await insist(lambda: self._once(name, sums.size), patience=self._patience)

    async def _once(self, name: str, size: int) -> str:
        ((key, transfer),) = await self._link.place((name,))
        await upload(self._link.client, transfer, _awaited(pieces(self._path)), size)
        return key


class _Large:
    """A file that goes in parts, some of them at once."""

    def __init__(self, link: GatewayLink, path: Path, patience: float) -> None:
        self._link, self._path, self._patience = link, path, patience

    async def put(self, name: str, sums: Sums) -> str:
        """Gives its key."""
        flow = in_parts(name, sums)
        step = next(flow)
        try:
            while True:
                try:
                    answer = await self._answer(step)
                except (Refused, StoreRefused) as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(answer)
        except StopIteration as done:
            return str(done.value)

    async def _answer(self, step: Ask | tuple[Send, ...] | Finish) -> LargePlace | None:
        match step:
            case Ask(body):
                return await insist(lambda: self._link.parts(body), patience=self._patience)
            case Finish(body):
                await insist(lambda: self._link.finish(body), patience=self._patience)
                return None
            case sends:
                await self._send_all(sends)
                return None

    async def _send_all(self, sends: tuple[Send, ...]) -> None:
        places = asyncio.Semaphore(AT_ONCE)

        async def one(send: Send) -> None:
            async with places:
                await insist(lambda: self._send(send), patience=self._patience)

        sendings = [asyncio.create_task(one(send)) for send in sends]
        try:
            await asyncio.gather(*sendings)
        finally:
            for sending in sendings:
                sending.cancel()
            await asyncio.gather(*sendings, return_exceptions=True)

    async def _send(self, send: Send) -> None:
        content = _awaited(pieces(self._path, send.start, send.stop))
        await upload(self._link.client, send.request, content, send.stop - send.start)


async def _awaited(found: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Pieces that are read in a thread."""
    while piece := await asyncio.to_thread(next, found, b""):
        yield piece
