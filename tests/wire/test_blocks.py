"""Blocks of a map: where rows are cut, what the blocks are called, which of them another run takes up."""

import numpy as np
import pytest

from flaregate_wire.planning.blocks import block_digest, bounds, repeated, span_of


@pytest.mark.parametrize(("rows", "blocks"), [(10, 3), (9, 3), (2, 5), (1, 1), (0, 2)])
def test_rows_are_cut_as_numpy_cuts_them(rows, blocks):
    parts = [part for part in np.array_split(np.arange(rows), blocks) if len(part)]
    assert [tuple(range(*span)) for span in bounds(rows, blocks)] == [tuple(part) for part in parts]


def test_a_name_tells_the_rows_of_its_own_leaf_alone():
    name = block_digest("sha256:ab", (3, 7))
    assert span_of("sha256:ab", name) == (3, 7)
    for other in ("sha256:ab", "sha256:ab#3", "sha256:ab#3-", "sha256:ab#x-7", "sha256:abc#3-7"):
        assert span_of("sha256:ab", other) is None


@pytest.mark.parametrize(
    ("known", "blocks", "count"),
    [
        ([], None, 0),
        ([], 2, 0),
        ([(0, 5), (5, 10)], 2, 2),
        ([(0, 5), (0, 4)], 2, 1),
        ([(0, 4), (4, 10)], 2, 0),
        ([(0, 4), (4, 10)], None, 2),
        ([(0, 4), (4, 10), (4, 12)], None, 2),
        ([(0, 4), (0, 5), (4, 10)], None, None),
        ([(4, 10)], None, None),
        ([(0, 4)], None, None),
    ],
)
def test_which_blocks_are_taken_up_again(known, blocks, count):
    assert repeated(known, 10, blocks) == count
