"""`flaregate up`: the gateway in the foreground, as a child process; the SDK imports nothing of it."""

import signal
import subprocess
import sys
from importlib.util import find_spec

from flaregate.errors import GatewayUnavailable
from flaregate.settings import child_environment


def up(port: int) -> int:
    """Serve on 127.0.0.1 until interrupted; gives the gateway's exit code."""
    if find_spec("gateway") is None or find_spec("fastapi") is None:
        raise GatewayUnavailable("the gateway is not installed: pip install 'flaregate[local]'", retryable=False)
    environment = child_environment(FLAREGATE_PORT=str(port), FLAREGATE_EMBEDDED="false")
    with subprocess.Popen([sys.executable, "-m", "gateway"], env=environment) as child:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda sent, _: child.send_signal(sent))
        return child.wait()
