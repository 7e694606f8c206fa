"""The two thin shells that send: one blocks, one awaits. Every decision is made elsewhere, by functions without I/O."""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, wait
from typing import Any, TypeVar

import httpx
import stamina
from httpx_sse import EventSource

from flaregate.errors import FlaregateError
from flaregate.transport.answers import TryAgain, check, fault
from flaregate.transport.calls import Body, Call
from flaregate.transport.streams import Following, LogFollowing
from flaregate_wire.events import Event

Answer = TypeVar("Answer")
Asked = Call | tuple[Call, ...] | float
Flow = Generator[Asked, Any, Answer]
"""Several requests that make one operation: it yields a request, and is sent the answer; or seconds to wait.

Of a tuple of requests some are under way at once, each is repeated alone, and all answers come together. If one of them
fails, no more are begun.
"""
AT_ONCE = 4
"""Requests of a tuple."""

FIRST_PATIENCE, PATIENCE = 10.0, 90.0
"""Seconds of trying again: before the gateway has ever answered, and after."""
SILENCE = 50.0
"""Seconds without a byte after which a stream is dead: events have a heartbeat every 15 seconds."""
LOG_SILENCE = 3600.0
"""Text has no heartbeat."""
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class _Address:
    """Where the gateway is, who we are, and how a request is written for httpx."""

    def __init__(self, url: str, token: str | None, patience: float | None = None) -> None:
        self.url = url.rstrip("/")
        self._token = token
        self._patience = patience
        self._met = False

    def options(self) -> dict[str, Any]:
        """Of the httpx client: a proxy never stands between a machine and itself."""
        loopback = httpx.URL(self.url).host in _LOOPBACK
        return {"timeout": _timeout(60), "headers": {"User-Agent": "flaregate-sdk"}, "trust_env": not loopback}

    def written(self, call: Call) -> dict[str, Any]:
        """Arguments of `build_request`; the token goes to the gateway alone."""
        headers = dict(call.headers)
        if self._token and not call.presigned:
            headers["Authorization"] = f"Bearer {self._token}"
        url = call.path if call.presigned else f"{self.url}{call.path}"
        return {"method": call.method, "url": url, "params": call.params or None, "headers": headers}

    def retries(self) -> Mapping[str, Any]:
        """Arguments of stamina: back off exponentially, or as long as the gateway asks."""
        patience = self._patience or (PATIENCE if self._met else FIRST_PATIENCE)
        return {"on": _again, "attempts": None, "timeout": patience, "wait_max": 5.0}

    def met(self, response: httpx.Response) -> httpx.Response:
        """The answer, checked."""
        answer = check(response)
        self._met = True
        return answer


def _timeout(seconds: float) -> httpx.Timeout:
    return httpx.Timeout(seconds, connect=10)


def _again(error: Exception) -> bool | float:
    return isinstance(error, TryAgain) and (error.after or True)


class Link(_Address):
    """A blocking connection to a gateway."""

    def __init__(
        self,
        url: str,
        token: str | None,
        *,
        transport: httpx.BaseTransport | None = None,
        patience: float | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(url, token, patience)
        self._http = httpx.Client(transport=transport, **self.options())
        self._sleep = sleep

    def send(self, call: Call, stopped: threading.Event | None = None) -> httpx.Response:
        """One request, again and again while that may help and nobody stops it."""
        try:
            for attempt in stamina.retry_context(**self.retries()):
                with attempt:
                    return self._send(call, stopped or threading.Event())
        except TryAgain as last:
            raise last.error from last.__cause__
        raise AssertionError("unreachable: the loop returns or raises")

    def _request(self, call: Call, content: bytes | Iterator[bytes] | None) -> httpx.Request:
        return self._http.build_request(**self.written(call), content=content, timeout=_timeout(call.seconds))

    def _send(self, call: Call, stopped: threading.Event) -> httpx.Response:
        content = _until(stopped, call.content) if isinstance(call.content, Body) else call.content
        try:
            return self.met(self._http.send(self._request(call, content)))
        except httpx.TransportError as error:
            raise fault(error, self.url) from error

    def _send_all(self, wanted: tuple[Call, ...]) -> list[httpx.Response]:
        """Several requests, some at once. An interrupt does not wait for them."""
        if len(wanted) == 1:
            return [self.send(wanted[0])]
        stopped = threading.Event()
        with ThreadPoolExecutor(AT_ONCE, "requests") as pool:
            sendings = [pool.submit(self.send, call, stopped) for call in wanted]
            try:
                wait(sendings, return_when=FIRST_EXCEPTION)
            except BaseException:
                stopped.set()
                raise
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
        errors = (sending.exception() for sending in sendings if not sending.cancelled())
        for error in errors:
            if error is not None:
                raise error
        return [sending.result() for sending in sendings]

    def _answer(self, asked: Asked) -> object:
        if isinstance(asked, float):
            self._sleep(asked)
            return None
        return self._send_all(asked) if isinstance(asked, tuple) else self.send(asked)

    def run(self, flow: Flow[Answer]) -> Answer:
        """All requests of one operation."""
        step: Callable[[], Asked] = lambda: next(flow)  # noqa: E731 - the step changes in the loop
        while True:
            try:
                asked = step()
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]
            try:
                answer = self._answer(asked)
            except FlaregateError as error:
                step = _thrown(flow, error)
            else:
                step = _sent(flow, answer)

    @contextlib.contextmanager
    def stream(self, call: Call, *, silence: float = SILENCE) -> Iterator[httpx.Response]:
        """An answer that is read in pieces; raises TryAgain for every passing fault, in the middle of it too."""
        request = self._http.build_request(**self.written(call), timeout=httpx.Timeout(silence, connect=10))
        try:
            response = self._http.send(request, stream=True)
            with contextlib.closing(response):
                if response.is_error:
                    response.read()
                yield self.met(response)
        except httpx.TransportError as error:
            raise fault(error, self.url) from error

    def follow(self, following: Following) -> Iterator[Event]:
        """A job's events to the end, each once, over any number of cuts."""
        while not following.ended:
            failed = None
            try:
                with self.stream(following.call()) as response:
                    following.connected()
                    for sent in EventSource(response).iter_sse():
                        event = following.take(sent)
                        if event is not None:
                            yield event
            except TryAgain as error:
                failed = error
            if not following.ended:
                self._sleep(following.pause(failed))

    def lines(self, following: LogFollowing) -> Iterator[str]:
        """The lines of a job's log, over any number of cuts."""
        while not following.ended:
            failed = None
            try:
                with self.stream(following.call(), silence=LOG_SILENCE) as response:
                    following.opened(response.headers)
                    for piece in response.iter_bytes():
                        yield from following.take(piece)
                yield from following.end()
            except TryAgain as error:
                failed = error
            if not following.ended:
                self._sleep(following.pause(failed))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


