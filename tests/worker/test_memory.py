"""Where a container's control group tells how often the kernel ended a process of it."""

import pytest

from worker_image.memory import oom_kills

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
