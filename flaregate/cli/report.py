"""What is printed when a job has ended: the best candidate, the timeline, what it used, its state."""

from collections.abc import Iterator

from rich.console import Console

from flaregate.cli import words
from flaregate_wire.events import OutcomeEvent
from flaregate_wire.jobs import JobView, Stats

TIMELINE = (
    ("queued", "queued"),
    ("launched", "launched"),
    ("booted", "head booted"),
    ("ray_ready", "Ray ready"),
    ("joined", "first worker joined"),
    ("first_outcome", "first outcome"),
    ("last_task", "last task done"),
    ("committed", "results committed"),
    ("gone", "containers gone"),
    ("done", "done"),
)


def lines(job: JobView, best: OutcomeEvent | None) -> Iterator[str]:
    """The report, a line at a time."""
    if best is not None:
        yield f"best      candidate {best.candidate}: {words.path(best)}  {words.settings(best)}"
        yield f"          {words.gave(best, 6)}"
    start = job.timeline.get("queued", job.created)
    reached = sorted((job.timeline[key], title) for key, title in TIMELINE if key in job.timeline)
    for place, (moment, title) in enumerate(reached):
        yield f"{'timeline' if place == 0 else '':8}  {words.since(start, moment)}  {title}"
    size = f"{job.cluster.instances} × {job.cluster.cpus:g} vCPU"
    used = f"{job.usage.vcpu_seconds:.1f} vCPU-seconds, {job.usage.gib_seconds:.1f} GiB-seconds"
    yield f"used      {used} ({size}); cost {job.usage.cost}"
    if job.result is not None:
        yield f"counted   {'; '.join(_counted(job.result.stats))}"
    if job.expires is not None:
        yield f"kept      until {job.expires:%Y-%m-%d %H:%M:%S} UTC"
    yield from _end(job)


def _counted(stats: Stats) -> Iterator[str]:
    hosts = len(stats.hosts)
    yield f"{stats.tasks} tasks on {hosts} node{'' if hosts == 1 else 's'}"
    if stats.cached:
        yield f"{stats.cached} from the cache"
    if stats.fits:
        yield f"fits: {', '.join(f'{node} {count}' for node, count in stats.fits.items())}"


def _end(job: JobView) -> Iterator[str]:
    if job.reason is None:
        yield str(job.state)
        return
    yield f"{job.state}: {job.reason}{f' – {job.message}' if job.message else ''}"
    if job.hint:
        yield f"hint      {job.hint}"
    if job.log_tail:
        yield "last log lines:"
        yield from (f"  {line}" for line in job.log_tail)


def show(console: Console, job: JobView, best: OutcomeEvent | None) -> None:
    """Print the report."""
    for line in lines(job, best):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
