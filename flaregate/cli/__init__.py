"""The command line: `flaregate …`."""

from flaregate.cli.app import main

__all__ = ["main"]
