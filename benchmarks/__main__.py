"""`python -m benchmarks [NAME …]` runs the named benchmarks, or all."""

import sys

from benchmarks import cold_start, searches

ALL = {"cold_start": cold_start.run, **dict.fromkeys(searches.WORKLOADS, searches.run)}

if __name__ == "__main__":
    names = sys.argv[1:] or list(ALL)
    unknown = [name for name in names if name not in ALL]
    if unknown:
        sys.exit(f"no benchmark {', '.join(unknown)}; there are {', '.join(ALL)}")
    for name in names:
        ALL[name](name)
