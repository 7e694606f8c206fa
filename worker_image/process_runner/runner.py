"""ProcessRunner: tasks in child processes of this machine. Ready at once, and it outlives the death of any of them."""

import shutil
import socket
import tempfile
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from multiprocessing.connection import wait
from pathlib import Path
from time import monotonic
from typing import Any

from flaregate_wire.planning import Step
from flaregate_wire.states import Reason
from worker_image.engine.prepare import JobFailed, Summary
from worker_image.engine.runner import SaveFailed, StatesLost
from worker_image.engine.session import Context
from worker_image.engine.tasks import Cut, Done, Key, Loss, Report, Task
from worker_image.process_runner.holdings import Holdings, link
from worker_image.process_runner.messages import (
    Answer,
    Came,
    Choose,
    DumpData,
    Ended,
    Load,
    Prepare,
    Prepared,
    Run,
    Save,
)
from worker_image.process_runner.nursery import Child, Ends, Nursery, NurseryGone, Zygote


@dataclass(slots=True)
class _Running:
    """A task in a worker."""

    worker: Child
    run: Run
    begun: float
    deadline: float | None
    cpus: float
    reports: list[Report] = field(default_factory=list)
    listening: bool = True
    timed_out: bool = False

    def done(self, host: str, seconds: float, loss: Loss | None = None, message: str = "") -> Done:
        return Done(self.run.task, tuple(self.reports), seconds, host, loss, message)


