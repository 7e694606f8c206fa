"""A progress bar for large uploads, on a terminal only."""

import contextlib
import sys
from collections.abc import Iterator, Mapping

from flaregate.payload import Staged
from flaregate.transport.uploads import Sent

LARGE = 8 * 1024 * 1024


def _nobody(_sha256: str, _done: int) -> None:
    """Show nothing."""


@contextlib.contextmanager
def progress(blobs: Mapping[str, Staged]) -> Iterator[Sent]:
    """Gives the function to tell how far each blob is."""
    total = sum(item.size for item in blobs.values())
    if total < LARGE or not sys.stderr.isatty():
        yield _nobody
        return
    from rich.console import Console  # noqa: PLC0415 - only where something is shown
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn  # noqa: PLC0415

    columns = (TextColumn("staging"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("staging", total=total)
        counts: dict[str, int] = {}

        def sent(sha256: str, done: int) -> None:
            counts[sha256] = done
            bar.update(task, completed=sum(counts.values()))

        yield sent
