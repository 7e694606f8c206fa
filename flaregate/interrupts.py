"""What Ctrl-C in a waiting call means: a question on a terminal, cancel without one."""

import sys
from typing import Literal


def decide(job_id: str, *, may_detach: bool) -> Literal["detach", "cancel"]:
    """Ask whether the job is to go on without us. A second Ctrl-C here raises KeyboardInterrupt."""
    if not (may_detach and sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()):
        return "cancel"
    while True:
        sys.stderr.write(f"\n{job_id} is still going: [d]etach and let it run, or [c]ancel it? ")
        sys.stderr.flush()
        answer = sys.stdin.readline().strip().lower()
        if answer in ("d", "detach"):
            return "detach"
        if answer in ("c", "cancel", ""):
            return "cancel"
