"""The schema's history. Alembic is imported only where the schema is behind, because it costs a start 0.2 s."""

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection, inspect, text

HEAD = "0003"
"""The newest revision; a test compares it with the files in `versions/`."""


class SchemaNewer(Exception):
    """The database was upgraded by a newer gateway."""


def upgrade(connection: Connection, alone: Callable[[], None] = lambda: None) -> None:
    """Bring the schema to HEAD, in one transaction of the caller's.

    `alone` waits until no other gateway does so; what the other has done is not done again. Raises SchemaNewer.
    """
    if _revision(connection) == HEAD:
        return
    alone()
    found = _revision(connection)
    if found == HEAD:
        return
    if found is not None and found > HEAD:
        raise SchemaNewer(f"the database has schema {found}, which is newer than {HEAD}: run a newer gateway on it")
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
