"""Staging: what is missing, and where to send it."""

from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from flaregate_wire.limits import PART_BYTES, PARTS
from flaregate_wire.model import PeerModel, Sha256, Time, UserModel

DROP_HEADER = "Flaregate-Drop"
"""Of a PUT without a body: the name of a file that lies in the store's own folder of drops, and is the object."""


class Part(UserModel):
    """One part of an upload."""

    size: int = Field(ge=0, description="Bytes.")
    sha256: Sha256


Parts = Annotated[tuple[Part, ...], Field(max_length=PARTS)]
"""Of equal size, the last one may be smaller."""


def check_parts(parts: Sequence[Part], size: int) -> None:
    """Raise an error for pydantic if these are not the parts of `size` bytes, or not cut as stores want them."""
    total = sum(part.size for part in parts)
    if total != size:
        message = "parts: their sizes add up to {total}, and `size` is {size}"
        raise PydanticCustomError("parts_total", message, {"total": total, "size": size})
    first = parts[0].size
    if any(part.size != first for part in parts[:-1]) or not 0 < parts[-1].size <= first:
        raise PydanticCustomError(
            "parts_equal", "parts: all have one size, only the last one may be smaller, and none is empty"
        )
    if len(parts) > 1 and first < PART_BYTES:
        message = "parts: {first} bytes are too few for one; all but the last have at least {least}"
        raise PydanticCustomError("parts_small", message, {"first": first, "least": PART_BYTES})


class BlobOffer(UserModel):
    """Something to stage."""

    sha256: Sha256
    size: int = Field(ge=0, description="Bytes.")
    media_type: Annotated[str, Field(max_length=200, pattern=r"^[\w.+-]+/[\w.+-]+$")]
    parts: Parts = Field(
        default=(),
        description="To send it in parts, which can be resumed: of equal size, at least 16 MiB; the last may be "
        "smaller. Without them it is sent by one PUT.",
    )

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.parts:
            check_parts(self.parts, self.size)
        return self


class Transfer(PeerModel):
    """One presigned request: the bytes go there, with these headers, and no other credential."""

    method: str
    url: str
    headers: dict[str, str] = Field(default_factory=dict)


class Sending(Transfer):
    """A presigned PUT of the whole or of one part."""

    part: int | None = Field(default=None, description="Number of the part, the first is 0; absent: the whole.")

    @classmethod
    def of(cls, transfer: Transfer, part: int | None = None) -> Self:
        """The same request, with what it is for."""
        return cls(method=transfer.method, url=transfer.url, headers=transfer.headers, part=part)


class BlobAnswer(PeerModel):
    """Whether the blob is there already, or where to send it."""

    exists: bool
    upload: tuple[Sending, ...] = Field(
        default=(),
        description="One PUT of the whole, or PUTs of parts that are missing: not of all where they are many; the "
        "same offer again gives what is missing then. None, though it does not exist: say that it is complete.",
    )
    missing: int = Field(default=0, ge=0, description="Bytes that are not there yet.")
    expires: Time | None = None