class AsyncLink(_Address):
    """An awaiting connection to a gateway."""

    def __init__(
        self,
        url: str,
        token: str | None,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        patience: float | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        super().__init__(url, token, patience)
        self._http = httpx.AsyncClient(transport=transport, **self.options())
        self._sleep = sleep

    async def send(self, call: Call) -> httpx.Response:
        """One request, again and again while that may help."""
        try:
            async for attempt in stamina.retry_context(**self.retries()):
                with attempt:
                    return await self._send(call)
        except TryAgain as last:
            raise last.error from last.__cause__
        raise AssertionError("unreachable: the loop returns or raises")

    def _request(self, call: Call, content: bytes | AsyncIterator[bytes] | None) -> httpx.Request:
        return self._http.build_request(**self.written(call), content=content, timeout=_timeout(call.seconds))

    async def _send(self, call: Call) -> httpx.Response:
        content = call.content.pieces() if isinstance(call.content, Body) else call.content
        try:
            return self.met(await self._http.send(self._request(call, content)))
        except httpx.TransportError as error:
            raise fault(error, self.url) from error

    async def _send_all(self, wanted: tuple[Call, ...]) -> list[httpx.Response]:
        """Several requests, some at once."""
        places = asyncio.Semaphore(AT_ONCE)

        async def one(call: Call) -> httpx.Response:
            async with places:
                return await self.send(call)

        sendings = [asyncio.create_task(one(call)) for call in wanted]
        try:
            return await asyncio.gather(*sendings)
        finally:
            for sending in sendings:
                sending.cancel()
            await asyncio.gather(*sendings, return_exceptions=True)

    async def _answer(self, asked: Asked) -> object:
        if isinstance(asked, float):
            await self._sleep(asked)
            return None
        return await (self._send_all(asked) if isinstance(asked, tuple) else self.send(asked))

    async def run(self, flow: Flow[Answer]) -> Answer:
        """All requests of one operation."""
        step: Callable[[], Asked] = lambda: next(flow)  # noqa: E731 - the step changes in the loop
        while True:
            try:
                asked = step()
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]
            try:
                answer = await self._answer(asked)
            except FlaregateError as error:
                step = _thrown(flow, error)
            else:
                step = _sent(flow, answer)

    @contextlib.asynccontextmanager
    async def stream(self, call: Call, *, silence: float = SILENCE) -> AsyncIterator[httpx.Response]:
        """An answer that is read in pieces; raises TryAgain for every passing fault, in the middle of it too."""
        request = self._http.build_request(**self.written(call), timeout=httpx.Timeout(silence, connect=10))
        try:
            response = await self._http.send(request, stream=True)
            async with contextlib.aclosing(response):
                if response.is_error:
                    await response.aread()
                yield self.met(response)
        except httpx.TransportError as error:
            raise fault(error, self.url) from error

    async def follow(self, following: Following) -> AsyncIterator[Event]:
        """A job's events to the end, each once, over any number of cuts."""
        while not following.ended:
            failed = None
            try:
                async with self.stream(following.call()) as response:
                    following.connected()
                    async for sent in EventSource(response).aiter_sse():
                        event = following.take(sent)
                        if event is not None:
                            yield event
            except TryAgain as error:
                failed = error
            if not following.ended:
                await self._sleep(following.pause(failed))

    async def lines(self, following: LogFollowing) -> AsyncIterator[str]:
        """The lines of a job's log, over any number of cuts."""
        while not following.ended:
            failed = None
            try:
                async with self.stream(following.call(), silence=LOG_SILENCE) as response:
                    following.opened(response.headers)
                    async for piece in response.aiter_bytes():
                        for line in following.take(piece):
                            yield line
                for line in following.end():
                    yield line
            except TryAgain as error:
                failed = error
            if not following.ended:
                await self._sleep(following.pause(failed))

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


def _until(stopped: threading.Event, body: Body) -> Iterator[bytes]:
    """The pieces of a body; raises CancelledError as soon as nobody wants it sent any more."""
    for piece in body:
        if stopped.is_set():
            raise CancelledError
        yield piece


def _thrown(flow: Flow[Any], error: FlaregateError) -> Callable[[], Asked]:
    return lambda: flow.throw(error)


def _sent(flow: Flow[Any], answer: object) -> Callable[[], Asked]:
    return lambda: flow.send(answer)
