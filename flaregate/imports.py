"""Import paths (`module:Name`): finding the public one of a class or function, and resolving one."""

import re
import sys
from importlib import import_module
from operator import attrgetter
from typing import Any

from flaregate.origin import is_local

_ENABLE = re.compile(r"from (sklearn\.experimental) import (enable_\w+)")


def resolve(path: str) -> Any:
    """What an import path names; raises ImportError or AttributeError."""
    module, _, name = path.partition(":")
    found = import_module(module)
    try:
        return attrgetter(name)(found)
    except ImportError as error:  # scikit-learn's experimental classes say which module turns them on
        enable = _ENABLE.search(str(error))
        if enable is None:
            raise
        import_module(".".join(enable.groups()))
        return attrgetter(name)(found)


def import_path(obj: Any) -> str | None:
    """The path by which any worker can import this class or function, or None where it is the user's own.

    The public module (without its private parts) is taken where it holds the same object.
    """
    name = getattr(obj, "__qualname__", None) or getattr(obj, "__name__", None)
    module = _module_of(obj)
    if not isinstance(name, str) or module is None or "<" in name:
        return None
    parts = module.split(".")
    private = next((place for place, part in enumerate(parts) if part.startswith("_")), len(parts))
    for candidate in dict.fromkeys((".".join(parts[:private]), module)):
        if candidate and _holds(candidate, name, obj):
            return f"{candidate}:{name}"
    return None


def _module_of(obj: Any) -> str | None:
    module = getattr(obj, "__module__", None)
    if module is None and type(obj).__module__ == "numpy":  # ufuncs say nothing about where they live
        module = "numpy"
    loaded = sys.modules.get(module) if isinstance(module, str) else None
    return None if loaded is None or is_local(loaded) else loaded.__name__


def _holds(module: str, name: str, obj: Any) -> bool:
    try:
        return resolve(f"{module}:{name}") is obj
    except (ImportError, AttributeError):
        return False
