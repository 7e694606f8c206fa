"""The fingerprint of an environment, as the label of a worker's image says it: of a lock file, or of what is installed.

`python -m worker_image.environment LOCK` prints it as JSON; with `--expect JSON` it ends with 1 if they differ.
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from flaregate_wire.environment import DISTRIBUTIONS

_PINNED = re.compile(r"^([\w.-]+)==([^\s;\\]+)(?: *; *([^\\\n]+))?", re.MULTILINE)
IMAGE_PYTHON = "3.11"
"""Of the image; a lock has other versions for other Pythons."""


def of_lock(path: Path) -> dict[str, str]:
    """The versions that a lock file installs in the image."""
    from packaging.markers import Marker  # noqa: PLC0415 - where images are built only

    there = {"python_version": IMAGE_PYTHON, "python_full_version": f"{IMAGE_PYTHON}.0", "sys_platform": "linux"}
    pinned = {
        name: pinned
        for name, pinned, marker in _PINNED.findall(path.read_text())
        if name in DISTRIBUTIONS and (not marker or Marker(marker.strip()).evaluate(there))
    }
    return {"python": IMAGE_PYTHON} | dict(sorted(pinned.items()))


def installed() -> dict[str, str]:
    """The versions that are installed here."""
    found = {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    for name in DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def differences(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """What is not as expected, each as a line."""
    names = sorted({*expected, *found})
    return [
        f"{name}: the label says {expected.get(name)}, installed is {found.get(name)}"
        for name in names
        if expected.get(name) != found.get(name)
    ]


def main() -> int:
    """Print a fingerprint, or compare one."""
    parser = argparse.ArgumentParser(prog="worker_image.environment")
    parser.add_argument("lock", nargs="?", type=Path, help="a lock file; without it, what is installed")
    parser.add_argument("--expect", help="a fingerprint as JSON")
    asked = parser.parse_args()
    found = installed() if asked.lock is None else of_lock(asked.lock)
    if asked.expect is None:
        sys.stdout.write(json.dumps(found) + "\n")
        return 0
    wrong = differences(json.loads(asked.expect), found)
    sys.stderr.writelines(f"{line}\n" for line in wrong)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
