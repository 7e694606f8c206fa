"""The driver as a child: fed with lines, read line by line, and its end told as what it means for the job."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from flaregate_wire.states import Reason
from worker_image.memory import memory_use, oom_kills
from worker_image.processes import signal_me_when_parent_ends
from worker_image.work import FROM_DRIVER, Finished, Reporting

DRIVER = (sys.executable, "-m", "worker_image.driver")
_LINE_BYTES = 16 * 1024 * 1024


@dataclass(slots=True)
class DriverProcess:
    """A running driver, the leader of a process group of its own."""

    process: asyncio.subprocess.Process
    reports: asyncio.StreamReader
    oom_kills_before: int

    @classmethod
    async def start(cls, environment: Mapping[str, str], command: Sequence[str] = DRIVER) -> "DriverProcess":
        read_end, write_end = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                f"--report-fd={write_end}",
                env=environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                pass_fds=(write_end,),
                process_group=0,
                preexec_fn=signal_me_when_parent_ends,
            )
        finally:
            os.close(write_end)
        reports = asyncio.StreamReader(limit=_LINE_BYTES)
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reports), os.fdopen(read_end, "rb")
        )
        return cls(process, reports, oom_kills())

    @property
    def output(self) -> asyncio.StreamReader:
        """What the driver and its children print."""
        assert self.process.stdout is not None  # noqa: S101 - it was started with a pipe
        return self.process.stdout

    async def tell(self, message: BaseModel) -> None:
        """Send one line. A driver that has ended needs none: its end is told by `outcome`."""
        assert self.process.stdin is not None  # noqa: S101 - it was started with a pipe
        with contextlib.suppress(ConnectionError):
            self.process.stdin.write(message.model_dump_json(by_alias=True).encode() + b"\n")
            await self.process.stdin.drain()

    async def outcome(self, pass_on: Callable[[Reporting], Awaitable[None]]) -> Finished:
        """Pass events on until the driver has finished a job, or has ended without saying so."""
        while line := await self.reports.readline():
            try:
                message = FROM_DRIVER.validate_json(line)
            except ValidationError as exc:
                return Finished(
                    succeeded=False, reason=Reason.USER_ERROR, message=f"the driver's report is broken: {exc}"
                )
            if isinstance(message, Finished):
                return message
            await pass_on(message)
        return self._unfinished(await self.process.wait())

    def _unfinished(self, code: int) -> Finished:
        killed = oom_kills() > self.oom_kills_before
        if code == -signal.SIGKILL and killed:
            told = f"the driver was killed for want of memory by signal 9{memory_use()}"
            return Finished(succeeded=False, reason=Reason.OOM_KILLED, message=told)
        how = f"was killed by signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exited with code {code}"
        return Finished(succeeded=False, reason=Reason.USER_ERROR, message=f"the driver {how} before it had finished")

    async def end(self, grace: float) -> None:
        """SIGTERM to its process group, SIGKILL if it is there after `grace` seconds; without grace at once."""
        if grace:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await self.process.wait()
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
