"""Errors on the wire: RFC 9457 problem details with a closed list of codes."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Protocol

from pydantic import Field

from flaregate_wire.model import PeerModel

MEDIA_TYPE = "application/problem+json"


class Code(StrEnum):
    """What went wrong, for programs."""

    INVALID_REQUEST = "invalid_request"
    INVALID_DEFINITION = "invalid_definition"
    ENVIRONMENT_MISMATCH = "environment_mismatch"
    BLOB_MISSING = "blob_missing"
    BLOB_MISMATCH = "blob_mismatch"
    PRICE_UNKNOWN = "price_unknown"
    UNAUTHORIZED = "unauthorized"
    FOREIGN_HOST = "foreign_host"
    FOREIGN_ORIGIN = "foreign_origin"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    NOT_ACCEPTABLE = "not_acceptable"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    TOO_LARGE = "too_large"
    IDEMPOTENCY_MISMATCH = "idempotency_mismatch"
    IDEMPOTENCY_IN_FLIGHT = "idempotency_in_flight"
    JOB_NOT_DONE = "job_not_done"
    ATTEMPT_OVER = "attempt_over"
    BOOT_CONFLICT = "boot_conflict"
    SEQUENCE_GAP = "sequence_gap"
    URL_EXPIRED = "url_expired"
    TOO_MANY_STREAMS = "too_many_streams"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


STATUS: dict[Code, int] = {
    Code.INVALID_REQUEST: 422,
    Code.INVALID_DEFINITION: 422,
    Code.ENVIRONMENT_MISMATCH: 422,
    Code.BLOB_MISSING: 422,
    Code.BLOB_MISMATCH: 422,
    Code.PRICE_UNKNOWN: 422,
    Code.UNAUTHORIZED: 401,
    Code.FOREIGN_HOST: 421,
    Code.FOREIGN_ORIGIN: 403,
    Code.NOT_FOUND: 404,
    Code.METHOD_NOT_ALLOWED: 405,
    Code.NOT_ACCEPTABLE: 406,
    Code.UNSUPPORTED_MEDIA_TYPE: 415,
    Code.TOO_LARGE: 413,
    Code.IDEMPOTENCY_MISMATCH: 422,
    Code.IDEMPOTENCY_IN_FLIGHT: 409,
    Code.JOB_NOT_DONE: 409,
    Code.ATTEMPT_OVER: 409,
    Code.BOOT_CONFLICT: 409,
    Code.SEQUENCE_GAP: 409,
    Code.URL_EXPIRED: 403,
    Code.TOO_MANY_STREAMS: 429,
    Code.UNAVAILABLE: 503,
    Code.INTERNAL: 500,
}

RETRYABLE = frozenset({Code.IDEMPOTENCY_IN_FLIGHT, Code.TOO_MANY_STREAMS, Code.UNAVAILABLE, Code.INTERNAL})

MEANING: dict[Code, str] = {
    Code.INVALID_REQUEST: "the body or a parameter is not what the endpoint takes; `errors` points at each place",
    Code.INVALID_DEFINITION: "the pipeline or job breaks a rule; `errors` names the node, the rule and what to do",
    Code.ENVIRONMENT_MISMATCH: "the payloads need versions that the worker's environment does not have",
    Code.BLOB_MISSING: "the definition refers to a blob that has not been staged",
    Code.BLOB_MISMATCH: "the bytes that arrived are not the ones that were announced; stage them again",
    Code.PRICE_UNKNOWN: "a cost cap needs a price, and this launcher has none; leave max_cost out or set a price",
    Code.UNAUTHORIZED: "the bearer token is missing, wrong or over",
    Code.FOREIGN_HOST: "the Host header names a host that this gateway is not",
    Code.FOREIGN_ORIGIN: "a web page of another origin may not use this gateway",
    Code.NOT_FOUND: "there is nothing at that address for you",
    Code.METHOD_NOT_ALLOWED: "the address exists and does not take that method",
    Code.NOT_ACCEPTABLE: "none of the media types in Accept can be made here",
    Code.UNSUPPORTED_MEDIA_TYPE: "the body's Content-Type is not one that the endpoint takes",
    Code.TOO_LARGE: "the body is over a limit, which the message names",
    Code.IDEMPOTENCY_MISMATCH: "this Idempotency-Key was used with another body",
    Code.IDEMPOTENCY_IN_FLIGHT: "the first request with this Idempotency-Key has not been answered yet",
    Code.JOB_NOT_DONE: "the job has not ended; cancel it first or wait",
    Code.ATTEMPT_OVER: "this attempt has ended or another one has taken its place",
    Code.BOOT_CONFLICT: "another boot of this container has already taken the order",
    Code.SEQUENCE_GAP: "events before this batch are missing; send from the number named",
    Code.URL_EXPIRED: "the presigned URL is over or its signature is wrong; ask for a new one",
    Code.TOO_MANY_STREAMS: "more streams are open than one tenant may have; close some, or try again later",
    Code.UNAVAILABLE: "the gateway cannot answer just now; try again after Retry-After seconds",
    Code.INTERNAL: "the gateway has a fault; its log has the trace id",
}


class Fault(PeerModel):
    """One place that is wrong."""

    pointer: str = Field(description="JSON Pointer into the body, or a parameter's name.")
    rule: str = Field(description="A word for the rule that is broken, e.g. `cycle`.")
    message: str


class Invalid(Protocol):
    """What pydantic raises for a model, and FastAPI for a request."""

    def errors(self) -> Sequence[Any]:
        """Each place with `loc`, `type` and `msg`."""


def faults_of(error: Invalid) -> tuple[Fault, ...]:
    """Every place that a wire model refuses; the messages say where."""
    return tuple(
        Fault(
            pointer="".join(f"/{part}" for part in item["loc"]),
            rule=item["type"],
            message=f"{'.'.join(map(str, item['loc'])) or 'the body'}: {item['msg']}",
        )
        for item in error.errors()
    )


class Problem(PeerModel):
    """An error as the gateway sends it."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: Code
    retryable: bool = False
    trace_id: str = ""
    errors: tuple[Fault, ...] = ()
