"""Helpers of all verbs: common arguments, and printing a result as text or as JSON."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmgnn_dist.config import Recipe

Verbs = Any  # what `add_subparsers` returns: it has no public type


def add_recipe(parser: argparse.ArgumentParser, what: str | None = None) -> None:
    """Add a recipe and its overrides as positional arguments.

    Args:
        parser: parser of the verb.
        what: help text of the recipe argument.
    """
    parser.add_argument("recipe", type=yaml_file, metavar="RECIPE", help=what)
    add_overrides(parser)


def yaml_file(name: str) -> Path:
    """Return the path of a recipe or profile: the file that is named, else the bundled one of this name.

    Where neither exists the path is returned as it is: reading it says what is wrong.
    """
    from mmgnn_dist.bundled import bundled_file

    path = Path(name)
    if path.exists() or (bundled := bundled_file(path)) is None:
        return path
    print(f"{name} is not in this folder: that of mmgnn_dist is read ({bundled})", file=sys.stderr)
    return bundled


def add_overrides(parser: argparse.ArgumentParser, example: str = "train.epochs=5") -> None:
    """Add the overrides of a recipe, `key=value`, as positional arguments."""
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help=f"override the recipe, e.g. {example}"
    )


def add_json(parser: argparse._ActionsContainer) -> None:
    """Add `--json`, which every verb has."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def read_recipe(arguments: argparse.Namespace) -> Recipe:
    """Read the recipe that the user names, with the overrides applied.

    Raises:
        UserError: if anything is wrong with it.
    """
    from mmgnn_dist.config import load_recipe

    return load_recipe(arguments.recipe, arguments.overrides)


def split_sources(arguments: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Separate sources of molecules from the overrides among them.

    Returns:
        The sources, and all overrides: those among the sources, and those after the options.
    """
    among = [word for word in arguments.sources if "=" in word and not Path(word).exists()]
    sources = [word for word in arguments.sources if word not in among]
    return sources, [*among, *arguments.overrides]


def print_result(
    as_json: bool, result: Mapping[str, Any], text: Iterable[str] | Callable[[], object]
) -> None:
    """Print a result once, in the form that the user asked for.

    Args:
        as_json: whether the user gave `--json`.
        result: content of the JSON object.
        text: the lines of the text form, or a function that prints them.
    """
    if as_json:
        print(json.dumps(json_values(result), allow_nan=False))
    elif callable(text):
        text()
    else:
        for line in text:
            print(line)


def json_values(value: Any) -> Any:
    """Convert a value to the types of JSON; a number that is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): json_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [json_values(item) for item in value]
    if hasattr(value, "tolist"):  # arrays and scalars of numpy and torch
        return json_values(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
