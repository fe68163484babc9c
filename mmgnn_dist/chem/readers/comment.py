"""The values in the comment of an XYZ frame: `key=value` pairs, xtb's `key: number`, or bare numbers.

A value is read whole or not at all: a value without quotes ends at a blank, at a comma that ends the word, or
at a comma before the next `key=`.
"""

from __future__ import annotations

import re

from mmgnn_dist.chem.readers.record import is_number, number_list
from mmgnn_dist.chem.readers.source import column_name

MAX_COMMENT = 1 << 16
COMMENT = "comment"  # name of the column of a comment that is nothing but numbers
# a key begins a word: a search from every character would take quadratic time on a long comment
PAIR = re.compile(
    r"""
    (?<![^\s,;]) ([^\s=,;"'{}\[\]]+) \s*=\s*
    (?: ( "(?:[^"\\]|\\.)*" | '[^']*' | \{[^{}]*\} | \[[^\[\]]*\] ) (?= [\s,;] | $ )
      | ( [^\s,]+ (?: ,+ (?! \s | $ | [A-Za-z_][\w.-]*= ) [^\s,]+ )* ) )
    """,
    re.VERBOSE,
)
COLON = re.compile(r"(?<!\S)([A-Za-z_][\w.-]*):\s+([-+.\d]\S*)")


def pairs(comment: str) -> dict[str, str]:
    """Return the values of a comment, without quotes; of a key that stands twice, the first."""
    found: dict[str, str] = {}
    for key, value in _pairs(comment):
        found.setdefault(key, value)
    return found


def repeated(comment: str) -> dict[str, str]:
    """Return the keys that stand twice with different values, with these values for a message."""
    found: dict[str, str] = {}
    conflicts: dict[str, str] = {}
    for key, value in _pairs(comment):
        if found.setdefault(key, value) != value:
            conflicts.setdefault(key, f"'{found[key][:40]}' and '{value[:40]}'")
    return conflicts


def _pairs(comment: str) -> list[tuple[str, str]]:
    if "=" in comment:
        found = []
        for key, closed, bare in PAIR.findall(comment):
            value = closed[1:-1] if closed and closed[0] in "\"'" else closed or bare.rstrip(";")
            found.append((column_name(key), value.strip()))
        return found
    colons = [(key, value.rstrip(",;")) for key, value in COLON.findall(comment)]
    if colons := [(column_name(key), value) for key, value in colons if is_number(value)]:
        return colons
    return [(COMMENT, comment.strip())] if number_list(comment) else []
