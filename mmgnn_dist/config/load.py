"""Reading a recipe: YAML and overrides, with errors in the user's words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from mmgnn_dist.config.recipe import Recipe
from mmgnn_dist.config.section import ConfigSection
from mmgnn_dist.config.unique_keys import load_yaml
from mmgnn_dist.errors import UserError, nearest

S = TypeVar("S", bound=ConfigSection)


def load_recipe(path: Path | None = None, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe, apply `key=value` overrides and check it.

    Args:
        path: YAML file; None for the defaults.
        overrides: `section.key=value`, the value in YAML.

    Raises:
        UserError: if anything is wrong with it; the message is one line.
    """
    return load_section(path, Recipe, "recipe", "launch/demo.yaml", overrides)


def load_stored_recipe(path: Path, overrides: list[str] | None = None) -> Recipe:
    """Read the recipe of a run, a study or an export; keys that it lacks mean what they meant then.

    Args:
        path: YAML file that this or an earlier version wrote.
        overrides: as for `load_recipe`.

    Raises:
        UserError: if anything is wrong with it; the message is one line.
    """
    return load_section(path, Recipe, "recipe", "launch/demo.yaml", overrides, stored=True)


def load_section(
    path: Path | None,
    kind: type[S],
    what: str,
    example: str,
    overrides: list[str] | None = None,
    stored: bool = False,
) -> S:
    """Read a YAML file, apply overrides and check it as a section.

    Args:
        path: YAML file; None for the defaults.
        kind: class of the section.
        what: name of the section, for messages.
        example: an example of such a file, for messages.
        overrides: `section.key=value`, the value in YAML.
        stored: whether an earlier version may have written it (see `with_earlier_meanings`).

    Raises:
        UserError: if anything is wrong with it; the message is one line.
    """
    raw: Any = {}
    if path is not None:
        if not Path(path).is_file():
            raise UserError(f"no {what} at {path}: give a YAML file such as {example}")
        try:
            raw = load_yaml(Path(path).read_text(encoding="utf-8")) or {}
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from None
        if not isinstance(raw, dict):
            raise UserError(f"{path} holds {type(raw).__name__}, a {what} is a mapping of sections")
    if stored:
        raw = kind.with_earlier_meanings(raw)
    for item in overrides or []:
        _override(raw, item)
    return check_section(raw, kind, str(path) if path else "overrides")


def check_section(raw: dict[str, Any], kind: type[S], where: str) -> S:
    """Check plain values and make a section of them; `where` names their source in messages.

    Raises:
        UserError: if anything is wrong with them; the message is one line.
    """
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise UserError(f"{where}: " + "; ".join(_explain(e, kind) for e in error.errors()[:3])) from None


def _override(raw: dict[str, Any], item: str) -> None:
    key, equals, text = item.partition("=")
    if not equals or not key:
        raise UserError(f"'{item}' is not an override: write key=value, for example train.epochs=5")
    try:
        value = load_yaml(text)
    except yaml.YAMLError as error:
        raise UserError(f"'{item}': the value is not YAML ({' '.join(str(error).split())})") from None
    set_key(raw, key, value)


def set_key(raw: dict[str, Any], key: str, value: Any) -> None:
    """Put a value at a dotted name.

    Raises:
        UserError: if a part of the name before the last one is a value, not a section.
    """
    *parents, last = key.split(".")
    node = raw
    for name in parents:
        if node.get(name) is None:  # a section that may be left out
            node[name] = {}
        node = node[name]
        if not isinstance(node, dict):
            raise UserError(f"'{key}={value}': {name} is a value, not a section")
    node[last] = value


def _explain(error: Any, root: type[BaseModel]) -> str:
    """Put one pydantic error into the terms of the recipe."""
    path, model = _locate(error["loc"], root)
    where = ".".join(path)
    if error["type"] == "extra_forbidden":
        names = list(model.model_fields)
        return f"unknown key {where}{nearest(path[-1], names)}; allowed here: {', '.join(names)}"
    if error["type"] == "union_tag_invalid":
        value, names = error["ctx"]["tag"], error["ctx"]["expected_tags"].replace("'", "").split(", ")
        return f"{where}.name={value!r} is unknown{nearest(value, names)}; allowed here: {', '.join(names)}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return message
    value = repr(error["input"]) if not isinstance(error["input"], dict) else "a mapping"
    hint = ""
    if error["type"] == "literal_error" and isinstance(error["input"], str):
        hint = nearest(error["input"], re.findall(r"'([^']*)'", error["ctx"]["expected"]))
    return f"{where}={value}: {message[0].lower() + message[1:]}{hint}"


def _locate(location: tuple[Any, ...], root: type[BaseModel]) -> tuple[list[str], type[BaseModel]]:
    """Return the keys that lead to an error, and the innermost section that holds it.

    For a section with variants pydantic puts the name of the chosen variant between the keys. The name
    selects the section and is left out of the keys.
    """
    path: list[str] = []
    model = root
    choices: dict[str, type[BaseModel]] = {}
    for part in location:
        if part in choices:
            model, choices = choices[part], {}
            continue
        path.append(str(part))
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        sections = [kind for kind in (annotation, *get_args(annotation)) if _is_section(kind)]
        if len(sections) == 1:
            model = sections[0]
        else:
            choices = {kind.model_fields["name"].default: kind for kind in sections}
    return path, model


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
