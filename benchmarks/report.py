"""The page on performance: what was measured, from benchmarks/results/ alone."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS

ORDER = (
    *("w1", "w2", "w3", "w4", "w5", "w6", "repeat", "scale", "small", "cold_start", "submissions"),
    *("many_jobs", "job_api", "events", "streams", "logs", "staging", "images", "platforms", "clusters", "wake"),
)
WORKLOADS = ("w1", "w2", "w3", "w4", "w5", "w6")
INTRO = """# Performance

`make bench` runs every benchmark against those who can do the same work: scikit-learn or joblib on two processes,
dask-ml, joblib's Ray backend, the Ray Job API, and the plan that an expert would write by hand for Ray. All run in one
go and in pairs; `make bench NAME=w3` runs one. The peers are installed into `.venv-bench`. Raw rows, machine and
versions go to `benchmarks/results/`, and `make docs` makes this page from these files. Absolute figures drift from
machine to machine: compare within a row. Every pair asserts equal numbers before it counts.

`python -m benchmarks profile w3` writes where the time of a search goes to `benchmarks/results/profile_w3.txt`.
"""
WORK = """| | what it is |
|---|---|
| w1 | digits, scaler → PCA × 2 → three kinds of classifiers, ten settings, 5 folds: little to share |
| w2 | 20,000 × 200, scaler → Nystroem(500) → SGD × 20, 3 folds: an expensive prefix |
| w3 | iris, scaler → SelectKBest × 4 → decision tree × 250, 5 folds: 5,000 fits of a millisecond |
| w4 | five branches behind a scaler, stacked, joined, a last classifier × 4, 5 folds |
| w5 | a slow function mapped over 100,000 rows |
| w6 | a sweep of 10 tasks × 10 seeds × 2 rates |
"""


def page(results: Path = RESULTS) -> str:
    """The whole page in Markdown."""
    found = {name: json.loads(path.read_text()) for name in ORDER if (path := results / f"{name}.json").exists()}
    parts = [INTRO, "## Workloads\n", WORK, "## Wall seconds\n", *_seconds(found), "\n## Claims\n", *_claims(found)]
    return "\n".join([*parts, "\n## Machines\n", *_machines(found)]) + "\n"


def _seconds(found: Mapping[str, Any]) -> Iterator[str]:
    """Medians by contestant and workload."""
    medians = {name: found[name]["medians"] for name in WORKLOADS if name in found}
    titles = dict.fromkeys(title.removesuffix(", CPU") for row in medians.values() for title in row if ", CPU" in title)
    yield from _table(
        ("median, CPU seconds in brackets", *medians),
        ((title, *(_both(row, title) for row in medians.values())) for title in titles),
    )


def _both(row: Mapping[str, float], title: str) -> str:
    return f"{row[title]:.2f} ({row[f'{title}, CPU']:.1f})" if title in row else "–"


def _claims(found: Mapping[str, Any]) -> Iterator[str]:
    rows = (
        (name, one["title"], f"{one['value']:g}", _limit(one, "gate"), _limit(one, "aim"), _verdict(one))
        for name, document in found.items()
        for one in document["claims"]
    )
    yield from _table(("benchmark", "claim, median of the pairs", "measured", "gate", "go on to", ""), rows)


def _limit(claim: Mapping[str, Any], name: str) -> str:
    sign = {"at least": "≥", "at most": "≤", "exactly": "="}[claim["bound"]]
    return "" if claim[name] is None else f"{sign} {claim[name]:g}"


def _verdict(claim: Mapping[str, Any]) -> str:
    if claim["met"] is None:
        return ""
    return "met, and beyond" if claim["reached"] else "met" if claim["met"] else "**missed**"


def _machines(found: Mapping[str, Any]) -> Iterator[str]:
    """Each machine once, with what was measured on it."""
    measured: dict[str, list[str]] = {}
    for name, document in found.items():
        text = f"{_machine(document['machine'])}; {document['notes']['environment']}"
        measured.setdefault(text, []).append(f"{name} ({document['measured'][:10]}, {document['pairs']} pairs)")
    yield from (f"- {', '.join(names)}: {text}" for text, names in measured.items())


def _machine(machine: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{package} {version}" for package, version in machine["versions"].items())
    return (
        f"{machine['cores']} cores ({machine['processor']}), {machine['memory_gib']} GiB, {machine['system']}, "
        f"Python {machine['python']}, {', '.join(machine['blas'])}, {versions}"
    )


def _table(head: Sequence[str], rows: Any) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)
