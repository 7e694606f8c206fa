"""One job on any runner: what the driver does between its work and its end. Unpickles nothing of the user's."""

from collections.abc import Callable
from pathlib import Path

from flaregate_wire.definitions import Blob, JobDefinition, Splits
from flaregate_wire.planning import plan
from worker_image.cache import Cache, NoCache
from worker_image.engine.engine import Engine
from worker_image.engine.prepare import JobFailed
from worker_image.engine.run import Say
from worker_image.engine.runner import Runner
from worker_image.engine.session import Context
from worker_image.work import Finished, Work


def run_job(work: Work, runner: Runner, report: Say, cache: Callable[[], Cache] = NoCache, job: str = "") -> Finished:
    """Run a job.

    Args:
        work: What to do, with the inputs on this machine.
        runner: What runs its tasks.
        report: Takes each event, and the files that must be in the store before it is told.
        cache: Opens the cache; not called where the job wants none.
        job: The job's id: what draws random numbers is shared within it alone.
    """
    definition = work.definition
    blobs = {sha: Path(work.blobs[sha]).read_bytes() for sha in _code_blobs(definition)}
    context = Context(definition, blobs, work.references, work.code)
    try:
        summary = runner.prepare(context, work.blobs)
    except JobFailed as error:
        return refused(error)
    known = NoCache() if definition.cache == "off" else cache()
    try:
        engine = Engine(
            plan(definition), runner, report, Path(work.scratch), attempt=work.attempt, cache=known, job=job
        )
        return engine.run(summary)
    finally:
        known.close()


def refused(error: JobFailed) -> Finished:
    """The end of a job of which nothing can run."""
    return Finished(succeeded=False, reason=error.reason, message=error.message)


def _code_blobs(definition: JobDefinition) -> frozenset[str]:
    """What nodes, axes, scorers and splitters refer to; staged rows and folds stay on the head's disk."""
    inputs = {name: given for name, given in definition.inputs.items() if not isinstance(given, Blob)}
    cv = None if isinstance(definition.cv, Splits) else definition.cv
    return definition.model_copy(update={"inputs": inputs, "objects": (), "cv": cv}).blobs()
