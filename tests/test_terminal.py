"""Tables on the terminal: numbers to the right, no colours in a pipe, nothing without rows."""

from __future__ import annotations

from mmgnn_dist.terminal import print_rows


def test_a_table_in_a_pipe_is_plain_and_not_broken(capsys):
    long = "a name of more than a hundred characters " * 3
    print_rows("errors", ["target", "MAE", "note"], [["gap", "0.5", "x"], [long.strip(), "12.25", "[red]y"]])
    lines = capsys.readouterr().out.splitlines()
    assert not any("\x1b" in line for line in lines)
    [gap], [other] = ([line for line in lines if word in line] for word in ("gap", "12.25"))
    assert gap.index("0.5") + 3 == other.index("12.25") + 5  # their last digits are in one column
    assert long.strip() in other and "[red]y" in other
    print_rows("errors", ["target"], [])
    assert capsys.readouterr().out == ""
