"""A worker process: runs tasks one by one, reports each step or member as it ends, leaves what they made as files."""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter

from threadpoolctl import threadpool_limits

from flaregate.fitted_file import write
from flaregate.payload import dump, load
from worker_image.engine import parts_file
from worker_image.engine.choosing import choose
from worker_image.engine.rows import Parts
from worker_image.engine.runner import fitted_nodes, write_output
from worker_image.engine.running import error_detail
from worker_image.engine.session import Session
from worker_image.engine.tasks import Piece
from worker_image.engine.work import work
from worker_image.process_runner.messages import Answer, Came, Choose, DumpData, Ended, Run, Save


def serve(session: Session, channel: Connection) -> None:
    """Follow orders until the channel is closed, which raises EOFError."""
    inputs: dict[Path, Parts] = {}
    while True:
        order = channel.recv()
        if isinstance(order, Run):
            inputs = {path: inputs[path] if path in inputs else parts_file.read(path) for path in order.inputs}
            _run(session, order, [inputs[path] for path in order.inputs], channel.send)
        else:
            channel.send(_answer(session, order))
        sys.stdout.flush()


def _run(session: Session, order: Run, inputs: list[Parts], send: Callable[[Came | Ended], None]) -> None:
    begin = perf_counter()
    needs = order.task.needs
    cpus = int(needs.num_cpus) if needs is not None and needs.num_cpus else 1
    with threadpool_limits(cpus) if cpus > 1 else nullcontext():
        for index, piece in enumerate(work(session, order.task, inputs)):
            send(_left(order, index, piece))
    send(Ended(perf_counter() - begin))


def _left(order: Run, index: int, piece: Piece) -> Came:
    """Write what a piece left. What cannot be written is the piece's error, as it would be for any other process."""
    report, task = piece.report, order.task
    if report.error is not None:
        return Came(report)
    try:
        if index == len(task.steps) - 1:
            parts_file.write(piece.parts, order.parts)
        if task.keeps_state:
            dump(piece.state, order.state(index))
        return Came(report, write_output(piece.parts, order.output(index)) if report.held else None)
    except Exception as error:  # noqa: BLE001 - pickling runs the user's code, which may raise anything
        return Came(replace(report, error=error_detail(error), held=False))


def _answer(session: Session, order: Save | DumpData | Choose) -> Answer:
    try:
        match order:
            case Save(steps, states, path):
                write(path, fitted_nodes(session.context, steps, [load(state) for state in states]))
                return Answer()
            case DumpData(path):
                return Answer(dump(session.data, path))
            case Choose(rows):
                return Answer(choose(session, rows))
    except Exception as error:  # noqa: BLE001 - the user's code may raise anything
        detail = error_detail(error)
        return Answer(problem=f"{detail.type}: {detail.message}")
