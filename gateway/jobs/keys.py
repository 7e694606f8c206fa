"""What containers show to prove who they are: derived from the gateway's secret, so nothing of it is stored."""

import hashlib
import hmac
from dataclasses import dataclass

from gateway.jobs.errors import Unauthorized


@dataclass(frozen=True, slots=True)
class Container:
    """Who is asking: one boot of one container of one attempt."""

    attempt: str
    index: int
    boot: str


@dataclass(frozen=True, slots=True)
class Keys:
    """Makes and checks the codes and tokens of attempts."""

    secret: bytes

    def _sign(self, *words: str) -> str:
        return hmac.new(self.secret, "\n".join(words).encode(), hashlib.sha256).hexdigest()

    def bootstrap(self, attempt: str) -> str:
        """What a container exchanges, once for each boot, for its order."""
        return self._sign("bootstrap", attempt)

    def ray(self, attempt: str) -> str:
        """The token of the attempt's Ray cluster."""
        return self._sign("ray", attempt)

    def nodes(self, attempt: str) -> str:
        """What the attempt's nodes make the authority of their certificates of."""
        return self._sign("nodes", attempt)

    def token(self, container: Container) -> str:
        """The token of one boot of one container."""
        who = f"{container.attempt}.{container.index}.{container.boot}"
        return f"{who}.{self._sign('token', who)}"

    def check_bootstrap(self, attempt: str, shown: str) -> None:
        """Raise Unauthorized if the code is not this attempt's."""
        if not hmac.compare_digest(self.bootstrap(attempt).encode(), shown.encode()):
            raise Unauthorized

    def check_token(self, attempt: str, shown: str) -> Container:
        """Whose token it is. Raises Unauthorized for a forged one or another attempt's."""
        who, _, signature = shown.rpartition(".")
        genuine = hmac.compare_digest(self._sign("token", who).encode(), signature.encode())
        parts = who.rsplit(".", 2)
        if not genuine or len(parts) != 3 or parts[0] != attempt:  # noqa: PLR2004
            raise Unauthorized
        return Container(parts[0], int(parts[1]), parts[2])
