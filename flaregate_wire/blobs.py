"""Staging: what is missing, and where to send it."""

from typing import Annotated

from pydantic import Field

from flaregate_wire.model import PeerModel, Sha256, Time, UserModel


class Part(UserModel):
    """One part of an upload."""

    size: int = Field(ge=0, description="Bytes.")
    sha256: Sha256


class BlobOffer(UserModel):
    """Something to stage."""

    sha256: Sha256
    size: int = Field(ge=0, description="Bytes.")
    media_type: Annotated[str, Field(max_length=200, pattern=r"^[\w.+-]+/[\w.+-]+$")]
    parts: tuple[Part, ...] = ()


class Transfer(PeerModel):
    """One presigned request: the bytes go there, with these headers, and no other credential."""

    method: str
    url: str
    headers: dict[str, str] = Field(default_factory=dict)


class BlobAnswer(PeerModel):
    """Whether the blob is there already, or where to send it."""

    exists: bool
    upload: tuple[Transfer, ...] = Field(default=(), description="One PUT for each part.")
    expires: Time | None = None
