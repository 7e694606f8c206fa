"""The files of the user's own modules: which ones a module needs, and digests of what they do. Nothing is imported."""

import ast
import hashlib
from collections.abc import Mapping
from functools import lru_cache
from importlib.machinery import all_suffixes
from pathlib import Path

from flaregate.ignoring import RULES, files_below
from flaregate.local_modules import spec_of
from flaregate.origin import is_local_file
from flaregate_wire.digests import digest_bytes

_CODE = tuple(all_suffixes())
_ABOUT = ("readme", "license", "licence", "copying", "changelog", "changes", "contributing", *RULES)
"""Beginnings of the names of files that no code reads."""
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def package_files(top: str) -> dict[str, Path]:
    """The files of a local package by their places below its root, but for what is ignored; none of a single module.

    Where no `__init__.py` makes a folder a package, only the modules in it are taken: such folders often hold data too.
    """
    spec = spec_of(top)
    found: dict[str, Path] = {}
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        if is_local_file(top, location):
            folder = Path(location)
            for file in files_below(folder):
                if file.name.endswith(_CODE) or _in_package(file, folder):
                    found.setdefault(f"{top}/{file.relative_to(folder).as_posix()}", file)
    return found


def _in_package(file: Path, folder: Path) -> bool:
    above = (one for one in file.parents if one == folder or folder in one.parents)
    return any((one / "__init__.py").exists() for one in above)


def place_of(module: str, file: Path) -> str:
    """Where a module's file lies below its root."""
    return "/".join(
        (*module.split("."), file.name) if file.stem == "__init__" else (*module.split(".")[:-1], file.name)
    )


def root_of(place: str, file: Path) -> Path:
    """The folder on `sys.path` below which a file has its place."""
    return file.parents[place.count("/")]


def needed(files: Mapping[str, Path]) -> dict[str, Path]:
    """By place, all that local modules need: themselves, and their packages with the data in them."""
    found = {place_of(name, file): file for name, file in files.items()}
    for top in sorted({name.partition(".")[0] for name in files}):
        for place, file in package_files(top).items():
            found.setdefault(place, file)
    return dict(sorted(found.items()))


def digest_of_module(file: Path) -> str:
    """`sha256:…` of what a module does: of Python's source without comments, layout and docstrings."""
    status = file.stat()
    return _module(file, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4096)
def _module(file: Path, _modified: int, _size: int) -> str:
    data = file.read_bytes()
    if file.suffix == ".py":
        tree = ast.parse(data)
        for node in ast.walk(tree):
            if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
                del node.body[0]
        data = ast.dump(tree).encode("utf-8", "surrogatepass")
    return digest_bytes(data)


def digest_of_data(top: str) -> str:
    """`sha256:…` of the files of a package that are no modules, and that its code may read."""
    total = hashlib.sha256()
    for place, file in sorted(package_files(top).items()):
        if not file.name.endswith(_CODE) and not file.name.lower().startswith(_ABOUT):
            status = file.stat()
            content = _content(file, status.st_mtime_ns, status.st_size)
            total.update(f"{place}\0{content}\0".encode("utf-8", "surrogateescape"))
    return f"sha256:{total.hexdigest()}"


@lru_cache(maxsize=4096)
def _content(file: Path, _modified: int, _size: int) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
