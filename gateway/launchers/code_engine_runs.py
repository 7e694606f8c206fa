"""What Code Engine's answers say of runs and their instances. Pure; what is missing or unknown ends nothing."""

import logging
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from gateway.launchers.base import InstanceSighting, Phase, Trouble

log = logging.getLogger(__name__)
_PHASES = {"pending": Phase.PENDING, "running": Phase.RUNNING, "succeeded": Phase.ENDED, "failed": Phase.ENDED}
_TROUBLES = (
    ("OOMKilled", Trouble.OUT_OF_MEMORY),
    ("ExceededEphemeralStorage", Trouble.OUT_OF_DISK),
    ("ImagePull", Trouble.IMAGE_PULL),
    ("ErrImage", Trouble.IMAGE_PULL),
)
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
    details: Mapping[str, Mapping[str, Any]] = status.get("indices_details") or {}
    words = {str(index): detail for index, detail in details.items()} or _by_lists(run, status)
    for text, detail in words.items():
        index = int(text) if text.isdigit() else 0
        yield _instance(detail, index if replacement is None else replacement)


def _by_lists(run: Mapping[str, Any], status: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Where there are no details: from the lists of indices, else each as the whole run."""
    found: dict[str, Mapping[str, Any]] = {}
    for word in _PHASES:
        for index in _expanded(str(status.get(f"{word}_indices") or "")):
            found[index] = {"status": word, "finished_at": status.get("completion_time")}
    if found:
        return found
    whole = str(run.get("status", ""))
    word = {"completed": "succeeded"}.get(whole, whole)
    return {index: {"status": word} for index in _expanded(str(run.get("scale_array_spec") or "0"))}


def _expanded(spec: str) -> Iterator[str]:
    for part in filter(None, spec.split(",")):
        first, _, last = part.strip().partition("-")
        yield from (str(index) for index in range(int(first), int(last or first) + 1))


def _instance(detail: Mapping[str, Any], index: int) -> InstanceSighting:
    word, story = str(detail.get("status", "")), str(detail.get("last_failure_reason") or "")
    phase = _PHASES.get(word)
    if phase is None:
        log.warning("Code Engine says %r of an instance, which is no word that this gateway knows", word)
        return InstanceSighting(index, Phase.RUNNING, _time(detail.get("started_at")), story=f"unknown state {word!r}")
    sighting = InstanceSighting(index, phase, _time(detail.get("started_at")), story=story)
    if phase is not Phase.ENDED:
        return sighting
    trouble = next((trouble for begin, trouble in _TROUBLES if begin in story), None)
    return replace(sighting, ended=_time(detail.get("finished_at")), exit_code=_code(word, story), trouble=trouble)


def _code(word: str, story: str) -> int | None:
    found = _EXIT_CODE.search(story)
    return 0 if word == "succeeded" else int(found[1]) if found else None


def _time(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text)).astimezone(UTC) if text else None
    except ValueError:
        return None
