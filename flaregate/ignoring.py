"""Which files of a folder count as the user's own: git's ignore rules, and what nobody means to send."""

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from pathspec import GitIgnoreSpec

RULES = (".gitignore", ".flaregateignore")
"""Files of rules, in any folder; the second has the last word."""
_NEVER = frozenset(
    {
        *(".git", ".hg", ".svn", "__pycache__", "node_modules", ".DS_Store", ".ipynb_checkpoints"),
        *(".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", ".tox", ".nox", ".eggs"),
    }
)
_ENVIRONMENT = "pyvenv.cfg"
_BYTECODE = (".pyc", ".pyo")


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below a folder that is not ignored, in the order of names; links are followed."""
    yield from _files(folder, _Rules.above(folder), frozenset())


def _files(folder: Path, rules: "_Rules", above: frozenset[Path]) -> Iterator[Path]:
    real = folder.resolve()
    if real in above:  # a link to a folder that holds it
        return
    inner = rules.of(folder)
    for entry in sorted(os.scandir(folder), key=lambda one: one.name):
        path, is_folder = Path(entry.path), entry.is_dir()
        if entry.name in _NEVER or entry.name.endswith(_BYTECODE) or inner.ignore(path, is_folder=is_folder):
            continue
        if not is_folder:
            if path.exists():  # a link may lead nowhere
                yield path
        elif not (path / _ENVIRONMENT).exists():
            yield from _files(path, inner, above | {real})


class _Rules:
    """The rules of a folder and of those above it."""

    def __init__(self, specs: tuple[tuple[Path, GitIgnoreSpec], ...] = ()) -> None:
        self._specs = specs

    @classmethod
    def above(cls, folder: Path) -> "_Rules":
        """Those that hold for a folder: of all above it in its repository, or of the next one where there is none."""
        chain = list(folder.parents)
        top = next((place for place, one in enumerate(chain) if (one / ".git").exists()), 0)
        rules = cls()
        for one in reversed(chain[: top + 1]):
            rules = rules.of(one)
        return rules

    def of(self, folder: Path) -> "_Rules":
        """With those that the folder has itself."""
        found = []
        for name in RULES:
            file = folder / name
            if file.is_file():
                status = file.stat()
                found.append((folder, _spec(file, status.st_mtime_ns, status.st_size)))
        return _Rules((*self._specs, *found)) if found else self

    def ignore(self, path: Path, *, is_folder: bool) -> bool:
        """What the nearest rule says that says anything."""
        for base, spec in reversed(self._specs):
            said = spec.check_file(f"{path.relative_to(base).as_posix()}{'/' if is_folder else ''}").include
            if said is not None:
                return said
        return False


@lru_cache(maxsize=256)
def _spec(file: Path, _modified: int, _size: int) -> GitIgnoreSpec:
    return GitIgnoreSpec.from_lines(file.read_text(encoding="utf-8", errors="replace").splitlines())
