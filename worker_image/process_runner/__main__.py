"""`python -m worker_image.process_runner FD PARENT`: a zygote of its own program."""

import os
import sys
from multiprocessing.connection import Connection

from worker_image.processes import signal_me_when_parent_ends

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

if __name__ == "__main__":
    descriptor, parent = map(int, sys.argv[1:])
    signal_me_when_parent_ends()
    if os.getppid() == parent:
        for name in _THREADS:
            os.putenv(name, "1")  # read when numpy is loaded; a process with threads is not forked safely
        from worker_image.process_runner.zygote import be_zygote

        be_zygote(Connection(descriptor))
