"""What a ProcessRunner holds, as files in a folder of its own: nothing of the user's is ever read in the driver."""

import shutil
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from worker_image.engine.tasks import Key, Task
from worker_image.process_runner.messages import Came, Run


@dataclass(slots=True)
class Holdings:
    """Paths by what they hold."""

    parts: dict[Key, Path] = field(default_factory=dict)
    states: dict[Key, Path] = field(default_factory=dict)
    outputs: dict[tuple[int, int], tuple[Path, str]] = field(default_factory=dict)
    """By number of the task and of its member: the file and its media type."""

    def take_in(self, run: Run, index: int, came: Came) -> None:
        """Hold what a step or member of a task left."""
        task = run.task
        if came.report.error is not None:
            return
        if index == len(task.steps) - 1:
            self.parts[task.key] = run.parts
        if task.keeps_state:
            self.states[task.digests[index], task.cut] = run.state(index)
        if came.media_type is not None:
            self.outputs[task.number, index] = run.output(index), came.media_type

    def inputs(self, task: Task) -> tuple[Path, ...]:
        """The files that a task reads."""
        return tuple(self.parts[key] for key in task.inputs)

    def release(self, keys: Collection[Key]) -> None:
        """Let go of parts."""
        _remove(self.parts.pop(key) for key in keys if key in self.parts)

    def forget(self) -> None:
        """Let go of every state."""
        _remove(self.states.values())
        self.states.clear()


def link(source: Path, target: Path) -> int:
    """Have a file under a second name, without copying where the file system can; gives its bytes."""
    try:
        target.hardlink_to(source)
    except OSError:  # another file system
        shutil.copyfile(source, target)
    return target.stat().st_size


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        with suppress(FileNotFoundError):
            path.unlink()
