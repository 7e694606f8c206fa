"""Programs that a test starts: on free ports, ended by their process ids however the test ends."""

import contextlib
import socket
import subprocess
import time

WAIT = 30


def free_ports(count):
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def running(*commands, ports, log):
    """Start programs and wait until each port, of loopback or with its host, is listened on."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(log.open("ab"))
        started = []
        for command in commands:
            process = subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL)
            started.append(process)
            stack.callback(end, process)
        for port in ports:
            _answers(port, started, log)
        yield


def end(process):
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _answers(port, started, log):
    place = port if isinstance(port, tuple) else ("127.0.0.1", port)
    until = time.monotonic() + WAIT
    while True:
        gone = [process.args for process in started if process.poll() is not None]
        assert not gone, f"{gone} ended: {log.read_text()[-2000:]}"
        with contextlib.suppress(OSError), socket.create_connection(place, 1):
            return
        assert time.monotonic() < until, f"nobody listens on {port}: {log.read_text()[-2000:]}"
        time.sleep(0.02)
