"""W1 to W6: flaregate, warm and cold, against everybody else who can do the same work, in pairs."""

from collections.abc import Iterator
from typing import Any

from benchmarks import harness
from benchmarks.contestants import Field, Ran
from benchmarks.harness import Claim, Row
from benchmarks.work import Submitted, same
from benchmarks.workloads import workload

PEER, DASK, JOBLIB_RAY = "GridSearchCV(n_jobs=2)", "dask-ml", "joblib on Ray"
PLAN, IN_PROCESS = "plan on Ray", "plan in process"
WARM, COLD, ENGINE = "flaregate warm", "flaregate cold", "flaregate engine"
ON_SAME_RAY = "flaregate engine on the plan's Ray"
OTHERS = {
    PEER: ("scikit-learn", {}),
    DASK: ("dask-ml", {}),
    JOBLIB_RAY: ("ray", {"how": "joblib"}),
    PLAN: ("ray", {"how": "plan"}),
    ON_SAME_RAY: ("ray", {"how": "engine"}),
    IN_PROCESS: ("in process", {}),
}
SEARCH_ALONE = (DASK, ON_SAME_RAY)
"""Who takes part in searches only."""
OWN = {
    "w1": [Claim("warm, faster than GridSearchCV(n_jobs=2)", PEER, WARM, gate=0.95, aim=1.2)],
    "w2": [
        Claim("warm, faster than GridSearchCV(n_jobs=2)", PEER, WARM, gate=5, aim=7),
        Claim("cold, gateway and Ray included, faster than warm GridSearchCV(n_jobs=2)", PEER, COLD, gate=2, aim=3),
        Claim("warm, faster than dask-ml", DASK, WARM, gate=3, aim=4.5),
    ],
    "w3": [
        Claim("warm, faster than GridSearchCV(n_jobs=2)", PEER, WARM, gate=3, aim=4.2),
        Claim("tasks submitted for each fit", "tasks", "fits", "at most", gate=0.05, aim=0.01),
    ],
}
ABOUT = (
    "Wall seconds from the call to the answer, and CPU seconds of all processes below the caller. Warm: it has done "
    "the same work before. flaregate warm: an open client of an embedded gateway, default options, a project of its "
    "own for each run, so that nothing comes from its cache. flaregate engine: the same run from first to last "
    "task. flaregate cold: a new client in a new home, its gateway's and its Ray's start included. dask-ml: its own "
    "scheduler, threads. Where nothing is searched, joblib.Parallel stands for GridSearchCV. Every pair asserts "
    "equal numbers."
)


def run(name: str, pairs: int = harness.PAIRS) -> None:
    """Measure one workload; a first round, in which everybody warms up, does not count."""
    rows = []
    with Field() as field:
        for pair in range(pairs + 1):
            row = dict(_pair(field, name)) | dict(_cold(field, name) if pair else ())
            rows.append(row)
    harness.keep(name, rows[1:], list(_claims(name, rows[1])), f"{type(workload(name)).__doc__} {ABOUT}")


def _pair(field: Field, name: str) -> Iterator[tuple[str, float]]:
    """Everybody once, with equal numbers."""
    search = isinstance(workload(name), Submitted)
    first: Ran | None = None
    for title, (contestant, options) in {**OTHERS, WARM: ("flaregate", {})}.items():
        if title in SEARCH_ALONE and not search:
            continue
        ran = field.run(contestant, name, **options)
        first = first or ran
        same(ran.answer, first.answer)
        yield from ((title, ran.seconds), (f"{title}, CPU", ran.cpu))
        if title == WARM:
            yield from _facts(name, ran.facts)


def _facts(name: str, facts: dict[str, Any]) -> Iterator[tuple[str, float]]:
    yield ENGINE, facts["engine"]
    yield "tasks", facts["tasks"]
    if isinstance(workload(name), Submitted):
        yield "fits", facts["fits"]
        counts = [facts[f"fits of {node}"] / fits for node, fits in workload(name).prefix_fits().items()]
        yield "fits a (fold, prefix)", max(counts, key=lambda count: abs(count - 1))


def _cold(field: Field, name: str) -> Iterator[tuple[str, float]]:
    ran = field.run("cold", name)
    field.close("cold")
    yield from ((COLD, ran.seconds), (f"{COLD}, CPU", ran.cpu))
    yield f"{COLD}, from submit", ran.seconds - ran.facts["opening"]


def _claims(name: str, row: Row) -> Iterator[Claim]:
    yield from OWN.get(name, ())
    if ON_SAME_RAY in row:
        yield Claim("engine against the plan by hand on the same warm Ray", ON_SAME_RAY, PLAN, "at most", 1.25, 1.1)
        yield Claim("fits of each (fold, prefix)", "fits a (fold, prefix)", None, "exactly", 1, 1)
    else:
        yield Claim("engine against the plan by hand on warm Ray", ENGINE, PLAN, "at most", 1.25, 1.1)
    told = {(claim.of, claim.over) for claim in OWN.get(name, ())}
    for title in (PEER, DASK, JOBLIB_RAY, PLAN, IN_PROCESS):
        if title in row and (title, WARM) not in told:
            yield Claim(f"warm, faster than {title}", title, WARM)
    if (PEER, COLD) not in told:
        yield Claim(f"cold, faster than {PEER}", PEER, COLD)
