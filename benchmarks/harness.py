"""Pairs, medians and the machine they were measured on."""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

RESULTS = Path(__file__).parent / "results"
PAIRS = 5
T = TypeVar("T")
PACKAGES = ("ray", "scikit-learn", "numpy", "scipy", "fastapi", "uvicorn", "sqlalchemy", "pydantic")


def machine() -> dict[str, object]:
    """What the numbers were measured on."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), ""
    )
    memory = next((line.split()[1] for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), "0")
    return {
        "cores": os.cpu_count(),
        "processor": model or platform.processor(),
        "memory_gib": round(int(memory) / 2**20, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
    }


def _lines(path: str) -> list[str]:
    file = Path(path)
    return file.read_text().splitlines() if file.exists() else []


def timed(work: Callable[..., T], *given: Any, **options: Any) -> tuple[float, T]:
    """Wall seconds of one call, and what it gave."""
    start = time.perf_counter()
    made = work(*given, **options)
    return time.perf_counter() - start, made


def medians(rows: list[dict[str, float]]) -> dict[str, float]:
    """The median of each measured thing over the pairs."""
    return {key: round(statistics.median(row[key] for row in rows if key in row), 4) for key in rows[0]}


def keep(name: str, rows: list[dict[str, float]], ratios: dict[str, tuple[str, str]], about: str) -> None:
    """Write the raw rows, their medians and the medians of the paired ratios; print what a reader wants first."""
    paired = {
        title: round(statistics.median(row[above] / row[below] for row in rows), 3)
        for title, (above, below) in ratios.items()
    }
    document = {
        "benchmark": name,
        "about": about,
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "pairs": len(rows),
        "medians": medians(rows),
        "ratios": paired,
        "rows": rows,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
    json.dump({key: document[key] for key in ("benchmark", "pairs", "medians", "ratios")}, sys.stdout, indent=1)
    sys.stdout.write("\n")