class ProcessRunner:
    """Runs tasks in workers that share the rows of their job's process, and map what other tasks left from files."""

    name = "ProcessRunner"

    def __init__(self, zygote: Zygote, slots: int, host: str | None = None) -> None:
        """`host` is what the tasks' place is called; the zygote stays the caller's."""
        self._zygote = zygote
        self._slots = slots
        self._host = host or socket.gethostname()
        self._folder = Path(tempfile.mkdtemp(prefix="parts-"))
        self._files = count()
        self._ends = Ends()
        self._context: Context | None = None
        self._job: Child | None = None
        self._nursery: Nursery = zygote
        self._data: Path | None = None
        """The job's rows, where its workers descend from the zygote."""
        self.holdings = Holdings()
        self._queue: deque[Task] = deque()
        self._running: dict[int, _Running] = {}
        self._idle: list[Child] = []

    def slots(self) -> int:
        return self._slots

    def idle_workers(self) -> tuple[int, ...]:
        return ()

    @property
    def busy(self) -> float:
        """CPUs of the tasks that run now."""
        return sum(one.cpus for one in self._running.values())

    # --- a job's begin and end

    def prepare(self, context: Context, files: Mapping[str, str]) -> Summary:
        self._end_job()
        self._context = context
        data = self._folder / "rows"
        self._job = job = self._zygote.fork()
        job.channel.send(Prepare(context, files, data))
        heard: Prepared | JobFailed | int = self._zygote.hear(job)
        if isinstance(heard, JobFailed):
            raise heard
        if isinstance(heard, int):
            self._job = None
            raise self._died_loading(heard)
        if heard.forks:
            self._nursery = Nursery(job.channel)
        else:
            self._data = data
        return heard.summary

    def _died_loading(self, code: int) -> JobFailed:
        end = self._ends.read(code)
        reason = Reason.OOM_KILLED if end.starved else Reason.USER_ERROR
        return JobFailed(reason, f"while inputs and nodes were loaded, the process {end.words}")

    def _end_job(self) -> None:
        for one in self._running.values():
            self._end_worker(one.worker)
        for worker in self._idle:
            self._end_worker(worker)
        if self._job is not None:
            self._zygote.end(self._job)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(mode=0o700)
        self._job, self._nursery, self._data = None, self._zygote, None
        self.holdings = Holdings()
        for held in (self._queue, self._running, self._idle):
            held.clear()

    def _end_worker(self, worker: Child) -> None:
        self._nursery.kill(worker)
        worker.close()

    def close(self) -> None:
        """End the job's processes and remove its files."""
        self._end_job()
        shutil.rmtree(self._folder, ignore_errors=True)

    # --- tasks

    def submit(self, task: Task) -> None:
        self._queue.append(task)

    def recall(self) -> Sequence[Task]:
        """Give back the tasks that have not begun."""
        tasks = tuple(self._queue)
        self._queue.clear()
        return tasks

    def wait(self, timeout: float | None = None) -> Sequence[Done]:
        """As any runner's. Raises JobFailed where the process that holds the job's rows has ended."""
        end = None if timeout is None else monotonic() + timeout
        try:
            while True:
                self._dispatch()
                done = self._listen(end)
                if done or not self._running or (end is not None and monotonic() >= end):
                    self._dispatch()
                    return done
        except NurseryGone as error:
            message = "the process that holds the job's rows has ended"
            raise JobFailed(Reason.USER_ERROR, message) from error

    def _dispatch(self) -> None:
        """Begin what there is room for, in order. A task that wants more CPUs than there are gets all of them."""
        while self._queue:
            needs = self._queue[0].needs
            cpus = min(float(self._slots), (needs and needs.num_cpus) or 1.0)
            if self.busy + cpus > self._slots:
                return
            task = self._queue.popleft()
            run = Run(task, self.holdings.inputs(task), self._folder / str(next(self._files)))
            worker = self._begin(run)
            now = monotonic()
            deadline = now + needs.timeout if needs is not None and needs.timeout else None
            self._running[worker.number] = _Running(worker, run, now, deadline, cpus)

    def _begin(self, run: Run) -> Child:
        while True:
            worker = self._idle.pop() if self._idle else self._worker()
            try:
                worker.channel.send(run)
            except ConnectionError:  # it ended after its last task
                worker.close()
            else:
                return worker

    def _worker(self) -> Child:
        worker = self._nursery.fork()
        if self._data is not None and self._context is not None:
            worker.channel.send(Load(self._context, self._data))
        return worker

    def _listen(self, end: float | None) -> list[Done]:
        deadlines = [one.deadline for one in self._running.values() if one.deadline is not None]
        until = min([*deadlines, *([] if end is None else [end])], default=None)
        channels = [one.worker.channel for one in self._running.values() if one.listening]
        if not self._running:
            return []
        wait([self._nursery.channel, *channels], None if until is None else max(0.0, until - monotonic()))
        now = monotonic()
        found = [self._look_at(one, now) for one in list(self._running.values())]
        return [done for done in found if done is not None]

    def _look_at(self, one: _Running, now: float) -> Done | None:
        code = self._nursery.ended(one.worker)
        seconds = self._read(one)
        if seconds is not None:
            self._retire(one, alive=code is None)
            return one.done(self._host, seconds)
        if code is not None:
            self._retire(one, alive=False)
            return self._lost(one, code, now)
        if one.deadline is not None and now >= one.deadline and not one.timed_out:
            one.timed_out = True
            self._nursery.kill(one.worker)
        return None

    def _read(self, one: _Running) -> float | None:
        """Take in what a worker has said; gives the task's seconds once it has ended."""
        try:
            while one.listening and one.worker.channel.poll():
                message: Came | Ended = one.worker.channel.recv()
                if isinstance(message, Ended):
                    return message.seconds
                self.holdings.take_in(one.run, len(one.reports), message)
                one.reports.append(message.report)
        except (EOFError, ConnectionError):
            one.listening = False  # how it ended is the nursery's to tell
        return None

    def _retire(self, one: _Running, *, alive: bool) -> None:
        del self._running[one.worker.number]
        if alive and not one.timed_out:
            self._idle.append(one.worker)
        else:
            one.worker.close()

    def _lost(self, one: _Running, code: int, now: float) -> Done:
        if one.timed_out and one.deadline is not None:
            message = f"took longer than {one.deadline - one.begun:g} s, so its process was ended"
            return one.done(self._host, now - one.begun, Loss.TIMED_OUT, message)
        return one.done(self._host, now - one.begun, Loss.DIED, f"its process {self._ends.read(code).words}")

    # --- what is held

    def release(self, keys: Collection[Key]) -> None:
        self.holdings.release(keys)

    def forget(self) -> None:
        self.holdings.forget()

    def save(self, steps: Sequence[Step], cut: Cut, path: Path) -> None:
        try:
            states = [self.holdings.states[step.digest, cut] for step in steps]
        except KeyError as error:
            raise StatesLost(str(error)) from error
        self._ask(Save(steps, states, path))

    def save_output(self, task: Task, index: int, path: Path) -> str:
        try:
            held, media_type = self.holdings.outputs.pop((task.number, index))
        except KeyError as error:
            raise StatesLost(str(error)) from error
        link(held, path)
        held.unlink()
        return media_type

    def export(self, key: Key, path: Path) -> int:
        if key not in self.holdings.parts:
            raise StatesLost(key[0])
        return link(self.holdings.parts[key], path)

    def export_state(self, key: Key, path: Path) -> int:
        """Write a fitted state to a file. Raises StatesLost."""
        if key not in self.holdings.states:
            raise StatesLost(key[0])
        return link(self.holdings.states[key], path)

    def export_data(self, path: Path) -> None:
        """Write the job's rows to a file, for processes that do not descend from the one that loaded them.

        Raises SaveFailed.
        """
        if self._data is None:
            self._ask(DumpData(path))
        else:
            link(self._data, path)

    def adopt(self, key: Key, path: Path) -> None:
        own = self._folder / f"{next(self._files)}.parts"
        link(path, own)
        self.holdings.parts[key] = own

    def choose(self, rows: Sequence[Mapping[str, Any]]) -> int:
        return self._ask(Choose(rows)).value

    def _ask(self, order: Save | DumpData | Choose) -> Answer:
        """Have a worker of its own follow an order. Raises SaveFailed."""
        try:
            worker = self._worker()
            worker.channel.send(order)
            answer: Answer | int = self._nursery.hear(worker)
        except (NurseryGone, ConnectionError) as error:
            raise SaveFailed("the process that holds the job's rows has ended") from error
        self._end_worker(worker)
        if isinstance(answer, int):
            raise SaveFailed(f"the process that wrote it {self._ends.read(answer).words}")
        if answer.problem is not None:
            raise SaveFailed(answer.problem)
        return answer
