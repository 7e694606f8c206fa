"""The two kinds of wire models: what users write is strict, what peers send may be newer than we are."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, PlainSerializer, StringConstraints


def rfc3339(moment: datetime) -> str:
    """Write a moment as RFC 3339 in UTC with microseconds, so that text order is time order."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


Time = Annotated[AwareDatetime, PlainSerializer(rfc3339, return_type=str, when_used="json")]
"""A moment; RFC 3339 in UTC on the wire."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
"""`sha256:` and 64 lower-case hexadecimal digits."""


class UserModel(BaseModel):
    """What users write: an unknown field is a mistake and is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class PeerModel(BaseModel):
    """What gateway, SDK and containers say to each other: unknown fields come from a newer peer and are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)
