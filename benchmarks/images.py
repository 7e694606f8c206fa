"""Sizes of both images and of what is large in them, and how long their builds take (cached layers count)."""

import json
import tempfile
import time
from pathlib import Path

from benchmarks import harness
from benchmarks.harness import Claim

ABOUT = (
    "Megabytes (10^6) of the images without their base, seconds of a build (with what Podman has cached), and the "
    "largest packages. The base is Debian's Python by mmdebstrap where the official image cannot be pulled: 248 MB."
)
LARGEST = 10
SIZES = """
import json, pathlib, site
root = pathlib.Path(site.getsitepackages()[0])
folders = [one for one in root.iterdir() if one.is_dir()]
print(json.dumps({one.name: sum(file.lstat().st_size for file in one.rglob("*")) for one in folders}))
"""


def run(name: str) -> None:
    """Build and weigh."""
    from tests.servers.podman import BASE, Podman

    row, notes = {}, {}
    with tempfile.TemporaryDirectory(prefix="flaregate-bench-") as folder:
        podman = Podman(Path(folder))
        podman.base()
        base = int(podman.run("image", "inspect", "--format={{.Size}}", BASE))
        for kind in ("gateway", "worker"):
            start = time.perf_counter()
            image = getattr(podman, kind)()
            row[f"{kind}_build"] = time.perf_counter() - start
            size = int(podman.run("image", "inspect", "--format={{.Size}}", image))
            row[f"{kind}_megabytes"] = (size - base) / 1e6
            packages = json.loads(podman.run("run", "--rm", "--entrypoint=python", image, "-c", SIZES))
            largest = sorted(packages, key=packages.__getitem__, reverse=True)[:LARGEST]
            notes[f"{kind}: megabytes of the largest packages"] = {one: round(packages[one] / 1e6) for one in largest}
        notes["base: megabytes"] = round(base / 1e6)
    told = [
        Claim("the worker's image without its base, MB", "worker_megabytes", None, "at most", 700),
        Claim("the gateway's image without its base, MB", "gateway_megabytes", None, "at most", 260),
    ]
    harness.keep(name, [row], told, ABOUT, notes=notes)
