"""Checks Host, Origin and media type before every route: no web page gets in by rebinding or a form."""

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from flaregate_wire.problems import Code
from gateway.api.problems import response

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
_TAKEN = frozenset({"application/json", "application/octet-stream"})


def host_of(header: str) -> str:
    """The host of a Host header, without its port."""
    return header.rpartition(":")[0] if header.rpartition(":")[2].isdigit() else header


class Guard:
    """ASGI middleware; it looks at headers only."""

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app = app
        self._hosts = LOOPBACK | set(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        code = self._refusal(scope["method"], Headers(scope=scope))
        if code is not None:
            return await response(code)(scope, receive, send)
        return await self._app(scope, receive, send)

    def _refusal(self, method: str, headers: Headers) -> Code | None:
        if host_of(headers.get("host", "")).lower() not in self._hosts:
            return Code.FOREIGN_HOST
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            return Code.FOREIGN_ORIGIN
        if method in ("POST", "PUT", "PATCH", "DELETE"):
            media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
            if media_type and media_type not in _TAKEN:
                return Code.UNSUPPORTED_MEDIA_TYPE
        return None
