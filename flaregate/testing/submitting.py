"""How the fixed cases run a job: submitted as users do, run to its end, its outcomes compared by name."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flaregate.pipelines import Pipeline
from flaregate.submission import JobOptions, prepare
from flaregate.testing.ran import Ran, RunJob


def submit(run: RunJob, folder: Path, subject: Any, **options: Any) -> Ran:
    """Run a job in a new folder below `folder`."""
    own = folder / f"job-{len(list(folder.iterdir()))}"
    own.mkdir()
    return run(prepare(subject, JobOptions(**options)), own)


def chain(*nodes: tuple[str, Any]) -> Pipeline:
    """A pipeline of nodes one after the other."""
    pipe, last = Pipeline(), None
    for name, obj in nodes:
        last = pipe.node(name, obj, after=last)
    return pipe


def scores(ran: Ran, scorer: str = "score") -> list[Sequence[float]]:
    """The scores of each outcome on each fold."""
    return [(outcome.scores or {})[scorer] for outcome in ran.outcomes]


def errors(ran: Ran) -> list[str | None]:
    """The class of each outcome's error."""
    return [outcome.error.type if outcome.error else None for outcome in ran.outcomes]
