"""Local modules that code reaches by import: what a function body imports, and the source files behind a name.

Nothing is imported to find them.
"""

import ast
import dis
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.util import resolve_name
from pathlib import Path
from types import CodeType

from flaregate.origin import is_local_file

_GLOBALS = frozenset({"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_BY_WORD = frozenset({"import_module", "__import__"})
"""What imports modules by names that are data; then every word of the code may be one."""
_WORD = re.compile(r"\.*([A-Za-z_]\w*(\.[A-Za-z_]\w*)*)?\.?")


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
    codes = list(nested(code))
    for inner in codes:
        before: list[object] = [None, None]
        for one in dis.get_instructions(inner):
            if one.opname == "IMPORT_NAME":
                level, names = before
                found.update(_absolute(str(one.argval), names, level, package))
            before = [before[1], one.argval]
    if any(_BY_WORD & {*inner.co_names} for inner in codes):
        found.update(_by_word((constant for inner in codes for constant in inner.co_consts), package))
    return sorted(found)


def _absolute(name: str, names: object, level: object, package: str | None) -> Iterator[str]:
    module = resolve_name("." * level + name, package or "") if isinstance(level, int) and level else name
    yield module
    for inner in names if isinstance(names, tuple) else ():
        if inner != "*":
            yield f"{module}.{inner}"


def _by_word(constants: Iterable[object], package: str | None) -> Iterator[str]:
    """The modules that words name; of a word that ends with a dot, all that are directly in the package."""
    for word in {constant for constant in constants if isinstance(constant, str) and constant}:
        if not _WORD.fullmatch(word) or (word.startswith(".") and not package):
            continue
        name = word.rstrip(".") or word
        try:
            name = resolve_name(name, package or "") if name.startswith(".") else name
        except ImportError:  # above the top
            continue
        spec = spec_of(name)
        if spec is not None:
            yield name
            for folder in (spec.submodule_search_locations or ()) if word.endswith(".") else ():
                stems = (file.stem for file in Path(folder).glob("*.py"))
                yield from (f"{name}.{stem}" for stem in stems if stem != "__init__")


@dataclass(frozen=True, slots=True)
class Reach:
    """What a module needs to be imported and to run, as far as its files tell."""

    files: Mapping[str, Path]
    """By module, the files of the local ones, itself among them."""
    others: frozenset[str]
    """The top names of all that is not local."""


def reach(*modules: str) -> Reach:
    """The local modules among these and those that they import, however deep, and what else they import."""
    found: dict[str, Path] = {}
    others: set[str] = set()
    waiting = list(modules)
    while waiting:
        for name in _with_parents(waiting.pop()):
            if name in found:
                continue
            spec = None if name.partition(".")[0] in others else spec_of(name)
            origin = None if spec is None else spec.origin
            if spec is not None and origin is not None and is_local_file(name, origin):
                found[name] = Path(origin)
                waiting.extend(_imports_in(found[name], name if spec.submodule_search_locations else spec.parent))
            elif "." not in name and (spec is None or origin is not None):
                others.add(name)
    return Reach(found, frozenset(others - {"__main__"}))


def _with_parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[: place + 1]) for place in range(len(parts))]


def spec_of(module: str) -> ModuleSpec | None:
    """Where a module lies, as it was loaded or by asking the finders for each of its packages in turn."""
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
    nodes = list(ast.walk(ast.parse(file.read_bytes())))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from _absolute(node.module or "", tuple(alias.name for alias in node.names), node.level, package)
    if any(getattr(node, "id", getattr(node, "attr", None)) in _BY_WORD for node in nodes):
        yield from _by_word((node.value for node in nodes if isinstance(node, ast.Constant)), package)
