"""Versions of what payloads and fitted states depend on, and which differences matter."""

import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version

STACK = ("cloudpickle", "scikit-learn", "numpy", "scipy")


def here() -> dict[str, str]:
    """The versions in this process' environment; what is not installed is left out."""
    return {"python": platform.python_version(), **of(STACK)}


def of(distributions: Iterable[str]) -> dict[str, str]:
    """The versions of these distributions; what is not installed is left out."""
    found = {}
    for name in distributions:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _line(text: str, parts: int) -> list[str]:
    return text.split(".")[:parts]


def broken(made_with: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Differences with which unpickling is not safe: another minor Python, another major of anything else."""
    return _differences(made_with, found, python=2, others=1)


def doubtful(made_with: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Differences of a minor version."""
    return _differences(made_with, found, python=2, others=2)


def _differences(made_with: Mapping[str, str], found: Mapping[str, str], *, python: int, others: int) -> list[str]:
    told = []
    for name, needed in made_with.items():
        parts = python if name == "python" else others
        have = found.get(name)
        if have is None:
            told.append(f"{name} {needed} is not installed")
        elif _line(needed, parts) != _line(have, parts):
            told.append(f"{name} {needed} (here {have})")
    return told
