"""What went wrong at the service, in the store's own words: the one table from boto3's errors to ours."""

from botocore import exceptions as boto

from gateway.stores.base import (
    ObjectExists,
    ObjectMismatch,
    ObjectMissing,
    StoreDenied,
    StoreError,
    StoreUnavailable,
    UploadMissing,
)


class Conflict(StoreUnavailable):
    """Another put to the same key was under way; which of them comes first is not decided yet."""


class RangeEmpty(StoreError):
    """The range begins behind the last byte."""


class NotOffered(StoreDenied):
    """The service does not do this at all."""


Meaning = tuple[type[StoreError], str]
"""The class, and what to do."""
_ALLOW = "allow {action} on it to the gateway's key, in the bucket's and in the user's policy"
_ALLOW_BOTH = "allow {action} on it, and s3:ListBucket on the bucket (else what is not there looks forbidden)"
_CREATE = "create the bucket, or correct FLAREGATE_S3_BUCKET, FLAREGATE_S3_REGION or FLAREGATE_S3_ENDPOINT"
_KEY = "correct FLAREGATE_S3_ACCESS_KEY (or what AWS's own configuration says)"
_REGION = "set FLAREGATE_S3_REGION and FLAREGATE_S3_ENDPOINT to those of the bucket"
_SECRET = "correct FLAREGATE_S3_ACCESS_KEY and FLAREGATE_S3_SECRET_KEY; for some services FLAREGATE_S3_REGION"  # noqa: S105
_TOKEN = "renew the temporary credentials"  # noqa: S105 - advice
_LATER = "it was tried several times; try again later"
_TABLE: tuple[tuple[tuple[str, ...], type[StoreError], str], ...] = (
    (("NoSuchKey", "NotFound", "404"), ObjectMissing, ""),
    (("NoSuchUpload",), UploadMissing, ""),
    (("PreconditionFailed", "412"), ObjectExists, ""),
    (("ConditionalRequestConflict", "OperationAborted"), Conflict, _LATER),
    (("SlowDown", "RequestTimeout", "Throttling", "TooManyRequests", "429"), StoreUnavailable, _LATER),
    (("InvalidRange", "416"), RangeEmpty, ""),
    (("BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "InvalidPart"), ObjectMismatch, ""),
    (("NotImplemented", "501"), NotOffered, ""),
    (("NoSuchBucket", "InvalidBucketName"), StoreDenied, _CREATE),
    (("AccessDenied", "AllAccessDisabled", "AccountProblem"), StoreDenied, _ALLOW),
    (("403",), StoreDenied, _ALLOW_BOTH),
    (("InvalidAccessKeyId", "NotSignedUp"), StoreDenied, _KEY),
    (("SignatureDoesNotMatch",), StoreDenied, _SECRET),
    (("ExpiredToken", "InvalidToken", "TokenRefreshRequired"), StoreDenied, _TOKEN),
    (("RequestTimeTooSkewed",), StoreDenied, "set the clock of the gateway's machine"),
    (("AuthorizationHeaderMalformed", "PermanentRedirect", "301"), StoreDenied, _REGION),
)
_BY_CODE: dict[str, Meaning] = {code: (kind, advice) for codes, kind, advice in _TABLE for code in codes}
_BY_CLASS: dict[type[boto.BotoCoreError], Meaning] = {
    boto.NoCredentialsError: (StoreDenied, "set FLAREGATE_S3_ACCESS_KEY and FLAREGATE_S3_SECRET_KEY, or AWS's own"),
    boto.PartialCredentialsError: (StoreDenied, "set both, access key and secret key"),
    boto.SSLError: (StoreDenied, "set FLAREGATE_S3_CA to a file with the authority that the service's certificate has"),
    boto.BotoCoreError: (StoreUnavailable, _LATER),
}
_ACTION = {
    "get_object": "s3:GetObject",
    "head_object": "s3:GetObject",
    "list_objects_v2": "s3:ListBucket",
    "delete_object": "s3:DeleteObject",
    "list_parts": "s3:ListMultipartUploadParts",
    "abort_multipart_upload": "s3:AbortMultipartUpload",
}
FAULT = 500
"""From this status on it is the service's fault, which may pass."""


def translate(error: boto.ClientError | boto.BotoCoreError, operation: str, place: str) -> StoreError:
    """Our error for one of boto3's; its message says which action on which key, why, and what to do."""
    if isinstance(error, boto.ClientError):
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        why = f"{code}: {error.response.get('Error', {}).get('Message') or 'the service gives no reason'}"
        kind, advice = _BY_CODE.get(code) or ((StoreUnavailable, _LATER) if status >= FAULT else (StoreDenied, ""))
    else:
        why = str(error)
        kind, advice = next(meaning for known, meaning in _BY_CLASS.items() if isinstance(error, known))
    action = _ACTION.get(operation, "s3:PutObject")
    told = f"{action} on {place}: {why.rstrip('.')}"
    return kind(f"{told}; {advice.format(action=action)}" if advice else told)
