"""What Code Engine allows, as IBM documents it (2026-06): limits, sizes, prices."""

import re
from dataclasses import dataclass

BODY_BYTES = 10 * 1024
"""Of the JSON of a job run."""
ARRAY_SIZE = 1000
LARGEST_INDEX = 9_999_999
NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
NAME_LENGTH = 63
EXECUTION_SECONDS = (7200, 86400)
"""Default and most."""
RETRIES = (3, 5)
"""Default and most."""
EPHEMERAL_BYTES = 400_000_000
"""Default; more than this only up to the memory."""
VERSION = "2025-07-10"
"""The API's oldest version that is answered; a day, in the query of each request."""
TOKEN_SECONDS = 3600
KEPT_SECONDS = 7 * 86_400.0
"""How long a finished run is remembered."""
EACH = 100
"""Jobs, secrets and config maps of a project, of each at most; runs on a page of a list."""
MODES = ("task", "daemon")
PRICES = {"vcpu_second": "0.00003431", "gb_second": "0.00000356", "currency": "USD"}

SIZES: dict[str, tuple[float, ...]] = {
    "0.125": (0.25, 0.5, 1),
    "0.25": (0.5, 1, 2),
    "0.5": (1, 2, 4),
    "1": (2, 4, 8),
    "2": (4, 8, 16),
    "4": (8, 16, 32),
    "6": (12, 24, 48),
    "8": (16, 32),
    "10": (20, 40),
    "12": (24, 48),
}
"""vCPU to the gigabytes that may go with it."""


@dataclass(frozen=True, slots=True)
class Quota:
    """Of one project."""

    runs: int = 100
    """Job runs, until they are deleted."""
    instances: int = 250
    cpus: float = 128.0
    memory: int = 512_000_000_000
    """Bytes."""


def size_of(text: str) -> int:
    """Bytes of `400M`, `4G`. Raises ValueError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([MG])", text)
    if found is None:
        raise ValueError(f"{text!r} is no size: write 400M or 4G")
    return round(float(found[1]) * {"M": 10**6, "G": 10**9}[found[2]])


def indices_of(spec: str) -> list[int]:
    """The numbers of `0-3,7`. Raises ValueError."""
    found: set[int] = set()
    for part in spec.split(","):
        known = re.fullmatch(r"\s*(\d{1,7})(?:-(\d{1,7}))?\s*", part)
        if known is None:
            raise ValueError(f"{part!r} is no number from 0 to {LARGEST_INDEX} and no range of them")
        found |= set(range(int(known[1]), int(known[2] or known[1]) + 1))
    if not 1 <= len(found) <= ARRAY_SIZE:
        raise ValueError(f"{spec!r} names {len(found)} instances; 1 to {ARRAY_SIZE} are allowed")
    return sorted(found)


def spec_of(indices: list[int]) -> str:
    """Numbers as Code Engine writes them: `0-3,7`."""
    parts: list[list[int]] = []
    for index in indices:
        if parts and parts[-1][1] == index - 1:
            parts[-1][1] = index
        else:
            parts.append([index, index])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
