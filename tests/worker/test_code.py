"""Archives and locks on a node: unpacked once, never outside their folder."""

import zipfile

import pytest

from worker_image.code import CodeRefused, OwnCode, brought_in, unpacked


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
    assert await brought_in(own, tmp_path / "code", tmp_path / "packages", print) == ()
    assert not (tmp_path / "packages").exists()
