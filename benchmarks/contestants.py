"""Who does the work: each in a process of its own that stays, so that all are warm and none pays for another."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from multiprocessing import get_context
from typing import Any, Self

import flaregate as fg
from benchmarks.engine_alone import run_engine
from benchmarks.harness import CpuMeter, timed
from benchmarks.work import Answer, Submitted, Workload, new_client
from benchmarks.workloads import workload

WAIT_SECONDS = 1800


@dataclass(frozen=True, slots=True)
class Ran:
    """What a contestant took, and what it found."""

    seconds: float
    cpu: float
    """Seconds, of its process and all below."""
    answer: Answer
    facts: dict[str, float] = field(default_factory=dict)


class Contestant(ABC):
    """One way to do the work. Lives in its own process; `close` ends what it has opened."""

    def __init__(self) -> None:
        self.opened = ExitStack()

    def run(self, name: str, **options: Any) -> Ran:
        """Do a workload once, timed."""
        work = workload(name)
        with CpuMeter() as meter:
            seconds, (answer, job) = timed(self.work, work, **options)
        return Ran(seconds, meter.seconds, answer, {} if job is None else self.facts(job))

    @abstractmethod
    def work(self, work: Workload, **options: Any) -> tuple[Answer, Any]:
        """What is timed: the numbers, and the job if there was one."""

    def facts(self, job: Any) -> dict[str, float]:
        """What the gateway and the engine say of a finished job."""
        view = job.view()
        times, stats = view.timeline, view.result.stats
        engine = (times["last_task"] - times["first_task"]).total_seconds()
        fits = {f"fits of {node}": float(count) for node, count in stats.fits.items()}
        return {"engine": engine, "tasks": stats.tasks, "fits": sum(stats.fits.values()), **fits}

    def close(self) -> None:
        self.opened.close()


class ScikitLearn(Contestant):
    """GridSearchCV(n_jobs=2), or joblib with two processes where there is nothing to search."""

    def work(self, work: Workload, **options: Any) -> tuple[Answer, Any]:
        return work.peer(), None

    def close(self) -> None:
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(kill_workers=True)  # they would wait five minutes for more to do
        super().close()


class DaskML(Contestant):
    """dask-ml's GridSearchCV with its own scheduler, two threads."""

    def work(self, work: Any, **options: Any) -> tuple[Answer, Any]:
        from dask_ml.model_selection import GridSearchCV

        return work.grid_search(GridSearchCV, iid=False), None  # means as scikit-learn's, folds not weighted


class InProcess(Contestant):
    """The plan by hand, in process, one thread."""

    put = staticmethod(lambda data: data)
    get = staticmethod(lambda handle: handle)

    def call(self, function: Callable[..., Any], *given: Any) -> Any:
        return function(*given)

    def work(self, work: Workload, **options: Any) -> tuple[Answer, Any]:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):
            return work.plan(self), None


class OnRay(Contestant):
    """A bare Ray without dashboard, warm: joblib's backend, the plan by hand, and flaregate's engine alone."""

    @cached_property
    def ray(self) -> Any:
        import ray
        from ray.util.joblib import register_ray

        ray.init(include_dashboard=False, num_cpus=2, log_to_driver=False, configure_logging=False)
        self.opened.callback(ray.shutdown)
        register_ray()
        self._remote = lru_cache(ray.remote)
        return ray

    def run(self, name: str, **options: Any) -> Ran:
        self.put, self.get = self.ray.put, self.ray.get
        return super().run(name, **options)

    def work(self, work: Any, how: str = "plan", **options: Any) -> tuple[Answer, Any]:
        if how == "plan":
            return work.plan(self), None
        if how == "engine":
            return engine_alone(work), None
        import joblib

        with joblib.parallel_config("ray"):
            return work.peer(), None

    def call(self, function: Callable[..., Any], *given: Any) -> Any:
        return self._remote(function).remote(*given)


def engine_alone(work: Submitted) -> Answer:
    """The engine of flaregate on the Ray of this process: a job without gateway, containers and cache."""
    import ray

    from worker_image.ray_runner import Connection, RayRunner

    pipe, given = work.job()
    runner = RayRunner(Connection(ray.get_runtime_context().get_node_id()))
    return work.numbers(run_engine(pipe, given, runner).outcomes)


class Flaregate(Contestant):
    """An open client of an embedded gateway. Each run is in a project of its own, so nothing is in its cache."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = 0

    @cached_property
    def client(self) -> fg.Client:
        return self.opened.enter_context(new_client())

    def work(self, work: Workload, **options: Any) -> tuple[Answer, Any]:
        self.runs += 1
        job, answer = work.flaregate(self.client, project=f"run-{self.runs}", **options)
        return answer, job


class Cold(Contestant):
    """The first job of a new client in a new home: gateway, cluster and imports start for it."""

    def work(self, work: Workload, **options: Any) -> tuple[Answer, Any]:
        self.opening, client = timed(self.opened.enter_context, new_client())
        job, answer = work.flaregate(client, **options)
        return answer, job

    def facts(self, job: Any) -> dict[str, float]:
        return super().facts(job) | {"opening": self.opening}


CONTESTANTS: dict[str, type[Contestant]] = {
    "scikit-learn": ScikitLearn,
    "dask-ml": DaskML,
    "in process": InProcess,
    "ray": OnRay,
    "flaregate": Flaregate,
    "cold": Cold,
}


@lru_cache
def _contestant(name: str) -> Contestant:
    return CONTESTANTS[name]()


def _run(contestant: str, name: str, options: dict[str, Any]) -> Ran:
    return _contestant(contestant).run(name, **options)


def _close(contestant: str) -> None:
    _contestant(contestant).close()
    _contestant.cache_clear()


class Field:
    """All contestants that have been asked to run."""

    def __init__(self) -> None:
        self._processes: dict[str, ProcessPoolExecutor] = {}

    def run(self, contestant: str, name: str, **options: Any) -> Ran:
        """Have one of them do a workload, and wait."""
        if contestant not in self._processes:
            self._processes[contestant] = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        return self._processes[contestant].submit(_run, contestant, name, options).result(WAIT_SECONDS)

    def close(self, contestant: str) -> None:
        """End what it has opened, and its process."""
        process = self._processes.pop(contestant)
        process.submit(_close, contestant).result(WAIT_SECONDS)
        process.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for contestant in list(self._processes):
            self.close(contestant)
