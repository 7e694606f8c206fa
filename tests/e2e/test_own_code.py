"""The user's own modules and packages travel with a job: files that no worker has, on the embedded gateway."""

import os
import subprocess
import sys
import textwrap
import zipfile
from base64 import urlsafe_b64encode
from hashlib import sha256

import pytest

import flaregate as fg
from flaregate import flows
from flaregate.errors import JobFailed, Refused
from flaregate.requirements import locked
from flaregate_wire.events import OutcomeEvent
from tests.conftest import until

PROJECT = {
    "mine/__init__.py": "",
    "mine/scaling.py": """
        from importlib.resources import files

        def factor():
            return float(files("mine").joinpath("factor.txt").read_text())
    """,
    "mine/factor.txt": "3.0",
    "helper.py": "OFFSET = 1.0\n",
    "shift.py": """
        import numpy as np
        from sklearn.base import BaseEstimator, TransformerMixin

        class Shift(TransformerMixin, BaseEstimator):
            def __init__(self, by=None):
                self.by = by

            def fit(self, X, y=None):
                self.by_ = self.by()
                return self

            def transform(self, X):
                import helper
                return np.asarray(X) + self.by_ + helper.OFFSET
    """,
    "fitted.py": """
        import sys
        import flaregate as fg
        from shift import Shift

        def three():
            from mine.scaling import factor
            return factor()

        if __name__ == "__main__":
            with fg.Client(home=sys.argv[1]) as client:
                values = client.sweep(lambda by: {"value": by()}, axes={"by": [three]}, timeout=120)
                print(values.result().outcomes[0].metrics["value"], values.view().definition.code is not None)
                pipe = fg.Pipeline("shift")
                pipe.node("shift", Shift(three))
                (outcome,) = client.submit(pipe, action="fit", X=[[0.0]], timeout=120).result().outcomes
                model = outcome.pipeline().named_nodes["shift"]
                assert type(model) is Shift, type(model)
                for again in (outcome, model):
                    moved = client.submit(again, action="transform", X=[[1.0]], timeout=120)
                    print(float(moved.result().outputs[0][0][0]), moved.view().definition.code is not None)
    """,
    "job.py": """
        import sys
        import flaregate as fg

        def cell(x):
            import helper
            from mine.scaling import factor
            return {"value": x * factor() + helper.OFFSET}

        if __name__ == "__main__":
            with fg.Client(home=sys.argv[1]) as client:
                options = {"requirements": sys.argv[2]} if len(sys.argv) > 2 else {}
                result = client.sweep(cell, axes={"x": [1.0, 2.0]}, cache="off", timeout=120, **options).result()
                print([outcome.metrics["value"] for outcome in result.outcomes])
    """,
}


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    for place, text in PROJECT.items():
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return folder


def run(project, home, *arguments, script="job.py"):
    command = [sys.executable, str(project / script), str(home), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False, cwd=project)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


def test_modules_that_are_imported_when_code_runs_go_with_the_job_and_each_job_has_its_own(project, tmp_path):
    home = tmp_path / "home"
    assert run(project, home) == "[4.0, 7.0]"
    (project / "mine" / "factor.txt").write_text("10.0")
    (project / "helper.py").write_text("OFFSET = 0.5\n")
    assert run(project, home) == "[10.5, 20.5]"
    (project / "mine" / "large.bin").write_bytes(b"x" * (11 * 1024 * 1024))
    with pytest.raises(AssertionError, match=r"mine/large.bin \(11.0 MiB\).*flaregateignore"):
        run(project, home)
    (project / ".flaregateignore").write_text("*.bin\n")
    assert run(project, home) == "[10.5, 20.5]"


@pytest.mark.slow
def test_what_a_fitted_pipeline_and_values_import_goes_with_every_job_and_what_comes_back_is_of_the_own_class(
    project, tmp_path
):
    home = tmp_path / "home"
    assert run(project, home, script="fitted.py").splitlines() == ["3.0 True", "5.0 True", "5.0 True"]
    (project / "helper.py").write_text("OFFSET = 2.0\n")
    assert run(project, home, script="fitted.py").splitlines() == ["3.0 True", "6.0 True", "6.0 True"]


CLUSTER = """
import sys
import flaregate as fg
from job import cell

if __name__ == "__main__":
    with fg.Client(home=sys.argv[1]) as client:
        sizes = {"workers": 1, "min_workers": 1, "cpus": 1}
        result = client.sweep(cell, axes={"x": [1.0, 2.0]}, cache="off", timeout=120, **sizes).result()
        print([outcome.metrics["value"] for outcome in result.outcomes], result.stats.runner)
"""


@pytest.mark.slow
def test_code_is_on_every_node_of_a_ray_cluster(project, tmp_path):
    (project / "cluster.py").write_text(CLUSTER)
    assert run(project, tmp_path / "home", script="cluster.py") == "[4.0, 7.0] RayRunner"


