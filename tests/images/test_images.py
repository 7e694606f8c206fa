"""Both images as users build them: what is in them, what is not, and that they run without privileges."""

import contextlib
import json
import secrets

import httpx
import pytest

from tests.conftest import ROOT, until
from tests.servers.podman import GATEWAY, WORKER, Podman
from tests.servers.processes import free_ports

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]
CONFINED = (
    "--rm",
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--tmpfs=/tmp:rw,exec,mode=1777",
)
MOST = {WORKER: 950, GATEWAY: 520}
"""Megabytes that an image may have, of which the base made here has 248."""


@pytest.fixture(scope="module")
def podman(tmp_path_factory):
    podman = Podman(tmp_path_factory.mktemp("podman"))
    podman.worker()
    podman.gateway()
    return podman


def python(podman, image, program):
    """What a program prints in a container without privileges."""
    return podman.run("run", *CONFINED, "--entrypoint=python", image, "-c", program)


def inspected(podman, image):
    return json.loads(podman.run("image", "inspect", image))[0]


@pytest.mark.parametrize("image", [WORKER, GATEWAY])
def test_an_image_runs_as_nobody_in_particular_and_is_small(podman, image):
    told = inspected(podman, image)
    assert told["Config"]["User"] == "10001"
    assert told["Size"] < MOST[image] * 1e6
    assert python(podman, image, "import os; print(os.getuid(), os.getgid())") == "10001 10001"


@pytest.mark.parametrize("image", [WORKER, GATEWAY])
def test_what_is_installed_is_compiled_and_there_is_no_pip(podman, image):
    program = """
import pathlib, site
root = pathlib.Path(site.getsitepackages()[0])
wanted = [name for name in root.rglob('*.py') if 'lib2to3' not in name.parts]
bare = [str(name) for name in wanted if not (name.parent / '__pycache__' / f'{name.stem}.cpython-311.pyc').exists()]
print(len(wanted), len(bare), *bare[:5])
print([name for name in ('pip', 'setuptools') if (root / name).exists()])
"""
    counts, pip = python(podman, image, program).splitlines()
    wanted, bare, *_ = counts.split()
    assert int(wanted) > 500
    assert int(bare) < 20, counts  # some packages ship templates that are no Python
    assert pip == "[]"


def test_the_workers_label_says_what_is_installed(podman):
    label = json.loads(inspected(podman, WORKER)["Config"]["Labels"]["io.flaregate.environment"])
    assert {"python", "ray", "cloudpickle", "scikit-learn", "numpy", "pyarrow"} <= label.keys()
    program = "import json; from worker_image.environment import installed; print(json.dumps(installed()))"
    assert json.loads(python(podman, WORKER, program)) == label


def test_an_image_whose_label_would_lie_is_not_built(podman):
    with pytest.raises(AssertionError, match=r"numpy: the label says 1.0, installed is"):
        podman.build(
            "Dockerfile.worker", "localhost/flaregate-lie:test", ENVIRONMENT='{"python": "3.11", "numpy": "1.0"}'
        )


@pytest.mark.parametrize(
    ("image", "absent", "present"),
    [
        (WORKER, ["gateway", "fastapi", "boto3", "sqlalchemy", "docker", "ray.dashboard.client"], ["ray", "sklearn", "pyarrow.parquet"]),
        (GATEWAY, ["flaregate", "worker_image", "cloudpickle", "ray", "sklearn", "numpy"], ["fastapi", "boto3", "docker", "pyarrow.parquet"]),
    ],
)  # fmt: skip
def test_an_image_has_what_it_needs_and_nothing_of_the_other(podman, image, absent, present):
    program = f"""
import importlib, importlib.util
def there(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False
print([name for name in {absent} if there(name)])
for name in {present}: importlib.import_module(name)
"""
    assert python(podman, image, program) == "[]"


def test_parquet_and_arrow_files_work_in_both(podman):
    program = """
import io, pyarrow as pa, pyarrow.parquet as pq, pyarrow.csv, pyarrow.compute, pyarrow.dataset, pyarrow.feather, pyarrow.fs
table = pa.table({'a': [1, 2]})
sink = io.BytesIO(); pq.write_table(table, sink, compression='zstd'); sink.seek(0)
print(pq.read_table(sink, use_threads=False).equals(table))  # Arrow aborts a process that ends while its first thread begins
"""
    assert {python(podman, image, program) for image in (WORKER, GATEWAY)} == {"True"}


@pytest.mark.parametrize("image", [WORKER, GATEWAY])
def test_no_layer_tells_of_the_machine_that_built_it(podman, image):
    history = podman.run("history", "--no-trunc", "--format={{.CreatedBy}}", image)
    told = history + json.dumps(inspected(podman, image)["Config"])
    names = [str(ROOT), "token", "password", "PIP_CERT", "ca-certificates.crt"]
    assert [name for name in names if name in told] == []
    program = "import pathlib; print([str(p) for p in pathlib.Path('/').glob('*') if p.name in ('work', 'src', 'packages')], list(map(str, pathlib.Path('/tmp').iterdir())))"
    assert python(podman, image, program) == "[] []"


@contextlib.contextmanager
def container(podman, *arguments):
    name = f"flaregate-test-{secrets.token_hex(4)}"
    podman.run("run", "--detach", f"--name={name}", *CONFINED[1:], *arguments)
    try:
        yield name
    finally:
        podman.run("rm", "--force", "--volumes", "--time=0", name)


def test_the_gateways_image_serves_without_privileges(podman):
    (port,) = free_ports(1)
    home = (
        "--volume=/var/lib/flaregate",
        f"--publish=127.0.0.1:{port}:8080",
        "--env=FLAREGATE_PUBLIC_URL=http://gateway.test",
    )
    with (
        container(podman, *home, GATEWAY) as name,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http,
    ):

        def answers(path):
            with contextlib.suppress(httpx.TransportError):
                return http.get(path, headers={"Host": "gateway.test"}).status_code == 200
            return False

        until(lambda: answers("/healthz"), 30)
        until(lambda: answers("/readyz"), 10)
        written = podman.run("exec", name, "find", "/opt/flaregate", "-newer", "/proc/1", "-name", "*.pyc")
        assert written == ""


def test_another_lock_can_be_chosen_when_the_worker_is_built(podman, tmp_path):
    """EXTRA=transformers takes the other lock: here a small one in its place, since the real one takes gigabytes."""
    text = (ROOT / "Dockerfile.worker").read_text()
    assert 'if [ "$EXTRA" = transformers ]; then lock=worker-transformers.lock; fi' in text
    stage = text.partition("COPY flaregate_wire")[0].replace(
        "COPY requirements/worker.lock requirements/worker-transformers.lock",
        "COPY worker.lock worker-transformers.lock",
    )
    (tmp_path / "Dockerfile").write_text(stage)
    (tmp_path / "worker.lock").write_text("this is no lock that can be installed\n")
    lock = (ROOT / "requirements" / "worker.lock").read_text()
    start = lock.index("cloudpickle==")
    (tmp_path / "worker-transformers.lock").write_text(lock[start:].split("\n    # ")[0].split("\ncolorama")[0] + "\n")
    tag = "localhost/flaregate-extra:test"
    podman.build("Dockerfile", tag, context=tmp_path, EXTRA="transformers")
    try:
        assert "cloudpickle" in podman.run("run", "--rm", tag, "/opt/flaregate/bin/pip", "list")
        with pytest.raises(AssertionError, match="this is no lock"):
            podman.build("Dockerfile", tag, context=tmp_path)
    finally:
        podman.run("rmi", "--force", tag)
