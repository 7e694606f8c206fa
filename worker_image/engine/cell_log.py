"""Lines that a sweep's cell prints, each with the cell's number before it, so that each has a log of its own."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import BinaryIO, TextIO


class _Labelled(io.TextIOBase):
    """Writes whole lines to a stream, with a label before each. What a bar of progress writes over, is a line too.

    Bytes that go to its `buffer` or descriptor by themselves have no label.
    """

    def __init__(self, stream: TextIO, label: str) -> None:
        self._stream = stream
        self._label = label
        self._line = ""

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self._stream.errors

    @property
    def buffer(self) -> BinaryIO:
        return self._stream.buffer

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text.replace("\r\n", "\n").replace("\r", "\n")).split("\n")
        self._stream.writelines(f"{self._label}{line}\n" for line in lines)
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def end(self) -> None:
        """Write a last line that has no end."""
        if self._line:
            self.write("\n")
        self.flush()


@contextmanager
def labelled(candidate: int) -> Iterator[None]:
    """What is printed in here is the cell's. What other languages than Python print goes its own way."""
    label = f"[cell {candidate}] "
    out, err = _Labelled(sys.stdout, label), _Labelled(sys.stderr, label)
    with redirect_stdout(out), redirect_stderr(err):
        try:
            yield
        finally:
            out.end()
            err.end()
