"""Archives and locks on a node: unpacked once, never outside their folder."""

import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from worker_image.code import BroughtIn, CodeRefused, OwnCode, brought_in, unpacked
from worker_image.settings import Settings


def archive(path, entries, mode=0o100644):
    with zipfile.ZipFile(path, "w") as packed:
        for name, text in entries.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            packed.writestr(entry, text)
    return path


def test_an_archive_is_unpacked_once_and_cannot_be_written_to(tmp_path):
    path = archive(tmp_path / "code.zip", {"mine/__init__.py": "", "mine/data.txt": "1", "other.py": "x = 1"})
    folder = unpacked(path, tmp_path / "code")
    assert sorted(one.relative_to(folder).as_posix() for one in folder.rglob("*") if one.is_file()) == [
        "mine/__init__.py",
        "mine/data.txt",
        "other.py",
    ]
    assert (folder / "other.py").stat().st_mode & 0o777 == 0o444
    path.touch()
    assert unpacked(path, tmp_path / "code") == folder
    assert len(list((tmp_path / "code").iterdir())) == 1


@pytest.mark.parametrize("name", ["../out.py", "a/../../out.py", "/out.py", "a\\..\\out.py"])
def test_names_that_lead_out_are_refused(tmp_path, name):
    path = archive(tmp_path / "code.zip", {name: "x"})
    with pytest.raises(CodeRefused, match="no file below its root"):
        unpacked(path, tmp_path / "code")
    assert not (tmp_path / "out.py").exists()


def test_links_and_broken_archives_are_refused(tmp_path):
    with pytest.raises(CodeRefused, match="no file below its root"):
        unpacked(archive(tmp_path / "code.zip", {"link": "/etc/passwd"}, 0o120777), tmp_path / "code")
    (tmp_path / "code.zip").write_bytes(b"no zip")
    with pytest.raises(CodeRefused, match="broken"):
        unpacked(tmp_path / "code.zip", tmp_path / "code")


async def test_a_job_without_code_needs_nothing(tmp_path):
    own = OwnCode.of(None, None, {})
    assert await brought_in(own, tmp_path / "code", tmp_path / "packages", print) == BroughtIn()
    assert not (tmp_path / "packages").exists()


async def test_what_the_image_has_is_not_installed_again_in_whatever_version(tmp_path):
    lock, told = tmp_path / "lock", []
    digest = f"--hash=sha256:{'0' * 64}"
    lock.write_text(
        f"numpy==0.1 \\\n    {digest} \\\n    {digest}\nscikit-learn=={metadata.version('scikit-learn')} {digest}\n"
    )
    first = await brought_in(OwnCode(None, lock), tmp_path / "code", tmp_path / "packages", told.append)
    (folder,) = first.folders
    assert [one.name for one in Path(folder).iterdir() if not one.name.startswith(".")] == []
    assert f"numpy stays {metadata.version('numpy')}, as the workers have it\n".encode() in told
    assert not any(b"scikit-learn" in line for line in told)
    told.clear()
    again = await brought_in(OwnCode(None, lock), tmp_path / "code", tmp_path / "packages", told.append)
    assert again.folders == (folder,)
    assert told == []
    first.leave()
    again.leave()


def test_how_packages_are_got_is_not_for_user_code():
    own = {"URL": "http://127.0.0.1:1", "ATTEMPT": "a", "INDEX": "0", "BOOTSTRAP": "b"}
    environment = {f"FLAREGATE_{name}": value for name, value in own.items()}
    environment |= {"UV_INDEX_URL": "https://user:secret@example.org", "PIP_INDEX_URL": "x", "LANG": "C"}
    assert Settings.take(environment).child_environment == {"LANG": "C"}
    assert "UV_INDEX_URL" in environment
