"""Lines of a cell bear its number, whatever pieces they are printed in, also when it raises."""

import sys

import pytest

from worker_image.engine.cell_log import labelled


def test_each_line_has_the_cells_number(capsys):
    with labelled(7):
        print("one\ntwo", end="")
        print(" goes on")
        sys.stderr.write("no end")
    print("outside")
    shown = capsys.readouterr()
    assert shown.out == "[cell 7] one\n[cell 7] two goes on\noutside\n"
    assert shown.err == "[cell 7] no end\n"


def test_what_was_printed_before_an_error_is_there(capsys):
    def cell():
        with labelled(0):
            print("before", end="")
            raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        cell()
    assert capsys.readouterr().out == "[cell 0] before\n"
