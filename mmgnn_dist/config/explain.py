"""Explanations of every key of a recipe, derived from the typed recipe itself.

`mmgnn recipe`, `docs/recipe.md` and the JSON schema for editors agree, since all three are made from the
fields of the sections: their types, bounds, defaults, descriptions, and the entry `with` of their extra
schema, which lists related keys. If a section has variants (`model.backbone`), variants that define a key in
the same way share one entry.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from mmgnn_dist.config.recipe import Recipe
from mmgnn_dist.config.type_words import bounds_in_words, type_in_words, yaml_line
from mmgnn_dist.errors import UserError, nearest

ANY_NAME = "KEY"  # stands in a dotted key for the names that a user chooses: sweep.space.KEY.low


@dataclass(frozen=True)
class KeyHelp:
    """Explanation of one key.

    Attributes:
        key: dotted name.
        description: what it does, with its unit.
        type: its type in words.
        bounds: its bounds in words, `""` if there are none.
        choices: the values of a choice.
        default: its default as YAML, None if a value must be given.
        goes_with: keys that it depends on, or that depend on it.
        variants: names of the variants of its section that have it, if the section has variants.
    """

    key: str
    description: str
    type: str
    bounds: str
    choices: tuple[Any, ...]
    default: str | None
    goes_with: tuple[str, ...]
    variants: tuple[str, ...] = ()


@dataclass(frozen=True)
class SectionHelp:
    """Explanation of a section.

    Attributes:
        key: dotted name, `""` for the whole recipe.
        description: what it is about.
        sections: the sections in it.
        keys: its keys that are values, not sections.
        variants: names of the variants among which its key `name` chooses, if it has any.
    """

    key: str
    description: str
    sections: list[SectionHelp] = field(default_factory=list)
    keys: list[KeyHelp] = field(default_factory=list)
    variants: tuple[str, ...] = ()

    def walk(self) -> Iterator[SectionHelp]:
        """Yield this section and all sections below it."""
        yield self
        for section in self.sections:
            yield from section.walk()


@cache
def explain_recipe() -> SectionHelp:
    """Explain the whole recipe, with every section and key in it."""
    tree = _section("", Recipe, "A recipe decides what a run computes.")
    return _with_partners(tree, every_key(tree))


def explain_key(key: str) -> SectionHelp | list[KeyHelp]:
    """Explain a section or a key.

    Args:
        key: dotted name.

    Returns:
        The section; or the entries of the key, one unless variants of its section define it differently.

    Raises:
        UserError: if there is no such key; names the nearest one.
    """
    tree = explain_recipe()
    sections = {section.key: section for section in tree.walk()}
    if key in sections:
        return sections[key]
    entries = [entry for entry in every_key(tree) if entry.key == key]
    if entries:
        return entries
    names = [name for name in sections if name] + list(dict.fromkeys(entry.key for entry in every_key(tree)))
    same_end = [name for name in names if name.rpartition(".")[2] == key]
    hint = f" (did you mean '{same_end[0]}'?)" if same_end else nearest(key, names)
    raise UserError(f"there is no key {key}{hint}: 'mmgnn recipe' lists the sections")


def every_key(tree: SectionHelp) -> list[KeyHelp]:
    """Return all keys below a section that are values."""
    return [entry for section in tree.walk() for entry in section.keys]


def recipe_schema() -> dict[str, Any]:
    """Make the JSON schema of a recipe file, for completion and checks in editors.

    Returns:
        The schema of pydantic, except that a backbone other than the default one must be named.
    """
    schema = Recipe.model_json_schema()
    for definition in schema["$defs"].values():
        for name, values in definition.get("properties", {}).items():
            if "discriminator" in values:
                _require_names(schema, values, definition["properties"][name].get("default"))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _require_names(schema: dict[str, Any], choice: dict[str, Any], default: dict[str, Any] | None) -> None:
    """Require `name` in every variant but the default one; otherwise `oneOf` could match several."""
    tag = choice["discriminator"]["propertyName"]
    for name, reference in choice["discriminator"]["mapping"].items():
        if name != (default or {}).get(tag):
            schema["$defs"][reference.rpartition("/")[2]]["required"] = [tag]


def _section(key: str, kind: type[BaseModel], description: str) -> SectionHelp:
    sections, keys = [], []
    for name, info in kind.model_fields.items():
        dotted = f"{key}.{name}" if key else name
        inner = sections_in(info.annotation)
        if len(inner) > 1:
            sections.append(_choice(dotted, inner, info))
        elif inner:
            if get_origin(info.annotation) is dict:
                keys.append(_entry(dotted, info))
                sections.append(_section(f"{dotted}.{ANY_NAME}", inner[0], _title(inner[0])))
            else:
                sections.append(_section(dotted, inner[0], info.description or _title(inner[0])))
        else:
            keys.append(_entry(dotted, info))
    return SectionHelp(key, description, sections, keys)


def _choice(key: str, kinds: list[type[BaseModel]], info: FieldInfo) -> SectionHelp:
    """Explain a section with variants: it has the keys of all of them, equal ones in one entry."""
    entries: dict[KeyHelp, list[str]] = {}
    names = []
    for kind in kinds:
        names.append(kind.model_fields["name"].default)
        for name, inner in kind.model_fields.items():
            if name != "name":
                entries.setdefault(_entry(f"{key}.{name}", inner), []).append(names[-1])
    first = kinds[0].model_fields["name"]
    default = yaml_line(getattr(info.default, "name", None))
    lead = KeyHelp(
        f"{key}.name", first.description or "", "one of", "", tuple(names), default, _partners(first)
    )
    keys = [replace(entry, variants=tuple(variants)) for entry, variants in entries.items()]
    order = list(dict.fromkeys(entry.key for entry in keys))
    keys.sort(key=lambda entry: order.index(entry.key))
    return SectionHelp(key, info.description or "", [], [lead, *keys], tuple(names))


def _entry(key: str, info: FieldInfo) -> KeyHelp:
    words, choices = type_in_words(info.annotation)
    has_default = info.default is not PydanticUndefined
    return KeyHelp(
        key,
        info.description or "",
        words,
        bounds_in_words(info.annotation, info.metadata),
        choices,
        yaml_line(info.default) if has_default else None,
        _partners(info),
    )


def _partners(info: FieldInfo) -> tuple[str, ...]:
    extra = info.json_schema_extra
    partners = extra.get("with") if isinstance(extra, dict) else None
    return tuple(map(str, partners)) if isinstance(partners, list) else ()


def _with_partners(section: SectionHelp, entries: list[KeyHelp]) -> SectionHelp:
    """Make related keys mutual: each key also lists those that list it; `entries` are all of the recipe."""
    keys = [
        replace(key, goes_with=tuple(sorted({*key.goes_with, *_named_by(key, entries)})))
        for key in section.keys
    ]
    return replace(section, keys=keys, sections=[_with_partners(s, entries) for s in section.sections])


def _named_by(key: KeyHelp, entries: list[KeyHelp]) -> Iterator[str]:
    """Yield the keys that list a key as related; of keys with variants, only those that share a variant."""
    for entry in entries:
        apart = key.variants and entry.variants and not set(key.variants) & set(entry.variants)
        if key.key in entry.goes_with and not apart:
            yield entry.key


def _title(kind: type[BaseModel]) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]


def sections_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the sections that a type holds: itself, or those inside of a union, a list or a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [kind for part in get_args(annotation) for kind in sections_in(part)]
