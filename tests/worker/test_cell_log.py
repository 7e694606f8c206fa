"""Lines of a cell bear its number, whatever pieces they are printed in, also when it raises."""

import subprocess
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


def test_a_bar_of_progress_is_lines_and_nothing_of_it_is_held_back(capsys):
    with labelled(1):
        sys.stdout.write("\r10 %")
        sys.stdout.write("\r20 %")
        assert capsys.readouterr().out == "[cell 1] \n[cell 1] 10 %\n"
        sys.stdout.write("\r\nend")
    assert capsys.readouterr().out == "[cell 1] 20 %\n[cell 1] end\n"


def test_it_stands_for_the_stream_below_it(capfd):
    below = sys.stdout
    with labelled(1):
        assert (sys.stdout.encoding, sys.stdout.errors) == (below.encoding, below.errors)
        assert sys.stdout.fileno() == below.fileno()
        subprocess.run([sys.executable, "-c", "print('from a child')"], stdout=sys.stdout, check=True)
        sys.stdout.buffer.write(b"bytes\n")
    assert set(capfd.readouterr().out.splitlines()) == {"from a child", "bytes"}
