"""What a page, a long-poll and a reconciler's tick cost with 100,000 jobs in the table, against 100."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import harness
from benchmarks.harness import Claim, Row

FEW, MANY, ACTIVE = 100, 100_000, 100
LABELLED = 20
REPEATS = 20
KINDS = ("SQLite", "PostgreSQL")
OPERATIONS = ("page", "page by state", "page by label", "page by time", "long-poll", "tick")
ABOUT = (
    "Milliseconds, medians of 20, on tables of 100 and of 100,000 jobs, of which 100 run in both. Page: the newest 100 "
    "jobs as views; of those that run; the 20 with a label, spread over the table; the newest 50 by time. "
    "Long-poll: from the commit of a change to the answer of who waits for it. Tick: one look at the platform, and "
    "what 100 running jobs need; the platform is a double."
)


def run(name: str, pairs: int = harness.PAIRS, many: int = MANY) -> None:
    """Measure both sizes in turn, on both databases."""
    from tests.servers import postgres

    with ExitStack() as stack:
        server = stack.enter_context(postgres.running(durable=True))
        urls: Mapping[str, Callable[[], str | None]] = {"SQLite": lambda: None, "PostgreSQL": server.database}
        tables = {
            (kind, size): stack.enter_context(filled(make(), size))
            for kind, make in urls.items()
            for size in (FEW, many)
        }
        rows = [asyncio.run(_round(tables)) for _ in range(pairs + 1)][1:]
    told = [
        Claim(f"{title}, {many:,} jobs over {FEW}", f"{title}, {many}", f"{title}, {FEW}", "at most", 2, 1.2)
        for title in (f"{kind}, {what}" for kind in KINDS for what in OPERATIONS)
    ]
    harness.keep(name, rows, told, ABOUT, notes={"jobs": many, "active": ACTIVE})


async def _round(tables: Mapping[tuple[str, int], tuple[Path, str | None]]) -> Row:
    row: Row = {}
    for (kind, size), (home, url) in tables.items():
        table = Table(home, url)
        try:
            for what, times in (await table.measured()).items():
                row[f"{kind}, {what}, {size}"] = statistics.median(times) * 1000
        finally:
            table.close()
    return row


class Table:
    """A gateway on one of the tables, its reconciler at rest."""

    def __init__(self, home: Path, url: str | None) -> None:
        from gateway.home import Home
        from gateway.main import assemble
        from gateway.settings import Settings

        settings = Settings.model_validate({"home": home, "database_url": url})
        self.gateway = assemble(settings, Home(home), "http://127.0.0.1:1", Platform())

    async def measured(self, repeats: int = REPEATS) -> dict[str, list[float]]:
        """Seconds of each operation."""
        from flaregate_wire.states import State

        gateway, now = self.gateway, datetime.now(UTC)
        await gateway.repository.holding.keep(now)
        assert len(gateway.repository.holding) == ACTIVE
        pages = {
            "page": {},
            "page by state": {"state": State.RUNNING},
            "page by label": {"label": "rare=True"},
            "page by time": {"created_after": START - timedelta(seconds=0.5)},
        }
        works = {what: self._page(wanted) for what, wanted in pages.items()}
        works |= {"long-poll": self._long_poll, "tick": self._tick}
        return {what: [await work() for _ in range(repeats)] for what, work in works.items()}

    def _page(self, wanted: dict[str, Any]) -> Callable[[], Awaitable[float]]:
        given = {"state": None, "label": None, "created_after": None, "limit": 100, "cursor": None} | wanted

        async def page() -> float:
            start = time.perf_counter()
            found = await self.gateway.service.page("default", **given)
            seconds = time.perf_counter() - start
            assert found.jobs, wanted
            return seconds

        return page

    async def _long_poll(self) -> float:
        from gateway.jobs import moves

        job = next(iter(self.gateway.repository.holding))
        service = self.gateway.service
        waiting = asyncio.create_task(service.wait("default", job, None, "change", 20))
        await asyncio.sleep(0.05)
        told: list[float] = []
        self.gateway.repository.listen(lambda _: told.append(time.perf_counter()))
        name = f"n{time.monotonic_ns()}"
        await service.change(job, lambda record, _: moves.condition(replace(record, conditions=()), name, START, "x"))
        await waiting
        return time.perf_counter() - told[0]

    async def _tick(self) -> float:
        start = time.perf_counter()
        await self.gateway.reconciler.tick()
        return time.perf_counter() - start

    def close(self) -> None:
        self.gateway.repository.close()


class Platform:
    """Everything that was launched runs, and goes on running."""

    def __init__(self) -> None:
        from gateway.launchers.base import Capabilities

        self.capabilities = Capabilities("double", peer_tcp=True, max_cpus=10**6, max_memory=10**15, gpus=0, lease=60)

    def environment(self) -> dict[str, str]:
        return {}

    def handle(self, attempt: str) -> Any:
        from gateway.launchers.base import Handle

        return Handle(attempt, attempt)

    async def observe(self, handles: Any) -> Any:
        from gateway.launchers.base import InstanceSighting, Phase, Sighting

        return {handle: Sighting((InstanceSighting(0, Phase.RUNNING, START),)) for handle in handles}


START = datetime.now(UTC)


@contextmanager
def filled(url: str | None, size: int) -> Iterator[tuple[Path, str | None]]:
    """A home whose table has so many jobs, the newest of which run."""
    from sqlalchemy import insert, text

    from gateway.jobs import dialects
    from gateway.jobs import tables as t
    from gateway.jobs.repository import SqlRepository

    with TemporaryDirectory(prefix="flaregate-bench-") as folder:
        home = Path(folder)
        place = url or f"sqlite:///{home / 'gateway.db'}"
        SqlRepository(place).close()
        engines = dialects.connect(place)
        made = list(_records(size))
        with engines.writing.begin() as connection:
            for table, rows in zip((t.jobs, t.labels, t.attempts), zip(*made, strict=True), strict=True):
                for begin in range(0, size, 2_000):
                    connection.execute(insert(table), list(rows[begin : begin + 2_000]))
            if engines.kind == "postgresql":  # as it does by itself within a minute
                connection.execute(text("ANALYZE"))
        engines.dispose()
        yield home, url


def _records(size: int) -> Iterator[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """Rows of a job, of its label and of its attempt."""
    from flaregate_wire.model import rfc3339
    from flaregate_wire.states import State
    from gateway.jobs.admission import admit, parse
    from gateway.jobs.ids import new_id
    from gateway.jobs.records import ATTEMPT, JOB, AttemptRecord, Instance

    body = Path("examples/digits.json").read_bytes()
    definition = parse(body)
    first = admit(definition, Platform().capabilities, "default", START)
    for number in range(size):
        created = START - timedelta(seconds=(size - number) / 100)
        running = number >= size - ACTIVE
        state = State.RUNNING if running else State.FAILED if number % 7 == 0 else State.SUCCEEDED
        job = new_id(created)
        times: dict[str, Any] = {"created": created, "since": created, "started": created}
        times["ended"] = None if running else created
        rare = str(number % (size // LABELLED) == 0)
        times |= {"timeout": 10**6, "attempts": 1, "last_event": 9}
        record = replace(first, id=job, state=state, labels={"rare": rare}, **times)
        attempt = AttemptRecord(
            f"{job}-1", "default", job, 1, created, launched=created, renewed=START + timedelta(days=1), boots={0: "b"},
            instances={0: Instance(START)}, gone=None if running else created,
        )  # fmt: skip
        row = {"id": job, "tenant": "default", "state": state.value, "active": running, "created": rfc3339(created)}
        row |= {"record": JOB.dump_json(record).decode(), "definition": body, "version": 9}
        label = {"tenant": "default", "job": job, "name": "rare", "value": rare}
        numbered = {"id": attempt.id, "tenant": "default", "job": job, "number": 1}
        yield row, label, numbered | {"record": ATTEMPT.dump_json(attempt).decode()}
