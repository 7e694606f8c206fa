"""Jobs on a runner, without gateway and supervisor; and a real Ray on loopback that is ended by process id."""
# ruff: noqa: E402 - Ray reads its environment when it is imported

import os
import secrets
import signal
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

TOKEN = os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

from flaregate.fitted import FittedPipeline
from flaregate.fitted_file import read
from flaregate.submission import JobOptions, prepare
from flaregate_wire.jobs import Cluster
from worker_image.job import run_job
from worker_image.ray_cluster import ray_environment, start_command
from worker_image.work import Finished, Work

CLUSTER = Cluster(topology="single", workers=0, min_workers=0, cpus=2, memory=800_000_000, why="a test")


@dataclass
class Run:
    finished: Finished
    events: list = field(default_factory=list)
    files: list = field(default_factory=list)

    @property
    def result(self):
        return self.finished.result

    @property
    def outcomes(self):
        """In candidate order; each candidate has one."""
        found = sorted((e for e in self.events if e.type == "outcome"), key=lambda e: e.candidate)
        assert [e.candidate for e in found] == list(range(len(found)))
        return found

    def scores(self, name="score"):
        return [[float(as_number(x)) for x in outcome.scores[name]] for outcome in self.outcomes]

    def pipeline(self, name="best"):
        (path,) = [artifact.path for artifact in (*self.files, *self.finished.artifacts) if artifact.name == name]
        return FittedPipeline(read(path, trust=True))


def as_number(value):
    return value["$float"] if isinstance(value, dict) else value


def work_of(definition, blobs, folder, cluster=CLUSTER):
    folder.mkdir(exist_ok=True)
    paths = {}
    for sha, item in blobs.items():
        path = folder / sha.removeprefix("sha256:")
        path.write_bytes(item.read())
        paths[sha] = str(path)
    return Work(definition=definition, cluster=cluster, attempt=1, blobs=paths, scratch=str(folder))


def submitted(pipe, folder, **options):
    submission = prepare(pipe, JobOptions(**options))
    return work_of(submission.definition, submission.blobs, folder)


def run(runner, pipe, folder, **options):
    return run_work(runner, submitted(pipe, folder, **options))


def run_work(runner, work, **options):
    events, files = [], []

    def report(event, left=()):
        events.append(event)
        files.extend(left)

    return Run(run_job(work, runner, report, **options), events, files)


class RayNodes:
    """Nodes of one Ray, each a process of ours that leads a group; workers of Ray lead groups of their own."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.net = secrets.randbelow(200) + 20
        self.environment = ray_environment(os.environ, TOKEN, folder)
        self.address = None
        self.started = []

    def start(self, cpus):
        ip = f"127.77.{self.net}.{len(self.started) + 2}"
        cluster = CLUSTER.model_copy(update={"cpus": cpus})
        log = self.folder / f"node{len(self.started)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                start_command(ip, self.folder / f"r{len(self.started)}", cluster, self.address),
                env=self.environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started.append(process)
        end = time.monotonic() + 60
        while b"Ray runtime started" not in (text := log.read_bytes()):
            assert process.poll() is None, text.decode()
            assert time.monotonic() < end, text.decode()
            time.sleep(0.1)
        if self.address is None:
            self.address = text.partition(b"ray start --address='")[2].partition(b"'")[0].decode()
        return process

    def end(self):
        for process in reversed(self.started):
            end_tree(process)


def end_tree(process):
    """SIGKILL a process and everything below it."""
    if process.poll() is None:
        below = psutil.Process(process.pid).children(recursive=True)
        for one in [psutil.Process(process.pid), *below]:
            try:
                one.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
    process.wait()


@contextmanager
def ray_nodes(*cpus):
    """Nodes with so many CPUs, the head first. Their folder has a short name: Ray's sockets lie in it."""
    with TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        nodes = RayNodes(Path(folder))
        try:
            for count in cpus:
                nodes.start(count)
            yield nodes
        finally:
            nodes.end()
