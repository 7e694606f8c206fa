"""How far uploads are: a bar for all blobs of a submission together."""

import contextlib
from collections.abc import Iterator, Mapping

from flaregate.bars import bar
from flaregate.payload import Staged
from flaregate.transport.uploads import Sent


@contextlib.contextmanager
def progress(blobs: Mapping[str, Staged]) -> Iterator[Sent]:
    """Gives the function to tell how far each blob is."""
    counts: dict[str, int] = {}
    with bar("staging", sum(item.size for item in blobs.values())) as shown:

        def sent(sha256: str, done: int) -> None:
            counts[sha256] = done
            shown(sum(counts.values()))

        yield sent
