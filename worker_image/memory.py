"""What the control group of this container tells of memory: its limit, its peak, and whom the kernel has ended."""

import re
from collections.abc import Iterator
from pathlib import Path

_ROOT, _OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_COUNT = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)
_V2 = {"count": "memory.events", "limit": "memory.max", "peak": "memory.peak"}
_V1 = {"count": "memory.oom_control", "limit": "memory.limit_in_bytes", "peak": "memory.max_usage_in_bytes"}
_UNLIMITED = 1 << 60
_GB = 1e9


def oom_kills(root: Path = _ROOT, own: Path = _OWN) -> int:
    """How often the kernel has ended a process for want of memory; 0 where there is nothing to read."""
    return sum(int(match[1]) for text in _texts(root, own, "count") if (match := _COUNT.search(text)))


def memory_use(root: Path = _ROOT, own: Path = _OWN) -> str:
    """Limit and peak as words in brackets, after a space; empty where there is no limit."""
    limit = min(_bytes(root, own, "limit"), default=_UNLIMITED)
    if limit >= _UNLIMITED:
        return ""
    peak = max(_bytes(root, own, "peak"), default=None)
    used = "" if peak is None else f" and has used {peak / _GB:.2f} GB at most"
    return f" (its container has {limit / _GB:.2f} GB{used})"


def _bytes(root: Path, own: Path, what: str) -> list[int]:
    return [int(text) for text in _texts(root, own, what) if text.strip().isdigit()]


def _texts(root: Path, own: Path, what: str) -> Iterator[str]:
    """The control group's file, of version 1, 2 or both."""
    text = _text(own) or ""
    for line in text.splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            found = _text(_shown(root, group, _V2[what]))
        elif "memory" in controllers.split(","):
            found = _text(_shown(root / "memory", group, _V1[what]))
        else:
            continue
        if found is not None:
            yield found


def _shown(root: Path, group: str, name: str) -> Path:
    """In a container the group's own folder may be mounted at the root, while the kernel names it as the host does."""
    file = root / group.lstrip("/") / name
    return file if file.exists() else root / name


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None
