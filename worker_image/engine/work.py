"""A task, run where its session is. The one place that knows which kinds of work there are; every runner calls it."""

from collections.abc import Iterator, Sequence

from flaregate_wire.definitions import FITS, Action
from flaregate_wire.planning import Step
from worker_image.engine.calls import run_call, run_cell
from worker_image.engine.leaves import run_leaf
from worker_image.engine.rows import Parts
from worker_image.engine.session import Session
from worker_image.engine.steps import run_step
from worker_image.engine.tasks import Piece, Report, Task


def work(session: Session, task: Task, inputs: Sequence[Parts]) -> Iterator[Piece]:
    """Run a task; gives one piece for each step or member, as it ends.

    Args:
        session: Of the task's job.
        task: What to run.
        inputs: What the steps named by `task.inputs` made of the same cut.
    """
    with session.configured():
        yield from _leaves(session, task, inputs) if task.leaf else _steps(session, task, inputs)


def _steps(session: Session, task: Task, inputs: Sequence[Parts]) -> Iterator[Piece]:
    """Each step feeds the next; after an error the rest has the same one. Only the last passes something on."""
    last = task.steps[-1]
    for place, step in enumerate(task.steps):
        piece = _step(session, step, task, inputs)
        if piece.report.error is not None:
            yield piece
            yield from (Piece(Report(error=piece.report.error)) for _ in task.steps[place + 1 :])
            return
        yield Piece(piece.report, piece.parts if step is last else None, piece.state if task.keeps_state else None)
        inputs = (piece.parts,)


def _step(session: Session, step: Step, task: Task, inputs: Sequence[Parts]) -> Piece:
    if session.context.definition.action is Action.SWEEP:
        return run_cell(session, step, inputs)
    return run_step(session, step, task.cut, inputs)


def _leaves(session: Session, task: Task, inputs: Sequence[Parts]) -> Iterator[Piece]:
    action = session.context.definition.action
    for member in task.members:
        if action in FITS:
            piece = run_leaf(session, member.step, session.rows(task.cut), inputs)
            yield piece if task.keeps_state else Piece(piece.report)
        else:
            yield run_call(session, task, member, inputs)
