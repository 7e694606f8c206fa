"""IAM of the simulator: one API key, and tokens that can be decoded and expire."""

import base64
import json
import secrets
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from infra.code_engine.simulator.checks import Refused
from infra.code_engine.simulator.limits import TOKEN_SECONDS

GRANT = "urn:ibm:params:oauth:grant-type:apikey"


class Iam:
    """Who may ask."""

    def __init__(self, key: str, clock: Callable[[], float], token_seconds: float = TOKEN_SECONDS) -> None:
        self.key = key
        self.token_seconds = token_seconds
        self._now = clock
        self.tokens: dict[str, float] = {}
        """When each expires."""

    def issue(self, form: bytes) -> dict[str, Any]:
        """A token for the key. Raises Refused."""
        given = dict(parse_qsl(form.decode(errors="replace")))
        if given.get("grant_type") != GRANT or given.get("apikey") != self.key:
            raise Refused(400, "BXNIM0415E", "Provided API key could not be found.")
        now = int(self._now())
        claims = {"iat": now, "exp": now + int(self.token_seconds), "jti": secrets.token_hex(8)}
        parts = ({"alg": "none", "typ": "JWT"}, claims, secrets.token_hex(8))
        token = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
        self.tokens[token] = self._now() + self.token_seconds
        return {
            "access_token": token,
            "refresh_token": "none",
            "token_type": "Bearer",
            "expires_in": int(self.token_seconds),
            "expiration": claims["exp"],
            "scope": "ibm openid",
        }

    def takes(self, authorization: str) -> bool:
        """Whether a request's header shows a token that is good."""
        kind, _, token = authorization.partition(" ")
        return kind == "Bearer" and self.tokens.get(token, 0.0) >= self._now()
