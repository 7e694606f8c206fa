"""`python -m infra.code_engine.simulator`: a Code Engine project of this machine, to try things at no cost."""

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path

import uvicorn

from infra.code_engine.simulator.app import create
from infra.code_engine.simulator.asking import Simulator
from infra.code_engine.simulator.instances import Containers, Processes, Starts
from infra.code_engine.simulator.limits import Quota
from infra.code_engine.simulator.project import Pace, Project


def main() -> int:
    """Serve until interrupted; every instance ends with it."""
    parser = argparse.ArgumentParser(prog="infra.code_engine.simulator", description=__doc__)
    parser.add_argument("--port", type=int, default=8070)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--project", default="00000000-0000-0000-0000-000000000000", help="id of the project")
    parser.add_argument("--key", default="simulated", help="the API key that IAM takes")
    parser.add_argument("--image", help="run containers of this image by podman; without it, processes of this machine")
    parser.add_argument("--network", default="podman", help="of the containers")
    parser.add_argument("--pull", type=float, default=0.0, help="seconds that pulling the image takes")
    parser.add_argument("--schedule", type=float, default=0.0, help="seconds until an instance is placed")
    parser.add_argument("--visible", type=float, default=0.0, help="seconds until a list shows what was done")
    parser.add_argument("--logs", type=Path, help="a folder for what instances print; without it, one that is removed")
    parser.add_argument("--job", default="flaregate-worker", help="a job that exists from the start")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn raises it again when it has ended
    with tempfile.TemporaryDirectory(prefix="code-engine-") as temporary:
        folder = asked.logs or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        starts: Starts = (
            Containers(asked.image, asked.network, folder, dict(os.environ))
            if asked.image
            else Processes(folder.resolve(), inherited=_inherited())
        )
        variables = {
            "CE_PROJECT_ID": asked.project,
            "CE_REGION": "us-south",
            "CE_SUBDOMAIN": "simulated",
            "CE_DOMAIN": "us-south.codeengine.example",
            "CE_API_BASE_URL": f"http://{asked.host}:{asked.port}",
        }
        project = Project(starts, Quota(), Pace(asked.pull, asked.schedule, asked.visible), variables)
        simulator = Simulator(project, asked.project, asked.key)
        simulator.templates[asked.job] = {"name": asked.job, "image_reference": asked.image or "local"}
        sys.stdout.write(
            f"Code Engine simulator on http://{asked.host}:{asked.port}, project {asked.project}; "
            f"what instances print is in {folder}\n"
        )
        sys.stdout.flush()
        try:
            uvicorn.run(create(simulator), host=asked.host, port=asked.port, log_level="warning")
        finally:
            project.close()
    return 0


def _inherited() -> dict[str, str]:
    names = ("PATH", "HOME", "LANG", "PYTHONPATH", "VIRTUAL_ENV", "SSL_CERT_FILE", "TMPDIR")
    return {name: os.environ[name] for name in names if name in os.environ}


if __name__ == "__main__":
    sys.exit(main())
