"""The user's own modules as one archive that is staged with a job. Equal files make equal bytes on any machine."""

import io
import zipfile
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from flaregate.code_files import needed, root_of
from flaregate.errors import Refused
from flaregate.local_modules import reach
from flaregate.payload import Staged, staged
from flaregate_wire.limits import CODE_ARCHIVE_BYTES, CODE_FILE_BYTES
from flaregate_wire.problems import Code, Fault

MEDIA_TYPE = "application/zip"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_MODE = 0o100644 << 16
_UNIX = 3
_SHOWN = 5
_MIB = 1024 * 1024
_ADVICE = "name it in .flaregateignore (or .gitignore), or give data as an input of the job"


def archive(modules: Iterable[str]) -> Staged | None:
    """What the local ones among these modules need, as a zip; None where none of them is local.

    The modules that code imports go, as far as its files tell, and all of each package that one of them is in, data
    files too, but for what git's rules ignore. Raises Refused for a large file, a large archive, or a link that leads
    out of the folder on `sys.path`.
    """
    files = needed(reach(*sorted(modules)).files)
    if not files:
        return None
    for place, file in files.items():
        _check_link(place, file)
    sizes = {place: file.stat() for place, file in files.items()}
    _check_sizes({place: status.st_size for place, status in sizes.items()})
    return _zipped(tuple((place, str(files[place]), one.st_mtime_ns, one.st_size) for place, one in sizes.items()))


@lru_cache(maxsize=2)
def _zipped(files: tuple[tuple[str, str, int, int], ...]) -> Staged:
    """Stored, not compressed: no two versions of a compressor give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:
        for place, path, _, _ in files:
            entry = zipfile.ZipInfo(place, _EPOCH)
            entry.create_system, entry.external_attr = _UNIX, _MODE
            file.writestr(entry, Path(path).read_bytes())
    return staged(MEDIA_TYPE, buffer.getvalue())


def _check_link(place: str, file: Path) -> None:
    root = root_of(place, file).resolve()
    real = file.resolve()
    if root not in real.parents:
        raise _refused(
            f"{place} is a link that leads out of {root}, to {real}; put the files there, or ignore it: {_ADVICE}",
            "link",
        )


def _check_sizes(sizes: Mapping[str, int]) -> None:
    large = [f"{place} ({size / _MIB:.1f} MiB)" for place, size in sizes.items() if size > CODE_FILE_BYTES]
    if large:
        listed = ", ".join(large[:_SHOWN]) + (f" and {len(large) - _SHOWN} more" if large[_SHOWN:] else "")
        limit = CODE_FILE_BYTES // _MIB
        raise _refused(f"files of more than {limit} MiB do not go with code: {listed}; {_ADVICE}", "code_file")
    total = sum(sizes.values())
    if total > CODE_ARCHIVE_BYTES:
        largest = sorted(sizes, key=lambda place: -sizes[place])[:_SHOWN]
        listed = ", ".join(f"{place} ({sizes[place] / _MIB:.1f} MiB)" for place in largest)
        raise _refused(
            f"the code has {total / _MIB:.1f} MiB, more than {CODE_ARCHIVE_BYTES // _MIB} MiB; its largest files are "
            f"{listed}; {_ADVICE}",
            "code_archive",
        )


def _refused(message: str, rule: str) -> Refused:
    fault = Fault(pointer="/code", rule=rule, message=message)
    return Refused(message, code=Code.TOO_LARGE if rule != "link" else Code.INVALID_REQUEST, errors=[fault])
