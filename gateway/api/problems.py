"""Every error leaves as `application/problem+json`: the one table from an exception to its problem."""

import logging
import secrets

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from flaregate_wire.problems import MEANING, MEDIA_TYPE, RETRYABLE, STATUS, Code, Fault, Problem, faults_of
from gateway.jobs.errors import Refusal
from gateway.stores.base import KeyRefused, ObjectMismatch, ObjectMissing, StoreError, UploadMissing
from gateway.stores.signing import UrlRefused

log = logging.getLogger(__name__)
RETRY_AFTER = 1
_FRAMEWORK = {404: Code.NOT_FOUND, 405: Code.METHOD_NOT_ALLOWED, 413: Code.TOO_LARGE, 415: Code.UNSUPPORTED_MEDIA_TYPE}
_STORE: dict[type[StoreError], Code] = {
    ObjectMissing: Code.NOT_FOUND,
    UploadMissing: Code.NOT_FOUND,
    KeyRefused: Code.NOT_FOUND,
    ObjectMismatch: Code.BLOB_MISMATCH,
    UrlRefused: Code.URL_EXPIRED,
}


def response(code: Code, detail: str | None = None, errors: tuple[Fault, ...] = ()) -> Response:
    """The answer for a code."""
    trace = secrets.token_hex(8)
    problem = Problem(
        title=MEANING[code],
        status=STATUS[code],
        detail=detail or MEANING[code],
        code=code,
        retryable=code in RETRYABLE,
        trace_id=trace,
        errors=errors,
    )
    headers = {"Retry-After": str(RETRY_AFTER)} if code in RETRYABLE else {}
    if code is Code.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(problem.model_dump_json(), STATUS[code], headers, MEDIA_TYPE)


def _refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)  # noqa: S101 - registered for it
    return response(error.code, str(error), error.errors)


def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, ValidationError | RequestValidationError)  # noqa: S101 - registered for them
    faults = faults_of(error)
    return response(Code.INVALID_REQUEST, "; ".join(item.message for item in faults[:5]), faults)


def _store(_: Request, error: Exception) -> Response:
    code = next((code for kind, code in _STORE.items() if isinstance(error, kind)), Code.UNAVAILABLE)
    return response(code, str(error) or None)


def _framework(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    return response(_FRAMEWORK.get(error.status_code, Code.INVALID_REQUEST))


def _fault(_: Request, error: Exception) -> Response:
    answer = response(Code.INTERNAL)
    log.error("a fault, answered with %s", bytes(answer.body).decode(), exc_info=error)
    return answer


def install(app: FastAPI) -> None:
    """Register the table."""
    for kind, handler in (
        (Refusal, _refusal),
        (ValidationError, _invalid),
        (RequestValidationError, _invalid),
        (StoreError, _store),
        (HTTPException, _framework),
        (Exception, _fault),
    ):
        app.add_exception_handler(kind, handler)
