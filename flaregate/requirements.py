"""The packages that a job brings: a lock file with sums, made by uv or given. The one module that runs uv.

What the workers have already is no part of it; nothing in it names an index.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import NamedTemporaryFile

from flaregate.errors import Refused
from flaregate.origin import Pins, canonical
from flaregate.payload import Staged, staged
from flaregate_wire.digests import digest_bytes
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

    def pins(self) -> Pins:
        """What it says of versions."""
        pairs = (package.partition("==") for package in self.packages)
        return Pins({name: version for name, _, version in pairs}, digest_bytes(self.text.encode()))


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
    """What uv makes of a list, with the workers' versions as constraints: it may not ask for others of these."""
    text = "\n".join(given)
    conflicts = _conflicts(_named(given), environment)
    if conflicts:
        raise _refused(f"requirements: {'; '.join(conflicts)}", code=Code.ENVIRONMENT_MISMATCH)
    with NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as has:
        has.writelines(f"{name}=={_public(version)}\n" for name, version in environment.items() if name != "python")
        has.flush()
        command = [*_uv(), "pip", "compile", "-", f"--constraints={has.name}", "--generate-hashes", "--universal"]
        command += ["--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links", "--quiet"]
        command += ["--python-version", ".".join(environment.get("python", "3.11").split(".")[:2])]
        ran = subprocess.run(  # noqa: S603 - uv, with requirements on its standard input
            command, input=text + "\n", capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    if ran.returncode:
        told = ran.stderr.strip()
        raise _refused(f"requirements {', '.join(given)} do not go together with what the workers have:\n{told}")
    return ran.stdout


def _uv() -> Sequence[str]:
    if find_spec("uv") is not None:
        return (sys.executable, "-m", "uv")
    found = shutil.which("uv")
    if found is None:
        raise _refused("requirements are locked by uv, which is not installed here: pip install uv")
    return (found,)


def _named(given: Iterable[str]) -> dict[str, str]:
    """Those that name one version."""
    pinned = (_PINNED.match(line) for line in given)
    return {canonical(found[1]): found[2] for found in pinned if found is not None}


def _conflicts(packages: Mapping[str, str], environment: Mapping[str, str]) -> list[str]:
    return [
        f"{name}=={version}: the workers have {environment[name]}"
        for name, version in packages.items()
        if name in environment and _public(environment[name]) != _public(version)
    ]


def _public(version: str) -> str:
    """Without the label of a build (`+cpu`), which indexes do not have."""
    return version.partition("+")[0]


def _checked(text: str, environment: Mapping[str, str]) -> Lock:
    """Without what the workers have. Raises Refused for lines without sums, for indexes, and for other versions."""
    kept, packages = [], {}
    for block in _blocks(text):
        if _INDEX.match(block):
            raise _refused(f"requirements: {block.split()[0]} names an index; the workers have their own: leave it out")
        pinned = _PINNED.match(block)
        if pinned is None or "--hash=sha256:" not in block:
            line = block.splitlines()[0].rstrip("\\ ")
            raise _refused(f"requirements: {line!r} is not locked; write name==version with --hash=sha256:…")
        name, version = canonical(pinned[1]), pinned[2]
        if name not in environment or _public(environment[name]) != _public(version):
            kept.append(block)
            packages[name] = version
    conflicts = _conflicts(packages, environment)
    if conflicts:
        raise _refused(f"requirements: {'; '.join(conflicts)}; leave these out", code=Code.ENVIRONMENT_MISMATCH)
    text = "\n".join(kept) + "\n"
    return Lock(text, tuple(f"{name}=={version}" for name, version in packages.items()))


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


def _refused(message: str, code: Code = Code.INVALID_REQUEST) -> Refused:
    return Refused(
        message,
        code=code,
        errors=[Fault(pointer="/requirements", rule="requirements", message=message)],
    )
