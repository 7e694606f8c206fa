"""Local modules that code reaches by import: what a function body imports, and the source files behind a name.

Nothing is imported to find them.
"""

import ast
import dis
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from importlib.util import resolve_name
from pathlib import Path
from types import CodeType

from flaregate.origin import is_local_file

_GLOBALS = frozenset({"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})


def nested(code: CodeType) -> Iterator[CodeType]:
    """A code object and those inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from nested(constant)


def globals_of(code: CodeType) -> list[str]:
    """The global names that a function reads or writes, its inner functions included; sorted."""
    instructions = (one for inner in nested(code) for one in dis.get_instructions(inner))
    return sorted({str(one.argval) for one in instructions if one.opname in _GLOBALS})


def imports_of(code: CodeType, package: str | None) -> list[str]:
    """The modules, and the names that may be modules, that a function's body imports; sorted."""
    found: set[str] = set()
    for inner in nested(code):
        before: list[object] = [None, None]
        for one in dis.get_instructions(inner):
            if one.opname == "IMPORT_NAME":
                level, names = before
                found.update(_absolute(str(one.argval), names, level, package))
            before = [before[1], one.argval]
    return sorted(found)


def _absolute(name: str, names: object, level: object, package: str | None) -> Iterator[str]:
    module = resolve_name("." * level + name, package or "") if isinstance(level, int) and level else name
    yield module
    for inner in names if isinstance(names, tuple) else ():
        if inner != "*":
            yield f"{module}.{inner}"


def local_files(module: str) -> dict[str, Path]:
    """By module, the files of a local module and of the local modules that it imports, however deep."""
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        for name in _with_parents(waiting.pop()):
            spec = None if name in found else _spec(name)
            if spec is None or spec.origin is None or not is_local_file(name, spec.origin):
                continue
            found[name] = Path(spec.origin)
            waiting.extend(_imports_in(found[name], name if spec.submodule_search_locations else spec.parent))
    return found


def _with_parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[: place + 1]) for place in range(len(parts))]


def _spec(module: str) -> ModuleSpec | None:
    """Where a module lies, by asking the finders for each of its packages in turn."""
    path = None
    spec: ModuleSpec | None = None
    for name in _with_parents(module):
        loaded = getattr(sys.modules.get(name), "__spec__", None)
        finders = (finder for finder in sys.meta_path if hasattr(finder, "find_spec"))
        spec = loaded or next((found for finder in finders if (found := finder.find_spec(name, path))), None)
        if spec is None or (name != module and spec.submodule_search_locations is None):
            return None
        path = spec.submodule_search_locations
    return spec


def _imports_in(file: Path, package: str | None) -> Iterator[str]:
    if file.suffix != ".py":
        return
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from _absolute(node.module or "", tuple(alias.name for alias in node.names), node.level, package)
