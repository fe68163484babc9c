"""Which columns of a source are targets: what is declared, what is known by name, what is not read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from mmgnn_dist.chem.composition import FORMULA_COLUMNS
from mmgnn_dist.chem.own_targets.classes import sorted_classes
from mmgnn_dist.chem.own_targets.target_names import known_name
from mmgnn_dist.chem.states.electronic_state import is_state_column
from mmgnn_dist.chem.targets import CLASS, TARGETS, Target, accepted_units, target_for
from mmgnn_dist.chem.units import same_unit
from mmgnn_dist.config import Declared, TargetConfig
from mmgnn_dist.errors import UserError

Found = tuple[tuple[str, Target, float], ...]  # (column, target, factor to its unit)


def resolve_targets(
    path: Path,
    columns: Iterable[tuple[str, str]],
    declared: Declared,
    known: set[str],
    classes_of: Callable[[str], Iterable[str]] | None = None,
) -> tuple[Found, tuple[str, ...]]:
    """Decide which columns are targets, in which unit, and which columns are not read.

    A column that is declared under another name of a known target, such as `U0`, is that target; with a kind
    it is a target of its own.

    Args:
        path: for messages.
        columns: (name, kind of its values) of each column; the kind is "" for numbers.
        declared: what the recipe and the file itself declare, by target.
        known: columns that are not targets.
        classes_of: function that returns the class names in a column; None if the reader has none.

    Raises:
        UserError: a target has no unit, has a wrong unit, or is not a number; or two columns are one target,
            or two targets one column.
    """
    kinds = dict(columns)
    column_of: dict[str, str] = {}  # target -> column
    found: dict[str, tuple[str, Target, float]] = {}  # column -> what it is
    for key, value in declared.items():
        config = value if isinstance(value, TargetConfig) else TargetConfig(unit=str(value))
        column = find_column(path, config.column or key, kinds)
        if column is None:
            continue
        meant = known_name(key, kinds)
        name = meant if meant and config.kind is None else key
        is_class = config.kind == CLASS
        _check_column(path, column, "" if is_class else kinds[column], name, found, column_of)
        if is_class:
            target = _class_target(path, name, column, kinds[column], classes_of)
            found[column], column_of[name] = (column, target, 1.0), column
            continue
        if config.unit is None:
            raise UserError(f"{path}: {unit_is_missing(name, column)}")
        like = TARGETS[meant] if meant and name not in TARGETS else None
        target, factor = target_for(name, config.unit, config.kind, like)
        found[column], column_of[name] = (column, target, factor), column
    for column, kind in kinds.items():
        lowered = column.lower()
        left = column not in found and column not in known and lowered not in column_of
        if left and (column in TARGETS or (lowered in TARGETS and not kind)):
            raise UserError(f"{path}: {unit_is_missing(column, column)}")
    unread = (column for column in kinds if column not in found and column not in known)
    ignored = tuple(
        column for column in unread if not is_state_column(column) and column.lower() not in FORMULA_COLUMNS
    )
    return tuple(found[column] for column in kinds if column in found), ignored


def _class_target(
    path: Path,
    name: str,
    column: str,
    kind: str,
    classes_of: Callable[[str], Iterable[str]] | None,
) -> Target:
    if name in TARGETS:
        raise UserError(f"data.targets.{name}.kind=class: {name} is a known number; give it another name")
    if classes_of is None or "list" in kind or "struct" in kind:
        raise UserError(f"{path}: column '{column}' ({kind or 'numbers'}) cannot be read as classes")
    return Target(name, "", CLASS, classes=sorted_classes(classes_of(column)))


def find_column(path: Path, wanted: str, columns: Mapping[str, str]) -> str | None:
    """Return the column that a declaration means, in any case; None if there is none.

    Raises:
        UserError: several columns differ from it in case alone.
    """
    if wanted in columns:
        return wanted
    alike = [column for column in columns if column.lower() == wanted.lower()]
    if len(alike) > 1:
        raise UserError(f"{path}: '{wanted}' may be column {' or '.join(alike)}: write it as the file does")
    return alike[0] if alike else None


def declared_columns(declared: Declared) -> set[str]:
    """Return the columns that are declared, in lower case."""
    return {
        ((value.column if isinstance(value, TargetConfig) else None) or name).lower()
        for name, value in declared.items()
    }


def class_columns(declared: Declared) -> set[str]:
    """Return the columns that are declared as classes, in lower case."""
    return declared_columns(
        {
            name: value
            for name, value in declared.items()
            if not isinstance(value, str) and value.kind == CLASS
        }
    )


def other_units(stated: Mapping[str, str], declared: Declared) -> list[str]:
    """Return a line on each column to which the recipe gives another unit than its file.

    Args:
        stated: unit that the file gives, by column.
        declared: what the recipe declares.
    """
    lines = []
    for name, value in declared.items():
        config = value if isinstance(value, TargetConfig) else TargetConfig(unit=value)
        unit = stated.get(config.column or name)
        if unit and config.unit and not same_unit(name, unit, config.unit):
            lines.append(f"{config.column or name} is read in {config.unit}, as the recipe says, not {unit}")
    return lines


def unit_is_missing(name: str, column: str) -> str:
    """Return the message on a target without a unit."""
    units = ", ".join(accepted_units(name.lower())) if name.lower() in TARGETS else "1 for none"
    key = f"data.units.{name}" if name == column else f"data.targets.{name}.unit"
    return f"the unit of column '{column}' is not given: add {key}=UNIT, UNIT one of {units}"


def _check_column(
    path: Path,
    column: str,
    kind: str,
    name: str,
    found: Mapping[str, tuple[str, Target, float]],
    column_of: Mapping[str, str],
) -> None:
    """Refuse a column that cannot be the target `name`."""
    if kind:
        classes = f": declare data.targets.{name}={{kind: class}}" if kind == "bool" else ""
        raise UserError(f"{path}: target column '{column}' is {kind}, not a number{classes}")
    if column in found:
        raise UserError(
            f"{path}: column '{column}' is declared as target {found[column][1].name} and as {name}: "
            "declare one of them"
        )
    if name in column_of:
        raise UserError(
            f"{path}: columns {column_of[name]} and {column} are both target {name}: declare one of them, or "
            f"give {column} a kind to keep it as a target of its own (data.targets.{column}.kind=extensive)"
        )
