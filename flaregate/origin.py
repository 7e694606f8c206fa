"""Where a module comes from: Python itself, an installed distribution, or the user's own files."""

import sys
from functools import cache
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import packages_distributions, version
from pathlib import Path
from types import ModuleType

_OURS = frozenset({"flaregate", "flaregate_wire", "worker_image"})
_INSTALLED = ("site-packages", "dist-packages")
_STDLIB = str(Path(import_module("os").__file__ or "").parent)


def is_local(module: ModuleType) -> bool:
    """Whether a worker cannot be expected to have it: a script, a notebook, a file beside them, an editable install."""
    name = module.__name__
    if name == "__main__":
        return True
    top = name.partition(".")[0]
    file = getattr(module, "__file__", None)
    if top in _OURS or top in sys.stdlib_module_names or not isinstance(file, str):
        return False
    if file.endswith(tuple(EXTENSION_SUFFIXES)) or file.startswith(_STDLIB):
        return False
    return not any(part in _INSTALLED for part in Path(file).parts)


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(packages_distributions())


@cache
def release_of(module: str) -> str | None:
    """`distribution==version` of an installed module, `python==3.11` of Python's own, None of any other."""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names:
        return f"python=={sys.version_info.major}.{sys.version_info.minor}"
    names = _distributions().get(top)
    return f"{names[0]}=={version(names[0])}" if names else None
