"""The databases of tests: SQLite in a file, and PostgreSQL where a module asks for it."""

import pytest

from tests.servers.postgres import running


@pytest.fixture(scope="session")
def postgres():
    with running() as server:
        yield server


@pytest.fixture
def database_url(request, tmp_path):
    """A new database: SQLite; PostgreSQL too in a module that says `DATABASES = BOTH`."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return f"sqlite:///{tmp_path / 'gateway.db'}"
    return request.getfixturevalue("postgres").database()


BOTH = ("sqlite", pytest.param("postgresql", marks=pytest.mark.services))


def pytest_generate_tests(metafunc):
    """What uses a database, by itself or by `deploy`, runs on each of its module's."""
    if "database_url" in metafunc.fixturenames:
        metafunc.parametrize("database_url", getattr(metafunc.module, "DATABASES", BOTH[:1]), indirect=True)
