"""The driver's way to Ray: joined once, when a job first wants it, in a thread beside whatever the driver does."""

from concurrent.futures import Future
from threading import Lock, Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker_image.ray_runner import Connection


class Joining:
    """Ray is imported here and not before: a job that is done without it does not pay for it."""

    def __init__(self) -> None:
        self._address: Future[str] = Future()
        self._connection: Future[Connection] = Future()
        self._beginning = Lock()
        self._begun = False

    def ready(self, address: str) -> None:
        """Ray can be joined at `host:port`."""
        self._address.set_result(address)

    def want(self) -> None:
        """Join as soon as that is possible: nothing else is to be done just now."""
        self._address.add_done_callback(lambda _: self._begin())

    def connection(self) -> "Connection | None":
        """The connection once there is one. Does not wait. Raises JobFailed where Ray refuses."""
        if self._address.done():
            self._begin()
        return self._connection.result() if self._connection.done() else None

    def wait(self) -> "Connection":
        """The connection, however long that takes. Raises JobFailed."""
        self._address.result()
        self.connection()
        return self._connection.result()

    def _begin(self) -> None:
        with self._beginning:
            if self._begun:
                return
            self._begun = True
        Thread(target=self._join, name="join", daemon=True).start()

    def _join(self) -> None:
        try:
            from worker_image.ray_runner import connect  # noqa: PLC0415 - see above

            self._connection.set_result(connect(self._address.result()))
        except Exception as error:  # noqa: BLE001 - it is told to whoever asks for the connection
            self._connection.set_exception(error)
