"""What the gateway knows of itself while it runs, for whoever watches it. Nothing of users."""

from dataclasses import dataclass, field


@dataclass
class Figures:
    """The newest numbers; set by who knows them."""

    platform_runs: int = 0
    """Runs of this gateway's that the platform says are alive."""
    orphaned_runs: int = 0
    """Of these, the ones that no live attempt owned at the last search; they were ended."""
    orphans_ended: int = 0
    """All that have been ended for that."""
    workers_replaced: int = 0
    """Workers that were asked for in the place of lost ones."""
    platform_unseen: int = 0
    """Looks at the platform that got no answer."""
    barred: str | None = None
    """Why the platform does not let the gateway in; None while it does."""
    waiting: int = 0
    """Jobs that wait for room on the platform; 0 where this gateway works at none."""
    held: dict[str, int] = field(default_factory=dict)
    """Jobs that this gateway works at, by state."""
