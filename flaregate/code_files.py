"""The files of the user's own modules, and which of them a module needs. Nothing is imported."""

from collections.abc import Mapping
from importlib.machinery import all_suffixes
from pathlib import Path

from flaregate.ignoring import files_below
from flaregate.local_modules import spec_of
from flaregate.origin import is_local_file

_CODE = tuple(all_suffixes())


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
