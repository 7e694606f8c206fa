"""Where a container's control group tells its limit, its peak, and how often the kernel ended a process of it."""

import pytest

from worker_image.memory import memory_use, oom_kills

V1, V2 = "4:memory:{group}\n1:cpu:{group}\n", "0::{group}\n"


@pytest.mark.parametrize(
    ("lines", "file"),
    [
        (V1, "memory/{shown}memory.oom_control"),
        (V2, "{shown}memory.events"),
        (V1 + V2, "memory/{shown}memory.oom_control"),
    ],
)
@pytest.mark.parametrize("shown", ["parent/libpod-1/", ""], ids=["as the host names it", "mounted at the root"])
def test_the_count_is_found_where_the_group_is_shown(tmp_path, lines, file, shown):
    own, place = tmp_path / "own", tmp_path / "root" / file.format(shown=shown)
    own.write_text(lines.format(group="/parent/libpod-1"))
    place.parent.mkdir(parents=True)
    place.write_text("low 0\noom_kill 3\nunder_oom 0\n")
    assert oom_kills(tmp_path / "root", own) == 3


def test_nothing_is_counted_where_nothing_is_shown(tmp_path):
    assert oom_kills(tmp_path, tmp_path / "missing") == 0
    assert memory_use(tmp_path, tmp_path / "missing") == ""


@pytest.mark.parametrize(
    ("lines", "files", "told"),
    [
        (V2, {"memory.max": "1500000000", "memory.peak": "1490000000"}, "1.50 GB and has used 1.49 GB at most"),
        (V2, {"memory.max": "1500000000"}, "1.50 GB"),  # before Linux 5.19
        (V2, {"memory.max": "max", "memory.peak": "7"}, None),
        (
            V1,
            {"memory/memory.limit_in_bytes": "1000000000", "memory/memory.max_usage_in_bytes": "999000000"},
            "1.00 GB and has used 1.00 GB at most",
        ),
        (V1, {"memory/memory.limit_in_bytes": "9223372036854771712"}, None),
    ],
)
def test_limit_and_peak_are_told_where_there_is_a_limit(tmp_path, lines, files, told):
    own = tmp_path / "own"
    own.write_text(lines.format(group="/"))
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert memory_use(tmp_path, own) == ("" if told is None else f" (its container has {told})")
