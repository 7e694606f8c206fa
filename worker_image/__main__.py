"""`python -m worker_image`: what a container runs."""

import sys
from pathlib import Path

from worker_image.keeper import keep


def _supervise(scratch: Path) -> int:
    from worker_image.supervisor import main  # noqa: PLC0415 - in the child alone: the keeper stays small

    return main(scratch)


if __name__ == "__main__":
    sys.exit(keep(_supervise))
