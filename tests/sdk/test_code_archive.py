"""The archive of the user's own modules: what goes, what stays, what is refused, and that equal files make equal bytes."""

import io
import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from flaregate import code_archive
from flaregate.code_archive import archive
from flaregate.errors import Refused

FILES = {
    "fg_own/__init__.py": "",
    "fg_own/models.py": "import fg_beside\n",
    "fg_own/words.txt": "a b c",
    "fg_own/unused.py": "",
    "fg_own/data/.gitignore": "*.bin\n!kept.bin\n",
    "fg_own/data/kept.bin": "1",
    "fg_own/data/left.bin": "2",
    "fg_own/data/secret.key": "3",
    "fg_own/.flaregateignore": "*.key\nnotes/\n",
    "fg_own/notes/draft.txt": "",
    "fg_own/.venv/pyvenv.cfg": "",
    "fg_own/.venv/lib.py": "",
    "fg_own/__pycache__/models.cpython-311.pyc": "",
    "fg_beside.py": "",
    "fg_elsewhere.py": "",
    "rows.csv": "1,2",
    ".gitignore": "_version.py\nbuild/\n",
    "fg_own/_version.py": "",
    "fg_own/build/made.txt": "",
}
GONE = [
    "fg_beside.py",
    "fg_own/.flaregateignore",
    "fg_own/__init__.py",
    "fg_own/data/.gitignore",
    "fg_own/data/kept.bin",
    "fg_own/models.py",
    "fg_own/unused.py",
    "fg_own/words.txt",
]


def write(folder, files):
    for place, text in files.items():
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def project(tmp_path, monkeypatch):
    folder = tmp_path / "project"
    write(folder, FILES)
    monkeypatch.syspath_prepend(folder)
    return folder


def places(*modules):
    packed = archive(modules)
    with zipfile.ZipFile(io.BytesIO(packed.read())) as file:
        return file.namelist()


def test_what_is_reached_goes_with_its_package_and_what_git_ignores_stays(project):
    assert places("fg_own.models") == GONE
    assert "fg_own.models" not in sys.modules, "nothing is imported to find them"


def test_a_module_that_is_needed_goes_whatever_the_rules_say(project):
    write(project, {"fg_own/models.py": "from fg_own._version import *\n"})
    assert "fg_own/_version.py" in places("fg_own.models")


def test_rules_of_the_repository_above_hold_and_those_above_it_do_not(project):
    (project.parent / ".gitignore").write_text("words.txt\n")
    assert "fg_own/words.txt" in places("fg_own.models")
    (project.parent / ".git").mkdir()
    assert "fg_own/words.txt" not in places("fg_own.models")


def test_modules_of_a_folder_that_is_no_package_go_without_the_data_in_it(project):
    write(project, {"fg_loose/one.py": "", "fg_loose/rows.csv": "1"})
    assert places("fg_loose.one") == ["fg_loose/one.py"]


@pytest.mark.parametrize(
    "text",
    [
        "def f():\n    import fg_elsewhere\n",
        "import importlib\ndef f():\n    return importlib.import_module('fg_elsewhere')\n",
        "NAME = 'fg_elsewhere'\ndef f():\n    return __import__(NAME)\n",
    ],
)
def test_a_sibling_that_is_imported_late_goes_too(project, text):
    write(project, {"fg_beside.py": text})
    assert "fg_elsewhere.py" in places("fg_own.models")


def test_installed_modules_and_unknown_ones_need_no_archive():
    assert archive(["sklearn.svm", "os", "fg_nowhere"]) is None


MAKE = "import sys; sys.path.insert(0, sys.argv[1]); from flaregate.code_archive import archive; "
MAKE += "print(archive(['fg_own.models']).sha256)"


def test_equal_files_make_equal_bytes_in_any_process_and_place(project, tmp_path):
    other = tmp_path / "elsewhere" / "copy"
    shutil.copytree(project, other, copy_function=shutil.copy)
    (other / "fg_own" / "words.txt").chmod(0o755)
    os.utime(other / "fg_beside.py", (1, 1))
    sums = set()
    for seed, folder in (("1", project), ("2", other)):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-c", MAKE, str(folder)]
        sums.add(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert len(sums) == 1
    assert sums == {archive(["fg_own.models"]).sha256 + "\n"}


def test_links_out_of_the_root_are_refused_and_others_followed(project):
    (project / "fg_own" / "again.txt").symlink_to(project / "fg_own" / "words.txt")
    (project / "fg_own" / "loop").symlink_to(project / "fg_own")
    assert places("fg_own.models") == sorted([*GONE, "fg_own/again.txt"])
    (project.parent / "outside.txt").write_text("x")
    (project / "fg_own" / "out.txt").symlink_to(project.parent / "outside.txt")
    with pytest.raises(Refused, match=r"fg_own/out.txt is a link that leads out of .*flaregateignore"):
        places("fg_own.models")


def test_a_large_file_and_a_large_archive_are_refused_with_names_sizes_and_advice(project, monkeypatch):
    with (project / "fg_own" / "weights.dat").open("wb") as file:
        file.truncate(11 * 1024 * 1024)
    with pytest.raises(
        Refused, match=r"10 MiB .*fg_own/weights.dat \(11.0 MiB\); name it in .flaregateignore"
    ) as caught:
        archive(["fg_own.models"])
    assert caught.value.code == "too_large"
    (project / "fg_own" / "weights.dat").unlink()
    for number in range(11):
        with (project / "fg_own" / f"part{number}.dat").open("wb") as file:
            file.truncate(code_archive.CODE_FILE_BYTES)
    with pytest.raises(Refused, match=r"110.0 MiB, more than 100 MiB; its largest files are fg_own/part0.dat \(10.0"):
        archive(["fg_own.models"])
