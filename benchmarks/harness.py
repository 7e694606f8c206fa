"""Measured rows, the claims that follow from their pairs, and the machine they were measured on."""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from threading import Event, Thread
from typing import Any, Literal, Self, TypeVar

import psutil
from threadpoolctl import threadpool_info

RESULTS = Path(__file__).parent / "results"
PAIRS = 5
LOOK_SECONDS = 0.3
"""Between two looks at the processes; a look costs 1 % of one CPU."""
SLOWING = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
"""Where a machine sets them they keep a current BLAS from its best kernel. No contestant runs with them."""
PACKAGES = ("ray", "scikit-learn", "numpy", "scipy", "joblib", "dask", "dask-ml", "pydantic", "fastapi", "sqlalchemy")
T = TypeVar("T")
Row = dict[str, float]


@dataclass(frozen=True, slots=True)
class Claim:
    """What is said of the rows: one column over another, or a column by itself, and the bound that it must keep."""

    title: str
    of: str
    over: str | None = None
    bound: Literal["at least", "at most", "exactly"] = "at least"
    gate: float | None = None
    """None: it is told, and nothing is asked of it."""
    aim: float | None = None
    """Where to go on to."""

    def of_rows(self, rows: Sequence[Row]) -> dict[str, Any]:
        """The claim with its value in each pair, their median, and whether that keeps the bound."""
        paired = [
            row[self.of] / (row[self.over] if self.over else 1)
            for row in rows
            if {self.of, self.over or self.of} <= row.keys()
        ]
        value = statistics.median(paired)
        return {
            **asdict(self),
            "value": _short(value),
            "paired": [_short(one) for one in paired],
            "met": None if self.gate is None else _keeps(value, self.bound, self.gate),
            "reached": None if self.aim is None else _keeps(value, self.bound, self.aim),
        }


def _keeps(value: float, bound: str, limit: float) -> bool:
    if bound == "exactly":
        return value == limit
    return value >= limit if bound == "at least" else value <= limit


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def machine() -> dict[str, object]:
    """What the numbers were measured on."""
    import numpy as np  # noqa: F401 - its BLAS is what threadpoolctl sees

    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), ""
    )
    return {
        "cores": os.cpu_count(),
        "processor": model or platform.processor(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "blas": sorted(
            {f"{one['internal_api']} {one['architecture']}" for one in threadpool_info() if "architecture" in one}
        ),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _version(name: str) -> str | None:
    with suppress(ImportError):
        return version(name)
    return None


def _lines(path: str) -> list[str]:
    file = Path(path)
    return file.read_text().splitlines() if file.exists() else []


def timed(work: Callable[..., T], *given: Any, **options: Any) -> tuple[float, T]:
    """Wall seconds of one call, and what it gave."""
    start = time.perf_counter()
    made = work(*given, **options)
    return time.perf_counter() - start, made


class CpuMeter:
    """CPU seconds of this process and all below it while it is open; of one that ends, until the last look at it."""

    def __init__(self) -> None:
        self._before: dict[tuple[int, float], float] = {}
        self._last: dict[tuple[int, float], float] = {}
        self._closed = Event()
        self._looking = Thread(target=self._look_on, daemon=True)

    @property
    def seconds(self) -> float:
        """Until the last look."""
        return sum(used - self._before.get(key, 0.0) for key, used in self._last.items())

    def __enter__(self) -> Self:
        self._look()
        self._before = dict(self._last)
        self._looking.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._looking.join()
        self._look()

    def _look_on(self) -> None:
        while not self._closed.wait(LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        here = psutil.Process()
        for process in (here, *here.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                self._last[process.pid, process.create_time()] = sum(process.cpu_times()[:2])


def peak_memory() -> float:
    """The most that this process has had in memory, in MB."""
    (peak,) = (line.split()[1] for line in _lines("/proc/self/status") if line.startswith("VmHWM"))
    return int(peak) / 1000


def medians(rows: Sequence[Row]) -> Row:
    """The median of each column over the rows that have it."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: _short(statistics.median(row[name] for row in rows if name in row)) for name in names}


def keep(
    name: str,
    rows: Sequence[Row],
    claims: Sequence[Claim],
    about: str,
    *,
    notes: Mapping[str, Any] | None = None,
    results: Path = RESULTS,
) -> None:
    """Write rows, medians and claims to NAME.json in the folder of results; print what a reader wants first."""
    told = [claim.of_rows(rows) for claim in claims]
    document = {
        "benchmark": name,
        "about": about,
        "notes": {"environment": f"without {' and '.join(SLOWING)}, for all alike", **(notes or {})},
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "pairs": len(rows),
        "medians": medians(rows),
        "claims": told,
        "rows": [{key: _short(value) for key, value in row.items()} for row in rows],
    }
    results.mkdir(exist_ok=True)
    (results / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
    json.dump({"benchmark": name, "medians": document["medians"]}, sys.stdout)
    sys.stdout.write("\n" + "".join(f"  {_line(claim)}\n" for claim in told))
    sys.stdout.flush()


def _line(claim: Mapping[str, Any]) -> str:
    verdict = {True: "met", False: "MISSED", None: "told"}[claim["met"]]
    asked = "" if claim["gate"] is None else f" ({claim['bound']} {claim['gate']}, then {claim['aim']})"
    return f"{verdict}: {claim['title']}: {claim['value']}{asked}"
