"""`python -m tests.chaos.replica`: a gateway on a platform that is a folder, which several gateways share.

It runs no containers. It remembers every start in the folder, so that a second one would show.
"""

import asyncio
import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gateway.launchers.base import InstanceSighting, Phase, Sighting
from gateway.main import main
from gateway.settings import Settings
from tests.doubles import InstantLauncher

START_SECONDS = 0.05


@dataclass
class FolderLauncher(InstantLauncher):
    """A run is a file; a launch asks for one, and finds the one that is there."""

    folder: Path = Path()
    clock: object = staticmethod(lambda: datetime.now(UTC))

    def _file(self, attempt, end=""):
        return self.folder / f"{attempt}{end}"

    async def launch(self, order):
        with (self.folder / "launches").open("a") as file:
            file.write(f"{order.attempt}\n")
        await asyncio.sleep(START_SECONDS)
        begun = {"indices": list(order.indices), "started": self.clock().isoformat()}
        try:
            with self._file(order.attempt, ".run").open("x") as file:
                file.write(json.dumps(begun))
            with (self.folder / "starts").open("a") as file:
                file.write(f"{order.attempt}\n")
        except FileExistsError:
            pass
        return self.handle(order.attempt)

    def _sighting(self, attempt):
        try:
            run = json.loads(self._file(attempt, ".run").read_text())
        except (FileNotFoundError, ValueError):
            return Sighting()
        ended = self._file(attempt, ".end")
        at = datetime.fromtimestamp(ended.stat().st_mtime, UTC) if ended.exists() else None
        phase = Phase.RUNNING if at is None else Phase.ENDED
        begun = datetime.fromisoformat(run["started"])
        return Sighting(tuple(InstanceSighting(index, phase, begun, at) for index in run["indices"]))

    async def observe(self, handles):
        return {handle: self._sighting(handle.attempt) for handle in handles}

    async def stop(self, handle, *, force=False):
        self._file(handle.attempt, ".end").touch()

    async def list(self):
        return [self.handle(run.stem) for run in self.folder.glob("*.run") if not run.with_suffix(".end").exists()]

    async def kept(self):
        return []

    async def close(self):
        pass


if __name__ == "__main__":
    sys.exit(main(Settings(), FolderLauncher(folder=Path(sys.argv[1]))))
