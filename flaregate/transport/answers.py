"""What an answer means: the model in it or the error that it stands for, and whether to ask again. No I/O."""

from typing import TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from flaregate.errors import FlaregateError, GatewayUnavailable, Refused, error_for
from flaregate_wire.problems import MEDIA_TYPE, Code, Problem

Model = TypeVar("Model", bound=BaseModel)
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
_REFUSED = 400
_SERVER = 500


class TryAgain(Exception):
    """An answer or fault after which the same request may be sent again."""

    def __init__(self, error: FlaregateError, after: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.after = after
        """Seconds that the gateway asked for."""


def check(response: httpx.Response) -> httpx.Response:
    """Give a good answer back; raise TryAgain for a passing fault, the error that it stands for otherwise.

    The body of an answer with an error has been read.
    """
    if response.status_code < _REFUSED:
        return response
    error, again = _error(response)
    if again:
        raise TryAgain(error, _retry_after(response))
    raise error


def _error(response: httpx.Response) -> tuple[FlaregateError, bool]:
    if response.headers.get("content-type", "").startswith(MEDIA_TYPE):
        try:
            problem = Problem.model_validate_json(response.content)
        except ValidationError:  # a code of a newer gateway
            return _plain(response)
        return error_for(problem), problem.retryable or response.status_code in _BUSY - {_SERVER}
    return _plain(response)


def _plain(response: httpx.Response) -> tuple[FlaregateError, bool]:
    """An error of a proxy or a store, which do not speak our language."""
    where = response.request.url.copy_with(query=None, userinfo=b"")
    message = f"{response.status_code} {response.reason_phrase} from {where}: {response.text[:200]}"
    busy = response.status_code in _BUSY
    if busy or response.status_code >= _SERVER:
        return GatewayUnavailable(message, retryable=busy), busy
    return Refused(message, code=Code.INVALID_REQUEST), False


def _retry_after(response: httpx.Response) -> float | None:
    try:
        return float(response.headers.get("retry-after", ""))
    except ValueError:  # absent, or a date
        return None


def fault(error: httpx.TransportError, url: str) -> TryAgain:
    """A connection that was refused, cut or silent."""
    return TryAgain(GatewayUnavailable(f"no answer from {url}: {type(error).__name__}: {error}"))


def read(model: type[Model], response: httpx.Response) -> Model:
    """The model in an answer; raises GatewayUnavailable where there is something else."""
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        where = response.request.url.copy_with(query=None)
        raise GatewayUnavailable(f"{where} does not answer as a gateway does: {error}", retryable=False) from error
