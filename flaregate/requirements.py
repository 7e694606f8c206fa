"""The packages that a job brings: a lock file with sums, made by uv or given. The one module that runs uv.

What the workers have already is no part of it; nothing in it names an index.
"""

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from flaregate.errors import Refused
from flaregate.payload import Staged, staged
from flaregate_wire.problems import Code, Fault

MEDIA_TYPE = "text/plain"
_PINNED = re.compile(r"^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)")
_INDEX = re.compile(r"^\s*(-i|--index-url|--extra-index-url|--find-links|-f|--index)\b")
_SECONDS = 120
Requirements = Sequence[str] | str | Path


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock file."""

    text: str
    packages: tuple[str, ...]
    """`name==version` of each."""

    def staged(self) -> Staged:
        """Its bytes."""
        return staged(MEDIA_TYPE, self.text.encode())


def locked(given: Requirements, environment: Mapping[str, str]) -> Lock:
    """The lock of some requirements for workers that have these versions.

    Args:
        given: Requirements as pip takes them, or the path of a lock file with sums.
        environment: What the workers have: versions by distribution, and `python`.

    Raises Refused: uv is missing or finds no solution (its words say why), or a line has no sums.
    """
    if isinstance(given, str | Path):
        return _checked(_read(Path(given)), environment)
    return _checked(_compiled(given, environment), environment)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise _refused(
            f"requirements: {path} cannot be read: {error.strerror}; give a list of packages or a lock file"
        ) from error


def _compiled(given: Sequence[str], environment: Mapping[str, str]) -> str:
    if find_spec("uv") is None:
        raise _refused("requirements are locked by uv, which is not installed here: pip install uv")
    has = [f"{name}=={version}" for name, version in environment.items() if name != "python"]
    command = [sys.executable, "-m", "uv", "pip", "compile", "-", "--generate-hashes", "--no-header", "--no-annotate"]
    command += ["--no-emit-index-url", "--no-emit-find-links", "--quiet"]
    command += ["--python-version", ".".join(environment.get("python", "3.11").split(".")[:2])]
    ran = subprocess.run(  # noqa: S603 - uv, with requirements on its standard input
        command,
        input="\n".join([*given, *has]) + "\n",
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if ran.returncode:
        told = ran.stderr.strip()
        raise _refused(f"requirements {', '.join(given)} do not go together with what the workers have:\n{told}")
    return ran.stdout


def _checked(text: str, environment: Mapping[str, str]) -> Lock:
    """Without what the workers have. Raises Refused for lines without sums, and for indexes."""
    kept, packages = [], []
    for block in _blocks(text):
        if _INDEX.match(block):
            raise _refused(f"requirements: {block.split()[0]} names an index; the workers have their own: leave it out")
        pinned = _PINNED.match(block)
        if pinned is None or "--hash=sha256:" not in block:
            line = block.splitlines()[0].rstrip("\\ ")
            raise _refused(f"requirements: {line!r} is not locked; write name==version with --hash=sha256:…")
        name, version = pinned[1], pinned[2]
        if environment.get(_canonical(name)) != version:
            kept.append(block)
            packages.append(f"{_canonical(name)}=={version}")
    return Lock("\n".join(kept) + "\n", tuple(packages))


def _blocks(text: str) -> Iterator[str]:
    """Each requirement with its continued lines; comments and empty lines are left out."""
    block: list[str] = []
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        block.append(line)
        if not line.rstrip().endswith("\\"):
            yield "\n".join(block)
            block = []
    if block:
        yield "\n".join(block)


def _canonical(name: str) -> str:
    """As all spellings of a name are compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _refused(message: str) -> Refused:
    return Refused(
        message,
        code=Code.INVALID_REQUEST,
        errors=[Fault(pointer="/requirements", rule="requirements", message=message)],
    )
