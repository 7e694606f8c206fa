"""How many leaves travel together: enough that overhead is small, few enough that every core has work."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from flaregate_wire.planning.families import Member

BATCH_SECONDS = 0.1
"""What a batch should take."""
SHORTEST_SECONDS = 0.02
"""Towards the end batches shrink to this, and not below."""
TASKS_A_SLOT = 4
LARGEST_BATCH = 1000


def batch_size(pace: float | None, left: int, slots: int) -> int:
    """Leaves for the next batch: `pace` seconds each as far as measured, `left` of them to come on `slots` cores."""
    if pace is None:
        return 1
    pace = max(pace, 1e-6)
    fair = max(left // (TASKS_A_SLOT * slots), int(SHORTEST_SECONDS / pace))
    return max(1, min(int(BATCH_SECONDS / pace), fair, LARGEST_BATCH))


@dataclass(slots=True)
class Batches:
    """The leaves of one family, cut as they are asked for; every fold gets the same batches in the same order."""

    source: Iterator[Member]
    folds: int
    _cut: dict[int, tuple[Member, ...]] = field(default_factory=dict)
    _taken: dict[int, int] = field(default_factory=dict)

    def take(self, number: int, size: int) -> tuple[Member, ...]:
        """Batch `number` for one more fold; it is cut to `size` when the first fold asks. Empty after the last."""
        if number not in self._cut:
            self._cut[number] = tuple(islice(self.source, size))
            self._taken[number] = 0
        batch = self._cut[number]
        self._taken[number] += 1
        if self._taken[number] == self.folds:
            del self._cut[number], self._taken[number]
        return batch
