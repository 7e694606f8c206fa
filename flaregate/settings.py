"""What can be set on the SDK, each with its default. The one module of the SDK that reads the environment."""

import os
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """`FLAREGATE_URL`, `FLAREGATE_TOKEN` and `FLAREGATE_HOME`."""

    url: str | None = None
    """Address of the gateway; without one, the gateway of the home folder is used or started."""
    token: str | None = field(default=None, repr=False)
    """Bearer token for that address."""
    home: Path = Path()
    """Folder of the embedded gateway."""


def from_environment() -> Settings:
    """The settings as the environment has them now."""
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    home = os.environ.get("FLAREGATE_HOME")
    return Settings(
        url=os.environ.get("FLAREGATE_URL") or None,
        token=os.environ.get("FLAREGATE_TOKEN") or None,
        home=Path(home) if home else Path(base) / "flaregate",
    )


def outbox() -> Path | None:
    """`FLAREGATE_OUTBOX`: in a container, the folder for what running code says of itself; None elsewhere."""
    folder = os.environ.get("FLAREGATE_OUTBOX")
    return Path(folder) if folder else None


def child_environment(**more: str) -> dict[str, str]:
    """This process' environment for a child, with more variables set; the child gets no address and token of ours."""
    ours = ("FLAREGATE_URL", "FLAREGATE_TOKEN")
    return {name: value for name, value in os.environ.items() if name not in ours} | more
