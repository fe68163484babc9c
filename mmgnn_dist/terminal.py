"""The one look of all tables on the terminal.

Colours and bold type only where a person looks: none without a terminal, and none with `NO_COLOR` (rich).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

WIDE = 200  # columns of a table that goes into a file or a pipe: lines are not broken there
NUMBER = re.compile(r"[-+–]?\d?.*\d.*|–|")


def print_rows(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], note: str = "") -> None:
    """Print a table; nothing without rows.

    Args:
        title: stands above the table.
        columns: headings.
        rows: cells of each row; a column whose cells are all numbers is set to the right.
        note: a paragraph below the table.
    """
    if not rows:
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for place, column in enumerate(columns):
        is_number = all(NUMBER.fullmatch(row[place]) for row in rows)
        table.add_column(column, justify="right" if is_number and place else "left")
    for row in rows:
        table.add_row(*row)
    console = Console()
    console = console if console.is_terminal else Console(width=WIDE)
    console.print(table, markup=False, highlight=False)
    if note:
        console.print(note, markup=False, highlight=False)
