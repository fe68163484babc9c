"""Values as files write them: numbers, words for a missing one, lists, and a unit behind a number.

A unit behind a value is never ignored: it is converted to the unit of the target, or the value is refused.
"""

from __future__ import annotations

import math
import re

from mmgnn_dist.chem.checks import BAD_TARGET, BadRecord
from mmgnn_dist.chem.targets import Target
from mmgnn_dist.chem.units import ALIASES, COMMON, DIMENSIONS, NAME, WORDS, converted_value

# words for a value that is not there, in lower case: programs', those of tables made by hand, Excel's faults
MISSING = frozenset(
    [
        "nan",
        "+nan",
        "-nan",
        "nan(ind)",
        "-nan(ind)",
        "1.#qnan",
        "-1.#ind",
        "1.#ind",
        "none",
        "null",
        "nil",
        "na",
        "n/a",
        "n.a.",
        "n.a",
        "<na>",
        "#n/a",
        "#na",
        "#n/a!",
        "nd",
        "n.d.",
        "n.d",
        "nd.",
        "not_available",
        "unavailable",
        "missing",
        "empty",
        "unknown",
        "undefined",
        "-",
        "--",
        "---",
        "?",
        "??",
        ".",
        "*",
        "#value!",
        "#div/0!",
        "#ref!",
        "#name?",
        "#num!",
        "#null!",
    ]
) | {"", "\u2013", "\u2014", "not available", "not determined", "no data", "(empty)", "(blank)"}
BRACKETS = str.maketrans("[]{}(),;", "        ")
JSON_SIGN = "_JSON"  # what ASE writes before a value in JSON
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:(?:[eEdD]|\*\^)[-+]?\d+)?"
WITH_UNIT = re.compile(
    rf"\s*([\[({{]?\s*{NUMBER}(?:[\s,;]+{NUMBER})*\s*[\])}}]?)\s*([(\[]?(?:[^\W\d_]|[°%]).*?)\s*"
)
LONGEST = 200  # characters of a value with a unit
# words of units that are taken for one behind a number without quotes, where other words may stand, too
UNIT_WORDS = frozenset(
    word.lower()
    for unit in (
        *(spelled for units in DIMENSIONS.values() for spelled in units),
        *(*ALIASES, *WORDS, *COMMON),
        *("K", "J", "Pa", "kPa", "MPa", "GPa", "bar", "cal", "nm", "pm", "fs", "ps", "ns", "Hz", "THz", "cm"),
        *("mM", "uM", "nM", "mV", "mol", "au", "amu", "per", "atom", "mol", "mDebye"),
    )
    for word in NAME.findall(unit)
) - {"a", "e", "u", "none"}
MOST_WORDS = 4  # of a unit, such as kcal / mol


def is_missing(text: str) -> bool:
    """Whether a text stands for a value that is not there."""
    return text.strip().lower() in MISSING


def is_number(text: str) -> bool:
    """Whether a text is one number."""
    try:
        to_float(text)
    except ValueError:
        return False
    return True


def to_float(text: str) -> float:
    """Read a number as C, Fortran (`1D-3`) or Mathematica (`6.*^-6`) writes it.

    Raises:
        ValueError: the text is no number.
    """
    if "_" in text:  # Python alone takes 1_000 for a number
        raise ValueError(text)
    try:
        return float(text)
    except ValueError:
        return float(text.replace("*^", "e").replace("D", "e").replace("d", "e"))


def number_list(text: str) -> list[float]:
    """Return the numbers of `[1, 2]`, `1 2` or ASE's `_JSON [1, 2]`; no number for any other text."""
    words = text.strip().removeprefix(JSON_SIGN).translate(BRACKETS).split()
    try:
        return [to_float(word) for word in words] if len(words) < 100 else []
    except ValueError:
        return []


def value_and_unit(text: str) -> tuple[str, str] | None:
    """Return a number, or a list of numbers, and the unit behind it, as text; None for any other text."""
    match = WITH_UNIT.fullmatch(text) if len(text) < LONGEST else None
    if not match:
        return None
    unit = match[2].strip()
    whole = unit[0] + unit[-1] in ("()", "[]")
    return match[1].strip(), unit[1:-1].strip() if whole else unit


def unit_behind(words: str) -> str:
    """Return the unit with which a text begins that follows a number without quotes; "" if there is none."""
    found: list[str] = []
    for word in words.split()[:MOST_WORDS]:
        plain = word.strip(",;()[]")
        names = [name.lower() for name in NAME.findall(plain)]
        known = all(name in UNIT_WORDS or name.rstrip("0123456789") in UNIT_WORDS for name in names)
        if not (known and (names or plain in ("/", "*", "·"))):
            break
        found.append(plain)
        if word[-1] in ",;":
            break
    return " ".join(found) if any(NAME.search(word) for word in found) else ""


def is_value(text: str) -> bool:
    """Whether a text is a number, or a number with a unit."""
    return is_number(text) or value_and_unit(text) is not None


def target_value(column: str, text: str, target: Target, factor: float = 1.0) -> float:
    """Read a target: a number, a list of one number, or the vector of a dipole, of which it is the norm.

    A unit behind the number counts, whatever the unit of the column.

    Args:
        column: name of the column, for messages.
        text: the value.
        target: the target.
        factor: factor from the unit of the column to that of the target.

    Raises:
        BadRecord: it is none of these, or the unit behind it does not fit.
    """
    found = None
    try:
        return to_float(text) * factor
    except ValueError:
        numbers = number_list(text)
    if not numbers and (found := value_and_unit(text)):
        numbers = number_list(found[0])
    value = None
    if len(numbers) == 1:
        value = numbers[0]
    elif len(numbers) == 3 and "dipole" in (target.kind, target.dimension):
        value = math.hypot(*numbers)
    if value is not None and found is None:
        return value * factor
    if value is not None and found:
        converted = converted_value(target.name, value, found[1], target.unit, target.dimension)
        if converted is not None:
            return converted
    shown = f"{column}: '{' '.join(text.split())[:60]}'"
    if found:
        raise BadRecord(BAD_TARGET, f"{shown}: '{found[1][:40]}' is no unit of {target.name} ({target.unit})")
    what = f" are {len(numbers)} numbers" if numbers else ""
    if re.fullmatch(r"[-+]?\d+,\d+", text.strip()):
        what = " has a decimal comma: write a point"
    raise BadRecord(BAD_TARGET, f"{shown}{what}")
