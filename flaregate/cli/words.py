"""How the command line writes things: candidates, times, sizes."""

import json
from datetime import datetime
from typing import Any

from flaregate_wire.events import OutcomeEvent
from flaregate_wire.values import payload_of

_SHORT = 60


def value(given: Any) -> str:  # noqa: C901 - one case a tag
    """A wire value as Python would write it."""
    if isinstance(given, dict) and len(given) == 1:
        ((tag, body),) = given.items()
        match tag:
            case "$tuple":
                inner = ", ".join(value(item) for item in body)
                return f"({inner},)" if len(body) == 1 else f"({inner})"
            case "$float":
                return str(body)
            case "$scalar":
                return value(body[1])
            case "$import":
                return str(body).rpartition(":")[2]
            case "$node":
                return str(body["import"]).rpartition(":")[2] + "()"
            case "$array" | "$payload":
                return f"<{payload_of(body)[:14]}…>"
            case _:
                pass
    if isinstance(given, float):
        return f"{given:g}"
    return given if isinstance(given, str) else json.dumps(given)


def settings(outcome: OutcomeEvent) -> str:
    """`pca.n_components=30 logistic.C=1`."""
    return "  ".join(f"{node}.{param}={value(given)}" for node, param, given in outcome.axes)


def path(outcome: OutcomeEvent) -> str:
    """`pca → logistic`."""
    return " → ".join(outcome.path)


def number(given: Any, digits: int = 4) -> str:
    """A score, or `–` where there is none."""
    return f"{given:.{digits}f}" if isinstance(given, float | int) else "–"


def output(outcome: OutcomeEvent) -> str:
    """What a block, a cell or a fitted pipeline gave: a short value, or the artifact that has it."""
    if outcome.artifact is not None:
        return outcome.artifact
    text = "" if outcome.output is None else value(outcome.output)
    return text if len(text) <= _SHORT else f"{text[:_SHORT]}…"


def error(outcome: OutcomeEvent) -> str:
    """What went wrong, in a line."""
    if outcome.error is None:
        return ""
    first = outcome.error.message.partition("\n")[0]
    return f"{outcome.error.type}: {first[:200]}"


def gave(outcome: OutcomeEvent, digits: int = 4) -> str:
    """What an outcome gave, in a line."""
    if outcome.scores:
        return f"mean {number(outcome.mean, digits)} ± {number(outcome.std, digits)}"
    if outcome.metrics:
        return "  ".join(f"{name} {value(given)}" for name, given in outcome.metrics.items())
    return output(outcome) or ("" if outcome.error else "done")


def since(start: datetime, moment: datetime) -> str:
    """Seconds from one moment to another."""
    return f"{(moment - start).total_seconds():7.2f} s"


def duration(seconds: float) -> str:
    """`0:01:05`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def size(count: int) -> str:
    """`12.3 kB`."""
    amount = float(count)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:  # noqa: PLR2004
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"
