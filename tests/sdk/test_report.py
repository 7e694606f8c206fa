"""What is printed of a job that has ended."""

import pytest

from flaregate.cli import report
from flaregate_wire.jobs import Stats


@pytest.mark.parametrize(
    ("stats", "told"),
    [
        ({"tasks": 9, "hosts": ["head"], "fits": {"pca": 5, "svc": 10}}, "9 tasks on 1 node; fits: pca 5, svc 10"),
        (
            {"tasks": 2, "hosts": ["head", "worker a"], "fits": {"svc": 5}, "cached": 15},
            "2 tasks on 2 nodes; 15 from the cache; fits: svc 5",
        ),
        ({"cached": 125}, "0 tasks on 0 nodes; 125 from the cache"),
    ],
)
def test_what_was_counted(stats, told):
    assert "; ".join(report._counted(Stats(**stats))) == told
