"""The workloads by name. Each is seeded, and made once in a process."""

from functools import lru_cache
from typing import Any

from benchmarks.functions import w5, w6
from benchmarks.graphs import w4
from benchmarks.searches import w1, w2, w3

WORKLOADS = {"w1": w1, "w2": w2, "w3": w3, "w4": w4, "w5": w5, "w6": w6}


@lru_cache
def workload(name: str) -> Any:
    """A workload: a benchmarks.work.Workload."""
    return WORKLOADS[name]()
