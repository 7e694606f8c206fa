"""`python -m benchmarks [NAME …]` runs the named benchmarks, or all; `… profile NAME` profiles a workload."""

import os
import sys
from importlib import import_module

from benchmarks.harness import SLOWING

MODULES = {
    "cold_start": "cold_start",
    **dict.fromkeys(("w1", "w2", "w3", "w4", "w5", "w6"), "contests"),
    **dict.fromkeys(("events", "streams"), "events"),
    "images": "images",
    "job_api": "job_api",
    "logs": "logs",
    "clusters": "clusters",
    "many_jobs": "many_jobs",
    "platforms": "platforms",
    "repeat": "repeat",
    "scale": "scale",
    "small": "small",
    "staging": "staging",
    "submissions": "submissions",
    "wake": "wake",
}


def main(names: list[str]) -> None:
    """Run the benchmarks one after the other."""
    if names[:1] == ["profile"]:
        from benchmarks.profiling import profile

        return profile(names[1])
    unknown = [name for name in names if name not in MODULES]
    if unknown:
        sys.exit(f"no benchmark {', '.join(unknown)}; there are {', '.join(MODULES)}, and profile NAME")
    for name in names or MODULES:
        import_module(f"benchmarks.{MODULES[name]}").run(name)
    return None


if __name__ == "__main__":
    if any(name in os.environ for name in SLOWING):  # a BLAS reads them when it is loaded, in every process below too
        clean = {name: value for name, value in os.environ.items() if name not in SLOWING}
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks", *sys.argv[1:]], clean)
    main(sys.argv[1:])
