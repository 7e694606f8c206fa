"""Which of scikit-learn's own tests run, and the one warm client that all of them share."""

import os
from zlib import crc32

import pytest

from flaregate import Client
from flaregate.sklearn.shared import SHARED
from flaregate.testing import InProcessClient
from tests.foreign.excluded import EXCLUDED
from worker_image.in_process import in_process

THIRD = 3


def pytest_collection_modifyitems(config, items):
    """Every test is of `make soak`; a third of them, chosen by their names, of `make test-all` too."""
    ours = [item for item in items if item.path.parent.name == "foreign"]
    left_out = [item for item in ours if item.originalname in EXCLUDED]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
    for item in ours:
        item.add_marker(pytest.mark.soak)
        item.add_marker(pytest.mark.filterwarnings("default"), append=False)
        if crc32(item.originalname.encode()) % THIRD == 0:
            item.add_marker(pytest.mark.foreign)


@pytest.fixture(scope="session", autouse=True)
def _client(tmp_path_factory):
    """An embedded gateway; with FOREIGN_CLIENT=in-process the engine alone, which is faster to try things with."""
    alone = os.environ.get("FOREIGN_CLIENT") == "in-process"
    home = tmp_path_factory.mktemp("home")
    opened = InProcessClient(in_process) if alone else Client(embedded=True, home=home, warm=60)
    with opened as client, SHARED.lend(client):
        yield


@pytest.fixture
def global_random_seed():
    """Theirs comes from a plugin of their own."""
    return 42
