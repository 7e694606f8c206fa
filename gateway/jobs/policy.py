"""For how long the gateway keeps what, and how much of it: as its operator has set it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Policy:
    """Times are seconds."""

    cache_bytes: int
    """Of all tenants' entries of the cache together; what was not used for longest goes first."""
    cache_age: float | None = None
    """Entries of the cache, since they were last used; None: as long as there is room."""
    keep: float | None = None
    """Jobs, from their end; None: for ever."""
    keep_by_tenant: Mapping[str, float | Literal["forever"]] = field(default_factory=dict)
    idle: float = 86_400
    """What nothing refers to, since someone named it or wrote it."""
    interval: float = 21_600
    """Between two searches of the store."""

    def kept(self, tenant: str, wish: float | Literal["forever"] | None) -> float | None:
        """For how long a job is kept: its own wish comes first, then its tenant's rule."""
        given = wish if wish is not None else self.keep_by_tenant.get(tenant, self.keep)
        return None if given == "forever" else given
