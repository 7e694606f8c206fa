"""`python -m gateway`: the service, configured by `FLAREGATE_…`. A spare head starts while the rest is loaded."""

import asyncio
import gc
import os
import sys

from gateway.launchers.base import CannotSee, LaunchRefused
from gateway.platforms import launcher as platform
from gateway.settings import SettingsRefused, load

USAGE = 2


def run() -> int:
    """Run a gateway; gives the exit code."""
    os.umask(0o077)
    gc.disable()  # until it serves: what is imported stays, and looking through it takes a sixth of the start
    try:
        settings = load()
        launcher = platform(settings)
    except (SettingsRefused, LaunchRefused, CannotSee) as refused:
        sys.stderr.write(f"{refused}\n")
        return USAGE
    from gateway.main import main  # noqa: PLC0415 - takes as long as it takes a head to start

    try:
        return main(settings, launcher)
    finally:
        asyncio.run(launcher.close())


if __name__ == "__main__":
    sys.exit(run())
