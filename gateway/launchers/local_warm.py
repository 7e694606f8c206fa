"""The local launcher's warm heads: processes that have ended their job and wait for another one, for some seconds.

A head says that it waits by a file in the folder of the run for which it was started. Whoever removes the file first
decides what becomes of it: the launcher, which then writes the next job to its standard input, or the head, which ends.
It ends too when its standard input is closed, so none outlives the gateway that started it.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from gateway.launchers.base import LaunchOrder
from gateway.launchers.local_runs import Instance, Run

Kind = tuple[str, float, int, int, str]
"""Who may have a warm head, of which size, with which code in it: tenant, vCPU, memory, GPUs, sums of the code."""


@dataclass(frozen=True, slots=True)
class _Line:
    """The way to one head."""

    kind: Kind | None
    """None: nobody has had it yet, anybody may."""
    descriptor: int


class WarmHeads:
    """The heads of this gateway that may take another job, by their origin: the attempt for which each was started."""

    def __init__(self, run: Callable[[str], Run]) -> None:
        """`run` gives the folder of an attempt."""
        self._run = run
        self._lines: dict[str, _Line] = {}

    def add(self, origin: str, descriptor: int, order: LaunchOrder | None) -> None:
        """A head was started, for this order or for the first that comes, and reads what is written there."""
        self._lines[origin] = _Line(None if order is None else _kind(order), descriptor)

    def remove(self, origin: str) -> None:
        """A head has ended, or shall not be given another job."""
        line = self._lines.pop(origin, None)
        if line is not None:
            os.close(line.descriptor)

    def waiting(self) -> Sequence[str]:
        """Those that wait, the longest first."""
        since = {origin: _since(self._run(origin)) for origin in self._lines}
        return sorted((one for one in since if since[one] is not None), key=lambda one: since[one] or 0.0)

    def ended(self) -> Sequence[str]:
        """Those that have ended while they were nobody's."""
        return [origin for origin in self._lines if self.owner(origin) == "" and not self._alive(origin)]

    def untaken(self) -> Sequence[str]:
        """Those that have had no job yet, whether they wait already or are about to."""
        return [origin for origin, line in self._lines.items() if line.kind is None]

    def owner(self, origin: str) -> str:
        """Whose the processes are that were started for an attempt; empty while they are nobody's."""
        head = self.head(origin)
        return origin if head is None or head.owner is None else head.owner

    def reuse(self, order: LaunchOrder, run: Run, now: float) -> bool:
        """Give an order to a head that waits for one. What is written down first is found by the next gateway."""
        for origin in self._fitting(order):
            head = self.unpark(origin) if self._alive(origin) else None
            if head is None:
                continue
            former = self._run(origin)
            former.record(replace(head, owner=order.attempt))
            run.record(Instance(index=0, pid=head.pid, created=head.created, origin=origin, since=now))
            try:
                self._send(origin, order)
            except OSError:
                run.forget(0)
                former.record(replace(head, owner=""))
            else:
                self._lines[origin] = replace(self._lines[origin], kind=_kind(order))
                return True
        return False

    def unpark(self, origin: str) -> Instance | None:
        """Take a head out of its parking place; None if it waits for nothing, or no longer."""
        self.note(self.owner(origin) or origin)
        try:
            self._run(origin).parked.unlink()
        except FileNotFoundError:
            return None
        return self.head(origin)

    def note(self, attempt: str) -> Instance | None:
        """Write down that an attempt's head has ended its job, if it has, and waits for another one."""
        head = self.head(attempt)
        if head is None or head.ended is not None or head.process() is None:
            return None
        origin = head.origin or attempt
        since = _since(self._run(origin))
        if since is None:
            return None
        ended = replace(head, ended=since, exit_code=0)
        self._run(attempt).record(ended)
        started = ended if origin == attempt else self.head(origin)
        if started is not None:
            self._run(origin).record(replace(started, owner=""))
        return ended

    def _fitting(self, order: LaunchOrder) -> Iterator[str]:
        if not may_stay(order):  # its workers would not be let into the Ray of a head that was started before
            return iter(())
        kinds = (_kind(order), None)
        return (origin for origin, line in tuple(self._lines.items()) if line.kind in kinds)

    def _send(self, origin: str, order: LaunchOrder) -> None:
        job = {"url": order.gateway_url, "attempt": order.attempt, "index": 0, "bootstrap": order.bootstrap}
        os.write(self._lines[origin].descriptor, json.dumps(job).encode() + b"\n")

    def head(self, attempt: str) -> Instance | None:
        """What is written down of an attempt's head."""
        return self._run(attempt).instances().get(0)

    def _alive(self, origin: str) -> bool:
        head = self.head(origin)
        return head is not None and head.process() is not None


def _since(run: Run) -> float | None:
    """When the head that was started here began to wait, if it waits."""
    try:
        return run.parked.stat().st_mtime
    except FileNotFoundError:
        return None


def may_stay(order: LaunchOrder) -> bool:
    """Whether the order's head could do another job: a head with workers ends with them."""
    return order.cluster.topology == "single"


def _kind(order: LaunchOrder) -> Kind:
    cluster = order.cluster
    return order.tenant, cluster.cpus, cluster.memory, cluster.gpus, order.code
