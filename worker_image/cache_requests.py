"""The driver's requests to gateway and store: blocking, repeated while nobody answers, and counted.

The driver is a process without an event loop and runs no user code, so it may hold the attempt's token.
"""

import hashlib
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import httpx

from flaregate_wire.attempts import CacheObject, LargePlace, ObjectsAnswer, ObjectsRequest
from flaregate_wire.blobs import DROP_HEADER, Transfer
from flaregate_wire.model import PeerModel
from worker_image.gateway_link import PUTTING_TOGETHER, GatewayAway, Refused, error_of
from worker_image.parts import Ask, Finish, Send, in_parts, pieces, sums_of
from worker_image.settings import is_loopback
from worker_image.transfers import StoreRefused

log = logging.getLogger(__name__)
T = TypeVar("T")
_CHUNK = 1024 * 1024
_SERVER_FAULT = 500
_ASK_SECONDS = 10.0
_SEND_SECONDS = 60.0
_FIRST_WAIT = 0.1
_LONGEST_WAIT = 2.0


class Requests:
    """Of one attempt. Threads may share it."""

    def __init__(self, url: str, attempt: str, token: str, patience: float, drops: Path | None = None) -> None:
        self._client = httpx.Client(base_url=url, trust_env=not is_loopback(httpx.URL(url).host))
        self._base = f"/v1/attempts/{attempt}"
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._patience = patience
        self._drops = drops
        self._lock = threading.Lock()
        self._away = False
        self.deadline = float("inf")
        """When nothing more is begun or repeated, on the monotonic clock."""
        self.count = 0
        """Requests that were sent, to the gateway and to the store."""

    def ask(self, path: str, body: PeerModel, seconds: float = _ASK_SECONDS) -> bytes:
        """A question to the gateway. Raises GatewayAway, AttemptOver or Refused."""
        content = body.model_dump_json().encode()

        def once() -> bytes:
            with self._sent("POST", self._base + path, seconds, headers=self._headers, content=content) as response:
                response.read()
                if not response.is_success:
                    raise error_of(response)
                return response.content

        return self._insist(once)

    def read(self, transfer: Transfer, item: CacheObject, path: Path) -> None:
        """Download an object, exactly the bytes announced. Raises GatewayAway or StoreRefused, and leaves no file."""
        try:
            self._insist(lambda: self._read(transfer, item, path))
        except BaseException:  # whatever it is: half a file is no file
            path.unlink(missing_ok=True)
            raise

    def _read(self, transfer: Transfer, item: CacheObject, path: Path) -> None:
        sums, size = hashlib.sha256(), 0
        with self._sent(transfer.method, transfer.url, _SEND_SECONDS, headers=transfer.headers) as response:
            _check(response)
            with path.open("wb") as file:
                for chunk in response.iter_bytes(_CHUNK):
                    size += len(chunk)
                    if size > item.size:
                        break
                    sums.update(chunk)
                    file.write(chunk)
        if size != item.size or f"sha256:{sums.hexdigest()}" != item.sha256:
            raise StoreRefused(f"{item.key} is not the {item.size} bytes of {item.sha256}")

    def write_file(self, path: Path) -> CacheObject:
        """Write a large result, in parts where it is very large. Raises as `write`."""
        if self._drops is not None and (dropped := self._dropped(path, self._drops)) is not None:
            return dropped
        sums = sums_of(path)
        if not sums.parts:
            return self.write(sums.sha256, sums.size, lambda: pieces(path))
        flow = in_parts(f"cache/{sums.sha256.removeprefix('sha256:')}", sums)
        step = next(flow)
        try:
            while True:
                try:
                    answer = self._answer(step, path)
                except (Refused, StoreRefused) as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(answer)
        except StopIteration as done:
            return CacheObject(key=done.value, size=sums.size, sha256=sums.sha256)

    def _dropped(self, path: Path, drops: Path) -> CacheObject | None:
        """Hand the file itself over; None where the gateway does not take it so, and its bytes have to be sent."""
        with path.open("rb") as file:
            sha256 = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        key, transfer = self._place(sha256)
        if httpx.URL(transfer.url).netloc != self._client.base_url.netloc:
            return None
        drop = drops / secrets.token_hex(16)
        try:
            _copy(path, drop)
            named = transfer.model_copy(update={"headers": {**transfer.headers, DROP_HEADER: drop.name}})
            self._put(named, 0, lambda: iter(()))
        except (OSError, StoreRefused) as error:
            log.warning("%s is sent, as it cannot be handed over: %s", key, error)
            return None
        finally:
            drop.unlink(missing_ok=True)
        return CacheObject(key=key, size=path.stat().st_size, sha256=sha256)

    def _answer(self, step: Ask | tuple[Send, ...] | Finish, path: Path) -> LargePlace | None:
        match step:
            case Ask(body):
                return LargePlace.model_validate_json(self.ask("/parts", body))
            case Finish(body):
                self.ask("/parts:finish", body, PUTTING_TOGETHER)
            case sends:
                for send in sends:
                    self._put(send.request, send.stop - send.start, partial(pieces, path, send.start, send.stop))
        return None

    def write(self, sha256: str, size: int, chunks: Callable[[], Iterator[bytes]]) -> CacheObject:
        """Write an object of the cache, named by its sum. Raises GatewayAway, AttemptOver, Refused or StoreRefused."""
        key, transfer = self._place(sha256)
        self._put(transfer, size, chunks)
        return CacheObject(key=key, size=size, sha256=sha256)

    def _place(self, sha256: str) -> tuple[str, Transfer]:
        asked = ObjectsRequest(put=(f"cache/{sha256.removeprefix('sha256:')}",))
        ((key, transfer),) = ObjectsAnswer.model_validate_json(self.ask("/objects", asked)).put
        return key, transfer

    def _put(self, transfer: Transfer, size: int, chunks: Callable[[], Iterator[bytes]]) -> None:
        headers = {**transfer.headers, "Content-Length": str(size)}

        def once() -> None:
            content = self._in_time(chunks())
            with self._sent(transfer.method, transfer.url, _SEND_SECONDS, headers=headers, content=content) as response:
                response.read()
                _check(response)

        self._insist(once)

    def _in_time(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            if time.monotonic() > self.deadline:
                raise GatewayAway("there is no time left")
            yield chunk

    @contextmanager
    def _sent(
        self,
        method: str,
        url: str,
        seconds: float,
        *,
        headers: dict[str, str],
        content: bytes | Iterator[bytes] | None = None,
    ) -> Iterator[httpx.Response]:
        left = min(seconds, self.deadline - time.monotonic())
        if left <= 0:
            raise GatewayAway("there is no time left")
        with self._lock:
            self.count += 1
        try:
            with self._client.stream(method, url, headers=headers, content=content, timeout=left) as response:
                yield response
        except httpx.TransportError as exc:
            raise GatewayAway(f"{method} {httpx.URL(url).path}: {exc!r}") from exc

    def _insist(self, call: Callable[[], T]) -> T:
        """Repeat a call for as long as our patience lasts; once it is at an end, every call is made once."""
        end = min(time.monotonic() + (0 if self._away else self._patience), self.deadline)
        wait = _FIRST_WAIT
        while True:
            try:
                found = call()
            except GatewayAway:
                if time.monotonic() + wait > end:
                    self._away = True
                    raise
            else:
                self._away = False
                return found
            time.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT)

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()


def _copy(path: Path, drop: Path) -> None:
    """As a second name of the same bytes, where both lie on one file system."""
    try:
        os.link(path, drop)
    except OSError:
        shutil.copyfile(path, drop)


def _check(response: httpx.Response) -> None:
    if response.status_code >= _SERVER_FAULT:
        raise GatewayAway(f"the store answers {response.status_code}")
    if not response.is_success:
        raise StoreRefused(f"the store answers {response.status_code}")
