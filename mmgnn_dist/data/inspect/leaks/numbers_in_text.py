"""The numbers that stand in texts, with the precision in which they are written."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

# a comma is a decimal point before two digits or more; in `2,3-dimethyl` it is none
_NUMBER = re.compile(r"(?<![\d.])(\d+)(?:\.(\d+)|,(\d{2,}))?(?:[eE]([-+]?\d{1,2})(?!\w))?")


_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_DIGIT = f"(?:{'|'.join(_DIGITS)})"
_SPOKEN = re.compile(rf"\b{_DIGIT}(?: {_DIGIT})* point(?: {_DIGIT})+\b", re.IGNORECASE)


@dataclass(frozen=True)
class WrittenNumbers:
    """K numbers of some texts, without their signs.

    Attributes:
        row: the text of each number, int64 [K].
        place: how many numbers stand before it in its text, int64 [K].
        value: float64 [K].
        half: half a unit of its last digit, float64 [K].
        digits: significant digits, int64 [K].
    """

    row: np.ndarray
    place: np.ndarray
    value: np.ndarray
    half: np.ndarray
    digits: np.ndarray

    def at(self, place: int, rows: int) -> np.ndarray:
        """Return the number at one place of each text, float64 [rows], NaN without one."""
        values = np.full(rows, np.nan)
        chosen = self.place == place
        values[self.row[chosen]] = self.value[chosen]
        return values


def written_numbers(texts: list[str]) -> WrittenNumbers:
    """Find the numbers of texts, also spoken ones (`five point three`)."""
    found: list[tuple[int, int, float, float, int]] = []
    for row, text in enumerate(texts):
        for place, (whole, point, comma, power) in enumerate(_NUMBER.findall(_SPOKEN.sub(_as_digits, text))):
            fraction = point or comma
            if len(whole) + len(fraction) > 18:
                continue
            scale = 10.0 ** (int(power or 0) - len(fraction))
            digits = (whole + fraction).lstrip("0")
            found.append((row, place, int(whole + fraction) * scale, 0.5 * scale, len(digits)))
    columns = np.array(found, np.float64).reshape(-1, 5).T
    row, place, digits = (columns[column].astype(np.int64) for column in (0, 1, 4))
    return WrittenNumbers(row, place, columns[2], columns[3], digits)


def _as_digits(spoken: re.Match[str]) -> str:
    words = spoken.group().casefold().split()
    return "".join("." if word == "point" else str(_DIGITS.index(word)) for word in words)
