"""Clients without a gateway: on the engine in this process, and on child processes."""

from contextlib import closing

import pytest
from sklearn.datasets import load_iris
from threadpoolctl import threadpool_limits

from flaregate.testing import InProcessClient
from worker_image.in_process import in_process, jobs_on
from worker_image.process_runner.nursery import Zygote
from worker_image.process_runner.runner import ProcessRunner


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """scikit-learn as the oracle takes one thread, as tasks do: on few cores more of them wait for each other."""
    with threadpool_limits(1):
        yield


@pytest.fixture
def client():
    with InProcessClient(in_process) as client:
        yield client


@pytest.fixture(scope="session")
def process_runner():
    with closing(Zygote.start()) as zygote, closing(ProcessRunner(zygote, 2)) as runner:
        yield runner


@pytest.fixture
def processes(process_runner):
    """A client whose tasks run in processes of their own."""
    with InProcessClient(jobs_on(lambda: process_runner)) as client:
        yield client


@pytest.fixture(scope="module")
def iris():
    return load_iris(return_X_y=True)
