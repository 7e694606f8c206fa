"""What a platform's words on an image that cannot be pulled mean: it cannot be had, or not just now. Pure."""

from gateway.launchers.base import Trouble

_NEVER = (
    "not found",
    "no such image",
    "does not exist",
    "manifest unknown",
    "name unknown",
    "denied",
    "forbidden",
    "unauthorized",
    "authentication required",
    "no basic auth credentials",
    "no match for platform",
    "invalid reference",
    "invalidimagename",
    "errimageneverpull",
    "signaturevalidationfailed",
)
"""Of registries and of those who ask them: what no other try mends. A registry that is away or busy says none of it."""


def pull_trouble(story: str) -> Trouble:
    """Whether there is no use in waiting, of an image that could not be pulled."""
    low = story.lower()
    return Trouble.IMAGE_PULL if any(words in low for words in _NEVER) else Trouble.IMAGE_RETRIED
