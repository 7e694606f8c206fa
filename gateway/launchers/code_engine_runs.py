"""What Code Engine's answers say of runs and their instances. Pure; what is missing or unknown ends nothing."""

import logging
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from gateway.launchers.base import InstanceSighting, Phase, Trouble
from gateway.launchers.images import pull_trouble

log = logging.getLogger(__name__)
_PHASES = {"pending": Phase.PENDING, "running": Phase.RUNNING, "succeeded": Phase.ENDED, "failed": Phase.ENDED}
_TROUBLES = (
    ("OOMKilled", Trouble.OUT_OF_MEMORY),
    ("ExceededEphemeralStorage", Trouble.OUT_OF_DISK),
    ("InvalidImageName", Trouble.IMAGE_PULL),
    ("ErrImageNeverPull", Trouble.IMAGE_PULL),
    ("ImagePull", Trouble.IMAGE_RETRIED),
    ("ErrImage", Trouble.IMAGE_RETRIED),
    ("CreateContainer", Trouble.MISCONFIGURED),
)
_BEFORE_IT_STARTS = frozenset({Trouble.IMAGE_PULL, Trouble.IMAGE_RETRIED, Trouble.MISCONFIGURED})
_EXIT_CODE = re.compile(r"ContainerExitedCode(\d+)")


def name_of_replacement(name: str, index: int) -> str:
    """The name of the job run of one replacement, by that of the attempt's own."""
    return f"{name}-x{index}"


def attempt_of(rest: str) -> tuple[str, int | None]:
    """The attempt of a name without its prefix, and the index of a replacement."""
    found = re.fullmatch(r"(.+)-x(\d+)", rest)
    return (found[1], int(found[2])) if found else (rest, None)


def spec_of(indices: Collection[int]) -> str:
    """Neighbouring numbers as Code Engine reads them: `0-3`."""
    first, last = min(indices), max(indices)
    return str(first) if first == last else f"{first}-{last}"


def instances(run: Mapping[str, Any], replacement: int | None) -> Iterator[InstanceSighting]:
    """What a job run says of its instances. A field that is missing or a word that is unknown ends nothing."""
    status = run.get("status_details") or {}
    details = status.get("indices_details")
    found = _by_lists(run, status)
    if isinstance(details, dict):
        found |= {int(index): one for index, one in details.items() if index.isdigit() and isinstance(one, dict)}
    for index, detail in sorted(found.items()):
        yield _instance(detail, index if replacement is None else replacement)


def _by_lists(run: Mapping[str, Any], status: Mapping[str, Any]) -> dict[int, Mapping[str, Any]]:
    """What is known without details: from the lists of indices, else each as the whole run.

    A run has failed as soon as one of its instances has: then nothing is known of the others.
    """
    asked = _expanded(run.get("scale_array_spec")) or [0]
    word = {"completed": "succeeded"}.get(str(run.get("status")), str(run.get("status") or ""))
    whole = {"status": "not told" if word == "failed" and len(asked) > 1 else word}
    found: dict[int, Mapping[str, Any]] = dict.fromkeys(asked, whole)
    for listed in _PHASES:
        ended = {"status": listed, "finished_at": status.get("completion_time")}
        found |= dict.fromkeys(_expanded(status.get(f"{listed}_indices")), ended)
    return found


def _expanded(spec: object) -> list[int]:
    """The numbers of `0-3,7`; what cannot be read is left out."""
    parts = (re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part) for part in str(spec or "").split(","))
    return [index for part in parts if part for index in range(int(part[1]), int(part[2] or part[1]) + 1)]


def _instance(detail: Mapping[str, Any], index: int) -> InstanceSighting:
    word, story = str(detail.get("status", "")), str(detail.get("last_failure_reason") or "")
    phase = _PHASES.get(word)
    if phase is None:
        log.warning("Code Engine says %r of an instance, which is no word that this gateway knows", word)
        return InstanceSighting(index, Phase.RUNNING, _time(detail.get("started_at")), story=f"unknown state {word!r}")
    trouble = next((trouble for begin, trouble in _TROUBLES if begin in story), None)
    trouble = pull_trouble(story) if trouble is Trouble.IMAGE_RETRIED else trouble
    sighting = InstanceSighting(index, phase, _time(detail.get("started_at")), story=story)
    if phase is Phase.ENDED:
        return replace(sighting, ended=_time(detail.get("finished_at")), exit_code=_code(word, story), trouble=trouble)
    return replace(sighting, trouble=trouble) if trouble in _BEFORE_IT_STARTS else sighting


def _code(word: str, story: str) -> int | None:
    found = _EXIT_CODE.search(story)
    return 0 if word == "succeeded" else int(found[1]) if found else None


def _time(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text)).astimezone(UTC) if text else None
    except ValueError:
        return None
