"""Why the gateway refuses a request: one tree, each class with its code on the wire.

Refusal
├── NotAcceptable       none of the media types that are asked for
├── JobMissing          no such job, attempt, artifact or blob for this tenant
├── InvalidRequest      the body or a parameter is not what the endpoint takes
├── InvalidDefinition   the pipeline or job breaks a rule
├── EnvironmentMismatch the payloads need versions that the containers have not
├── BlobMissing         the definition refers to a blob that is not staged
├── BlobMismatch        the staged bytes are not the ones announced
├── PriceUnknown        a cost cap without a price
├── TooLarge            a body is over a limit
├── KeyReused           an Idempotency-Key came with another body
├── KeyInFlight         the first request with an Idempotency-Key is not answered yet
├── JobNotDone          the job has not ended
├── AttemptOver         the attempt has ended or another has taken its place
├── BootConflict        another boot of the container has the order
├── SequenceGap         events before a batch are missing
├── DatabaseAway        the database does not answer, or not in time
├── NotAcceptable       none of the media types that are asked for can be given
└── Unauthorized        the token is missing or wrong
"""

from typing import ClassVar

from flaregate_wire.problems import MEANING, Code, Fault


class Refusal(Exception):
    """A request that is not carried out; the message is for the one who made it."""

    code: ClassVar[Code] = Code.INTERNAL

    def __init__(self, detail: str | None = None, errors: tuple[Fault, ...] = ()) -> None:
        super().__init__(detail or MEANING[self.code])
        self.errors = errors


class JobMissing(Refusal):
    code = Code.NOT_FOUND


class InvalidRequest(Refusal):
    code = Code.INVALID_REQUEST


class InvalidDefinition(Refusal):
    code = Code.INVALID_DEFINITION


class EnvironmentMismatch(Refusal):
    code = Code.ENVIRONMENT_MISMATCH


class BlobMissing(Refusal):
    code = Code.BLOB_MISSING


class BlobMismatch(Refusal):
    code = Code.BLOB_MISMATCH


class PriceUnknown(Refusal):
    code = Code.PRICE_UNKNOWN


class TooLarge(Refusal):
    code = Code.TOO_LARGE


class KeyReused(Refusal):
    code = Code.IDEMPOTENCY_MISMATCH


class KeyInFlight(Refusal):
    code = Code.IDEMPOTENCY_IN_FLIGHT


class JobNotDone(Refusal):
    code = Code.JOB_NOT_DONE


class AttemptOver(Refusal):
    code = Code.ATTEMPT_OVER


class BootConflict(Refusal):
    code = Code.BOOT_CONFLICT


class SequenceGap(Refusal):
    code = Code.SEQUENCE_GAP


class DatabaseAway(Refusal):
    code = Code.UNAVAILABLE


class Unauthorized(Refusal):
    code = Code.UNAUTHORIZED


class NotAcceptable(Refusal):
    code = Code.NOT_ACCEPTABLE
