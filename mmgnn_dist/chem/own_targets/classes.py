"""Class labels: the name of a class from a value of any type, and the numbers under which shards keep them.

A shard keeps a label as the index of its class among the sorted names, so the classes of a set do not depend
on the order in which its sources were read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mmgnn_dist.errors import UserError

NO_LABEL = frozenset({"", "nan", "none", "null", "na", "n/a", "<na>", "#n/a", "-", "?"})
MOST = 100  # classes; more are a sign of a target that is a number


def class_name(value: Any) -> str | None:
    """Return the name of the class that a value means, None for a missing label.

    Words keep their case; true and false, and whole numbers, have one form however they are written.
    """
    if value is None:
        return None
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    text = str(value).strip()
    if text.lower() in NO_LABEL:
        return None
    if text.lower() in ("true", "false"):
        return text.lower()
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else text


def sorted_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Return class names in their order: numbers by size if all are numbers, else words by letters."""
    unique = set(names)
    try:
        return tuple(sorted(unique, key=float))
    except ValueError:
        return tuple(sorted(unique))


def class_index(value: Any, classes: Sequence[str]) -> float:
    """Return the number of the class of a value, NaN for a missing label.

    Raises:
        ValueError: the value is none of the classes.
    """
    name = class_name(value)
    return float("nan") if name is None else float(classes.index(name))


def check_classes(target: str, classes: Sequence[str]) -> None:
    """Refuse too few or too many classes.

    Raises:
        UserError: fewer than two classes, or more than `MOST`.
    """
    if len(classes) < 2:
        raise UserError(f"target {target} has {len(classes)} class: two are needed, leave it out")
    if len(classes) > MOST:
        raise UserError(
            f"target {target} has more than {MOST} classes, such as {', '.join(classes[:3])}: if it is a "
            f"number, give data.targets.{target}.unit in place of kind: class"
        )
