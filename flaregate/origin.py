"""Where a module comes from: Python itself, an installed distribution, or the user's own files."""

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import packages_distributions, version
from pathlib import Path
from types import ModuleType

_OURS = frozenset({"flaregate", "flaregate_wire", "worker_image"})
_INSTALLED = ("site-packages", "dist-packages")
_STDLIB = str(Path(import_module("os").__file__ or "").parent)


@dataclass(frozen=True, slots=True)
class Pins:
    """The packages that a job brings: what its code imports counts by these versions."""

    versions: Mapping[str, str]
    """By distribution, as `canonical` writes it."""
    lock: str
    """Stands for the version of what is not installed here, and cannot be told by its module."""


_pins: ContextVar[Pins | None] = ContextVar("pins", default=None)


@contextmanager
def pinned(pins: Pins | None) -> Iterator[None]:
    """Let `release_of` answer for an environment that has these packages too."""
    before = _pins.set(pins)
    try:
        yield
    finally:
        _pins.reset(before)


def canonical(distribution: str) -> str:
    """A distribution's name as all spellings of it are compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def is_local(module: ModuleType) -> bool:
    """Whether it goes by value, as no worker has it: a script, a notebook, files beside them, an editable install.

    Compiled modules cannot go by value.
    """
    name = module.__name__
    if name == "__main__":
        return True
    file = getattr(module, "__file__", None)
    if isinstance(file, str):
        return is_local_file(name, file) and not file.endswith(tuple(EXTENSION_SUFFIXES))
    return any(is_local_file(name, folder) for folder in getattr(module, "__path__", ()))


def is_local_file(module: str, file: str) -> bool:
    """Whether a module's file is neither Python's nor of an installed distribution."""
    if is_ours(module) or not Path(file).is_absolute() or file.startswith(_STDLIB):
        return False
    return not any(part in _INSTALLED for part in Path(file).parts)


def is_ours(module: str) -> bool:
    """Whether it is a part of flaregate, which every worker has."""
    return module.partition(".")[0] in _OURS


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(packages_distributions())


@cache
def _installed(top: str) -> tuple[str, str] | None:
    """The distribution of an installed module, and its version; of Python's own modules Python."""
    if top in sys.stdlib_module_names:
        return "python", f"{sys.version_info.major}.{sys.version_info.minor}"
    names = _distributions().get(top)
    return (names[0], version(names[0])) if names else None


def release_of(module: str) -> str | None:
    """`distribution==version` of an installed module, `python==3.11` of Python's own, None of any other.

    Where a job brings packages their versions count, and for what is not installed here all of them together.
    """
    found, pins = _installed(module.partition(".")[0]), _pins.get()
    if found is None:
        return None if pins is None or is_ours(module) else f"requirements {pins.lock}"
    name, own = found
    return f"{name}=={own if pins is None else pins.versions.get(canonical(name), own)}"
