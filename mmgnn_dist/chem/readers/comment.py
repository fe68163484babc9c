"""The values in the comment of an XYZ frame: `key=value` pairs, xtb's `key: number`, or bare numbers.

A value is read whole or not at all: a value without quotes ends at a blank, at a comma or semicolon that ends
the word, or at one before the next `key=`.
"""

from __future__ import annotations

import re

from mmgnn_dist.chem.own_targets.values import is_number, number_list, unit_behind
from mmgnn_dist.chem.readers.source import IDENTIFIERS, KNOWN_COLUMNS, column_name
from mmgnn_dist.chem.states.electronic_state import is_state_column

MAX_COMMENT = 1 << 16
COMMENT = "comment"  # name of the column of a comment that is nothing but numbers
# a key begins a word: a search from every character would take quadratic time on a long comment
PAIR = re.compile(
    r"""
    (?<![^\s,;]) ([^\s=,;"'{}\[\]]+) \s*=\s*
    (?: ( "(?:[^"\\]|\\.)*" | '[^']*' | \{[^{}]*\} | \[[^\[\]]*\] ) (?= [\s,;] | $ )
      | ( [^\s,;]+ (?: [,;]+ (?! \s | $ | [A-Za-z_][\w.-]*= ) [^\s,;]+ )* ) )
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


def unread_words(comment: str) -> str:
    """Return the first words that stand behind a number without being its unit, "" if there are none."""
    for match, rest in _matches(PAIR, comment):
        words = rest.strip(" ,;\t")
        if match[3] and is_number(match[3]) and words and not unit_behind(words):
            return words
    return ""


def _pairs(comment: str) -> list[tuple[str, str]]:
    if "=" in comment:
        found = []
        for match, rest in _matches(PAIR, comment):
            key, closed, bare = match.groups("")
            name = column_name(key)
            in_braces = closed[:1] == "{" and name in IDENTIFIERS
            value = closed[1:-1] if closed[:1] in ('"', "'") or in_braces else closed or bare
            found.append((name, _with_unit(name, value.strip(), rest)))
        return found
    colons = [
        (column_name(match[1]), match[2].rstrip(",;"), rest) for match, rest in _matches(COLON, comment)
    ]
    if colons := [(name, value, rest) for name, value, rest in colons if is_number(value)]:
        return [(name, _with_unit(name, value, rest)) for name, value, rest in colons]
    return [(COMMENT, comment.strip())] if number_list(comment) else []


def _matches(pattern: re.Pattern[str], comment: str) -> list[tuple[re.Match[str], str]]:
    """Return each pair of a comment, and the text between it and the next one."""
    found = list(pattern.finditer(comment))
    ends = [*(match.start() for match in found), len(comment)][1:]
    return [(match, comment[match.end() : end]) for match, end in zip(found, ends, strict=True)]


def _with_unit(name: str, value: str, rest: str) -> str:
    """Return a number with the unit that stands behind it without quotes; any other value as it is."""
    if name in KNOWN_COLUMNS or is_state_column(name) or not rest.strip() or not is_number(value):
        return value
    return f"{value} {unit_behind(rest)}".strip()
