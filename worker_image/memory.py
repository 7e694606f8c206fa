"""How often the kernel has ended a process of this container for want of memory, from its control group."""

import re
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_COUNT = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


def oom_kills(root: Path = _ROOT, own: Path = Path("/proc/self/cgroup")) -> int:
    """The control group's count, version 1 or 2; 0 where there is none to read."""
    return sum(_count(path) for path in _files(root, own))


def _files(root: Path, own: Path) -> list[Path]:
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return []
    files = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            files.append(_shown(root, group, "memory.events"))
        elif "memory" in controllers.split(","):
            files.append(_shown(root / "memory", group, "memory.oom_control"))
    return files


def _shown(root: Path, group: str, name: str) -> Path:
    """In a container the group's own folder may be mounted at the root, while the kernel names it as the host does."""
    file = root / group.lstrip("/") / name
    return file if file.exists() else root / name


def _count(path: Path) -> int:
    try:
        match = _COUNT.search(path.read_text())
    except OSError:
        return 0
    return int(match.group(1)) if match else 0
