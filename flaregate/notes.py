"""What a running cell writes into its container's outbox, one JSON file a note, and how the supervisor reads it."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue, TypeAdapter

from flaregate_wire.model import PeerModel


class ArtifactNote(PeerModel):
    """Something to keep; its bytes are beside the note, in a file with the same name that ends in `.data`."""

    kind: Literal["artifact"] = "artifact"
    name: str
    media_type: str


class MetricsNote(PeerModel):
    """Figures of a step."""

    kind: Literal["metrics"] = "metrics"
    candidate: int
    step: int
    values: dict[str, JsonValue]


Note = ArtifactNote | MetricsNote
NOTE: TypeAdapter[Note] = TypeAdapter(Annotated[Note, Field(discriminator="kind")])