def wheel(folder, name, version, source):
    """A wheel of one module, with its sum."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    about = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": source,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = []
    for place, text in files.items():
        digest = urlsafe_b64encode(sha256(text.encode()).digest()).decode().rstrip("=")
        lines.append(f"{place},sha256={digest},{len(text)}")
    files[f"{about}/RECORD"] = "\n".join([*lines, f"{about}/RECORD,,"]) + "\n"
    with zipfile.ZipFile(path, "w") as packed:
        for place, text in files.items():
            packed.writestr(place, text)
    return sha256(path.read_bytes()).hexdigest()


def cell(x):
    import fg_extra

    return {"value": fg_extra.twice(x)}


def test_packages_are_installed_once_and_a_failure_is_told(tmp_path, monkeypatch):
    (tmp_path / "wheels").mkdir()
    digest = wheel(tmp_path / "wheels", "fg_extra", "1.0", "def twice(x):\n    return 2 * x\n")
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    lock = tmp_path / "extra.lock"
    lock.write_text(f"fg-extra==1.0 \\\n    --hash=sha256:{digest}\n")
    with fg.Client(home=tmp_path / "home") as client:
        for _ in range(2):
            job = client.sweep(cell, axes={"x": [1.0, 2.0]}, cache="off", requirements=lock, timeout=120)
            assert [outcome.metrics["value"] for outcome in job.result().outcomes] == [2.0, 4.0]
        assert "installing the packages" not in "".join(job.logs())
        assert len(list((tmp_path / "home" / "packages").glob("*-3.*/fg_extra.py"))) == 1
        listed = client.sweep(cell, axes={"x": [3.0]}, cache="off", requirements=["fg_extra>=1"], timeout=120)
        assert listed.result().outcomes[0].metrics["value"] == 6.0
        assert listed.view().definition.requirements.packages == ("fg-extra==1.0",)
        assert_old_packages_go_once_no_job_uses_them(client, lock, tmp_path / "home" / "packages")
        lock.write_text(f"fg-extra==1.0 --hash=sha256:{'0' * 64}\n")
        with pytest.raises(JobFailed, match="cannot be installed") as failed:
            client.sweep(cell, axes={"x": [1.0]}, requirements=lock, timeout=120).result()
        assert failed.value.reason == "environment_mismatch"
        without = client.sweep(cell, axes={"x": [1.0]}, cache="off", timeout=120)
        with pytest.raises(JobFailed, match="fg_extra"):
            without.result()


def last(x):
    import time

    import fg_extra

    time.sleep(3 * x)
    return {"value": fg_extra.twice(x)}


def assert_old_packages_go_once_no_job_uses_them(client, lock, packages):
    (mine,) = (folder for folder in packages.glob("*-3.*[0-9]") if folder.stem.startswith(lock_sum(lock)))

    def sweep(*, dry_run):
        for folder in packages.glob("*-3.*[0-9]"):
            os.utime(folder, (0, 0))
        found = client.link.run(flows.collecting_garbage(dry_run=dry_run)).found
        return next(one.examples for one in found if one.kind == "packages")

    job = client.sweep(last, axes={"x": [0.0, 1.0]}, cache="off", requirements=lock, timeout=120)
    next(event for event in job.events() if isinstance(event, OutcomeEvent))
    assert mine.name not in (*sweep(dry_run=True), *sweep(dry_run=False))
    assert [outcome.metrics["value"] for outcome in job.result().outcomes] == [0.0, 2.0]
    until(lambda: mine.name in sweep(dry_run=True), 10)
    assert mine.is_dir()
    assert mine.name in sweep(dry_run=False)
    assert not mine.exists()
    again = client.sweep(cell, axes={"x": [2.0]}, cache="off", requirements=lock, timeout=120)
    assert again.result().outcomes[0].metrics["value"] == 4.0
    assert mine.is_dir()


def lock_sum(lock):
    return sha256(lock.read_bytes()).hexdigest()


ENVIRONMENT = {"python": "3.11", "numpy": "2.4.6"}


def test_a_list_is_locked_for_the_workers_and_what_they_have_is_left_out(tmp_path, monkeypatch):
    (tmp_path / "wheels").mkdir()
    wheel(tmp_path / "wheels", "fg_extra", "1.0", "")
    wheel(tmp_path / "wheels", "numpy", "2.4.6", "")
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    lock = locked(["fg_extra>=1", "numpy"], ENVIRONMENT)
    assert lock.packages == ("fg-extra==1.0",)
    assert "numpy" not in lock.text
    assert "--hash=sha256:" in lock.text
    assert str(tmp_path) not in lock.text
    with pytest.raises(Refused, match="numpy"):
        locked(["numpy<2"], ENVIRONMENT)
    with pytest.raises(
        Refused, match=r"numpy==1\.0: the workers have 2\.4\.6; scipy==1\.0: the workers have 1\.9"
    ) as caught:
        locked(["numpy==1.0", "scipy==1.0"], ENVIRONMENT | {"scipy": "1.9"})
    assert caught.value.code == "environment_mismatch"
    with pytest.raises(Refused, match="fg-missing"):
        locked(["fg-missing"], ENVIRONMENT)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("numpy\n", "'numpy' is not locked"),
        ("numpy==1.0\n", "is not locked"),
        ("--index-url https://example.org/simple\nnumpy==1.0 --hash=sha256:00\n", "names an index"),
    ],
)
def test_what_is_no_lock_is_refused(tmp_path, text, told):
    (tmp_path / "lock").write_text(text)
    with pytest.raises(Refused, match=told):
        locked(tmp_path / "lock", ENVIRONMENT)
    with pytest.raises(Refused, match="cannot be read"):
        locked(tmp_path / "nothing", ENVIRONMENT)
