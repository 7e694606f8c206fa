"""A search again with one more value: what the second run spends of the first one's task CPU."""

import flaregate as fg
from benchmarks import harness
from benchmarks.harness import Claim, CpuMeter, Row, timed
from benchmarks.searches import Search, w2
from benchmarks.work import new_client, same

ABOUT = (
    "W2, then W2 with one more alpha in the same project, at an open client whose head is warm. Task seconds: what "
    "tasks ran, summed, each with one BLAS thread. CPU: all processes of client, gateway and cluster. Means equal "
    "the first run's."
)


def run(name: str, pairs: int = harness.PAIRS) -> None:
    """Measure pairs of first and second run, each pair in a project of its own."""
    rows = []
    with new_client() as client:
        w2(alphas=2).flaregate(client, project="warm-up")
        for pair in range(pairs):
            first = _one(client, w2(), f"pair-{pair}", "first")
            second = _one(client, w2(alphas=21), f"pair-{pair}", "second")
            same({key: second[1][key] for key in first[1]}, first[1])
            rows.append(first[0] | second[0])
    share = Claim("share of the first run's task seconds", "second, task s", "first, task s", "at most", 0.08, 0.05)
    fits = Claim("prefix fits of the second run", "second, prefix fits", None, "exactly", 0, 0)
    wall = Claim("wall, faster than the first run", "first", "second")
    cpu = Claim("share of the first run's CPU in all processes", "second, CPU", "first, CPU", "at most")
    harness.keep(name, rows, [share, fits, wall, cpu], ABOUT)


def _one(client: fg.Client, work: Search, project: str, title: str) -> tuple[Row, dict[object, float]]:
    with CpuMeter() as meter:
        wall, (job, answer) = timed(work.flaregate, client, project=project)
    stats = job.view().result.stats
    row = {
        title: wall,
        f"{title}, CPU": meter.seconds,
        f"{title}, task s": stats.seconds,
        f"{title}, prefix fits": sum(stats.fits.get(node, 0) for node in work.prefix),
        f"{title}, cached": stats.cached,
    }
    return row, answer
