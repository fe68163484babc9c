"""Types, bounds and values of recipe keys in words."""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, TypeAdapter

PLAIN = {
    int: "whole number",
    float: "number",
    str: "text",
    bool: "true or false",
    Path: "path",
    Any: "any value",
    type(None): "null",
}
PLURALS = {
    "whole number": "whole numbers",
    "number": "numbers",
    "text": "names",
    "one of": "choices",
    "section": "sections",
    "any value": "any values",
}
BOUNDS = {"ge": "at least {}", "gt": "above {}", "le": "at most {}", "lt": "below {}"}


def type_in_words(annotation: Any) -> tuple[str, tuple[Any, ...]]:
    """Describe a type in words.

    Args:
        annotation: annotation of a field.

    Returns:
        The type in words, and its choices if it has any.
    """
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_in_words(inner[0])
    if origin is Literal:
        return "one of", inner
    if origin in (Union, types.UnionType):
        parts = [type_in_words(part) for part in inner]
        choices = tuple(choice for _, part_choices in parts for choice in part_choices)
        return " or ".join(dict.fromkeys(words for words, _ in parts)), choices
    if origin is list or (origin is tuple and inner[-1] is ...):
        words, choices = type_in_words(inner[0])
        return f"list of {PLURALS.get(words, words)}", choices
    if origin is tuple:
        words, choices = type_in_words(inner[0])
        return f"list of {len(inner)} {PLURALS.get(words, words)}", choices
    if origin is dict:
        (keys, first), (values, second) = map(type_in_words, inner)
        return f"mapping of {PLURALS.get(keys, keys)} to {PLURALS.get(values, values)}", (*first, *second)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section", ()
    return PLAIN.get(annotation, str(annotation)), ()


def bounds_in_words(annotation: Any, metadata: list[Any]) -> str:
    """Describe the bounds of a value, of the length of a list, and of its elements.

    Args:
        annotation: annotation of a field.
        metadata: constraints of the field.

    Returns:
        The bounds in words, `""` if there are none.
    """
    inner = [f"each {words}" for words in dict.fromkeys(_inner_bounds(annotation))]
    return ", ".join([*_rules(metadata), *inner])


def _inner_bounds(annotation: Any) -> Iterator[str]:
    if get_origin(annotation) is Annotated:
        for constraint in annotation.__metadata__:
            yield from _rules(getattr(constraint, "metadata", []))
    for part in get_args(annotation):
        yield from _inner_bounds(part)


def _rules(metadata: list[Any]) -> Iterator[str]:
    for rule in metadata:
        for name, words in BOUNDS.items():
            if getattr(rule, name, None) is not None:
                yield words.format(getattr(rule, name))
        if getattr(rule, "min_length", None) is not None:
            yield f"at least {rule.min_length} of them"
        if getattr(rule, "pattern", None) is not None:
            yield f"of the form {rule.pattern}"
        if getattr(rule, "allow_inf_nan", None) is False:
            yield "finite"


def yaml_line(value: Any) -> str:
    """Write a value as YAML on one line."""
    plain = TypeAdapter(Any).dump_python(value, mode="json")
    text = yaml.safe_dump(plain, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
