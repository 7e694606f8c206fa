"""Ids of jobs: later ids sort later, so the order of ids is the order of creation."""

import secrets
from datetime import datetime

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_RANDOM = 80
"""Bits beside the 48 of milliseconds."""


def new_id(now: datetime) -> str:
    """`job-` and 26 characters: 48 bits of milliseconds, 80 random bits."""
    return _id(now, secrets.randbits(_RANDOM))


def first_id(at: datetime) -> str:
    """The least id that a job can have that is created then."""
    return _id(at, 0)


def _id(at: datetime, rest: int) -> str:
    number = max(0, int(at.timestamp() * 1000)) << _RANDOM | rest
    return "job-" + "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))
