"""One bucket by boto3: its calls in threads of their own, its errors in ours, and the URLs that it signs."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from gateway.stores.base import StoreDenied, checked
from gateway.stores.s3.errors import translate

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")
THREADS = 16
CONNECTIONS = 64
"""More than threads: what is read slowly holds a connection, and no thread."""
ATTEMPTS = 5
"""Of each call, with botocore's back-off and jitter between them."""
CONNECT_TIMEOUT = 5
READ_TIMEOUT = 60
PAGE = 1000
"""Things in one answer of a list; services give no more."""
GONE = frozenset({"NoSuchKey", "NotFound"})


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the service is, and who calls; what is None is AWS's own, from its chain of configuration."""

    endpoint: str | None = None
    region: str | None = None
    addressing: Literal["path", "virtual"] | None = None
    """None: path with an endpoint, virtual without."""
    access_key: str | None = None
    secret_key: str | None = field(default=None, repr=False)
    ca: Path | None = None
    attempts: int = ATTEMPTS


def connect(to: Connection) -> S3Client:
    """A client, which threads may share. No call to the service. Raises StoreDenied."""
    addressing = to.addressing or ("path" if to.endpoint else "virtual")
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": addressing},
        retries={"mode": "standard", "total_max_attempts": to.attempts},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        max_pool_connections=CONNECTIONS,
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        tcp_keepalive=True,
    )
    session = boto3.session.Session()
    region = to.region or session.region_name or ("us-east-1" if to.endpoint else None)
    if region is None:
        raise StoreDenied("the bucket's region is not known; set FLAREGATE_S3_REGION")
    try:
        client = session.client(
            "s3",
            endpoint_url=to.endpoint,
            region_name=region,
            aws_access_key_id=to.access_key,
            aws_secret_access_key=to.secret_key,
            verify=None if to.ca is None else str(to.ca),
            config=config,
        )
    except (BotoCoreError, ValueError) as error:
        raise StoreDenied(f"the settings of the S3 service do not fit together: {error}") from error
    client.meta.events.register("before-sign.s3.DeleteObjects", _sum)
    return client


def _sum(request: Any, **_: object) -> None:
    """Services that came before AWS's newer sums want this one of a list of keys."""
    request.headers["Content-MD5"] = base64.b64encode(
        hashlib.md5(request.body, usedforsecurity=False).digest()
    ).decode()


class Bucket:
    """A bucket, or what is below a prefix in it. Operations have boto3's names and arguments."""

    def __init__(self, client: S3Client, name: str, prefix: str = "", page_size: int = PAGE) -> None:
        self._client = client
        self._name = name
        self.prefix = f"{checked(prefix.strip('/'))}/" if prefix.strip("/") else ""
        self.page_size = page_size
        self._threads = ThreadPoolExecutor(THREADS, "s3")

    def _place(self, key: str) -> dict[str, str]:
        return {"Bucket": self._name, "Key": self.prefix + checked(key)}

    async def run(self, operation: str, key: str, work: Callable[[], T]) -> T:
        """Do it in a thread. Raises StoreError; `operation` and `key` are for its message."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except (ClientError, BotoCoreError) as error:
            raise translate(error, operation, f"s3://{self._name}/{self.prefix}{key}") from error

    async def call(self, operation: str, key: str, **arguments: object) -> dict[str, Any]:
        """One operation on one key. Raises StoreError."""
        place = self._place(key)
        function = getattr(self._client, operation)
        found: dict[str, Any] = await self.run(operation, key, lambda: function(**place, **arguments))
        return found

    async def page(self, prefix: str, after: str | None) -> dict[str, Any]:
        """One page of a list. Raises StoreError."""
        more = {"ContinuationToken": after} if after else {}
        full = self.prefix + prefix

        def work() -> Any:
            return self._client.list_objects_v2(Bucket=self._name, Prefix=full, MaxKeys=self.page_size, **more)  # type: ignore[arg-type]

        found: dict[str, Any] = await self.run("list_objects_v2", prefix, work)
        return found

    async def uploads(self, prefix: str, after: dict[str, str]) -> dict[str, Any]:
        """One page of the uploads in parts that are under way. Raises StoreError."""
        arguments: dict[str, Any] = {"Prefix": self.prefix + prefix, "MaxUploads": self.page_size, **after}

        def work() -> Any:
            return self._client.list_multipart_uploads(Bucket=self._name, **arguments)

        found: dict[str, Any] = await self.run("list_multipart_uploads", prefix, work)
        return found

    async def delete_all(self, keys: Sequence[str]) -> None:
        """Remove a thousand objects at most. Raises StoreError for the first that could not be."""
        listed = [{"Key": self._place(key)["Key"]} for key in keys]

        def work() -> None:
            answer = self._client.delete_objects(Bucket=self._name, Delete={"Objects": listed, "Quiet": True})  # type: ignore[typeddict-item]
            for error in answer.get("Errors", ()):
                if error.get("Code") not in GONE:
                    raise ClientError({"Error": {"Code": error["Code"], "Message": error["Key"]}}, "DeleteObjects")

        await self.run("delete_object", f"{keys[0]} and {len(keys) - 1} more", work)

    def sign(self, operation: str, key: str, age: float, **arguments: object) -> str:
        """A URL that anyone can use for `age` seconds. No call to the service."""
        return self._client.generate_presigned_url(
            operation, Params={**self._place(key), **arguments}, ExpiresIn=int(age)
        )

    def close(self) -> None:
        """Let go of connections and threads; what has begun ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._client.close()
