"""Who is asking: the owner's token for users, an attempt's token for containers."""

import hmac
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from flaregate_wire.jobs import Principal
from gateway.jobs.errors import Unauthorized
from gateway.jobs.keys import Container, Keys

OWNER = Principal(tenant="default", name="owner")


@dataclass(frozen=True, slots=True)
class Identity:
    """Checks what a request shows."""

    token: str
    keys: Keys

    def user(self, shown: str) -> Principal:
        """Raise Unauthorized unless it is the owner's token."""
        if not hmac.compare_digest(shown.encode(), self.token.encode()):
            raise Unauthorized
        return OWNER


def bearer(request: Request) -> str:
    """The bearer token that a request shows; empty without one."""
    kind, _, shown = request.headers.get("authorization", "").partition(" ")
    return shown.strip() if kind.lower() == "bearer" else ""


def _identity(request: Request) -> Identity:
    found: Identity = request.app.state.identity
    return found


def user(request: Request) -> Principal:
    """The user behind a request."""
    return _identity(request).user(bearer(request))


def container(request: Request, attempt: str) -> Container:
    """The container behind a request to its attempt."""
    return _identity(request).keys.check_token(attempt, bearer(request))


def starting(request: Request, attempt: str) -> str:
    """The attempt of a container that shows its bootstrap code."""
    _identity(request).keys.check_bootstrap(attempt, bearer(request))
    return attempt


User = Annotated[Principal, Depends(user)]
Asking = Annotated[Container, Depends(container)]
Starting = Annotated[str, Depends(starting)]
