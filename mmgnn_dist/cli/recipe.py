"""The command-line verb that explains the keys of recipes: recipe."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mmgnn_dist.cli.common import Verbs, add_json, print_result
from mmgnn_dist.errors import EXIT_DONE, UserError

if TYPE_CHECKING:
    from mmgnn_dist.config.explain import KeyHelp, SectionHelp

MARKDOWN_HEAD = """# Keys of a recipe

<!-- Written by `make docs-recipe` from mmgnn_dist/config; change the descriptions there. -->

`mmgnn recipe KEY` prints this for one key or section. Any key can be overridden on the command line by its
dotted name: `train.optim.lr=3e-4`. For completion and checks in an editor, write the schema to a file,
`mmgnn recipe --json-schema > recipe.schema.json`, and begin recipes with the line
`# yaml-language-server: $schema=recipe.schema.json`.
"""


def add_verbs(verbs: Verbs) -> None:
    """Add the parser of the verb."""
    recipe = verbs.add_parser("recipe", help="explain what the keys of a recipe mean and may be")
    recipe.add_argument(
        "key", nargs="?", metavar="KEY", help="a section or a key: train.optim, train.optim.lr (default: all)"
    )
    forms = recipe.add_mutually_exclusive_group()
    add_json(forms)
    forms.add_argument(
        "--json-schema", action="store_true", help="print the JSON schema, for the completion of editors"
    )
    forms.add_argument("--markdown", action="store_true", help="print all keys as Markdown (docs/recipe.md)")
    recipe.set_defaults(action=_recipe)


def _recipe(arguments: argparse.Namespace) -> int:
    from mmgnn_dist.config.explain import SectionHelp, explain_key, explain_recipe, recipe_schema

    if arguments.key and (arguments.json_schema or arguments.markdown):
        raise UserError(f"--json-schema and --markdown print the whole recipe: leave {arguments.key} out")
    if arguments.json_schema:
        print_result(True, recipe_schema(), [])
    elif arguments.markdown:
        print(markdown(explain_recipe()), end="")
    else:
        explanation = explain_key(arguments.key) if arguments.key else explain_recipe()
        if isinstance(explanation, SectionHelp):
            print_result(arguments.json, _section_json(explanation), _section_lines(explanation))
        else:
            result = {"key": explanation[0].key, "entries": [_key_json(entry) for entry in explanation]}
            print_result(arguments.json, result, _key_lines(explanation))
    return EXIT_DONE


def _key_json(entry: KeyHelp) -> dict[str, Any]:
    """Convert one entry of a key to JSON, with the default as a value."""
    import yaml

    default = None if entry.default is None else yaml.safe_load(entry.default)
    return asdict(entry) | {"default": default, "required": entry.default is None}


def _section_json(section: SectionHelp) -> dict[str, Any]:
    return {
        "section": section.key,
        "description": section.description,
        "sections": {inner.key: inner.description for inner in section.sections},
        "keys": [_key_json(entry) for entry in section.keys],
    }


def _section_lines(section: SectionHelp) -> Iterator[str]:
    """Yield the lines of a section: one for each inner section and key if the terminal is wide enough."""
    yield f"{section.key}: {section.description}" if section.key else section.description
    if section.sections:
        yield ""
        yield from _columns([(inner.key, "", inner.description) for inner in section.sections])
    for variant, keys in _by_variant(section):
        yield ""
        if variant:
            yield f"name: {variant}"
        yield from _columns([(entry.key, _default(entry), entry.description) for entry in keys])
    yield ""
    yield "mmgnn recipe KEY explains a section or a key"


def _by_variant(section: SectionHelp) -> Iterator[tuple[str, list[KeyHelp]]]:
    """Yield the keys of a section: those that it always has, then those of each variant."""
    always = [entry for entry in section.keys if not entry.variants]
    if always:
        yield "", always
    for variant in section.variants:
        yield variant, [entry for entry in section.keys if variant in entry.variants]


def _columns(rows: list[tuple[str, str, str]]) -> Iterator[str]:
    """Yield rows of three columns; the last column is wrapped to the width of the terminal."""
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    lead = 2 + first + 2 + (second + 2 if second else 0)
    width = max(shutil.get_terminal_size((110, 24)).columns, lead + 40)
    for name, value, description in rows:
        start = f"  {name:{first}}  " + (f"{value:{second}}  " if second else "")
        yield textwrap.fill(description, width, initial_indent=start, subsequent_indent=" " * lead)


def _default(entry: KeyHelp) -> str:
    return "(required)" if entry.default is None else entry.default


def _key_lines(entries: list[KeyHelp]) -> Iterator[str]:
    """Yield the lines that explain a key, for each variant if it has some."""
    yield entries[0].key
    for position, entry in enumerate(entries):
        if position:
            yield ""
        rows = [("with name", ", ".join(entry.variants))] if entry.variants else []
        rows += [
            ("about", entry.description),
            ("type", ", ".join(part for part in (entry.type, entry.bounds) if part)),
            ("choices", ", ".join(map(str, entry.choices))),
            ("default", _default(entry)),
            ("goes with", ", ".join(entry.goes_with)),
        ]
        yield from _columns([(name, "", text) for name, text in rows if text])


def markdown(tree: SectionHelp) -> str:
    """Write all keys of a recipe as Markdown.

    Args:
        tree: explanation of the whole recipe.

    Returns:
        The text of `docs/recipe.md`.
    """
    lines = [MARKDOWN_HEAD]
    for section in tree.walk():
        lines += [f"## {section.key or 'The recipe'}", "", _sentence(section.description), ""]
        for variant, keys in _by_variant(section):
            lines += [f"### {section.key}.name: {variant}", ""] if variant else []
            lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
            lines += [_markdown_row(entry) for entry in keys] + [""]
    return "\n".join(lines).rstrip() + "\n"


def _markdown_row(entry: KeyHelp) -> str:
    kind = entry.type
    if entry.choices:
        kind += ": " + ", ".join(f"`{choice}`" for choice in entry.choices)
    if entry.bounds:
        kind += f"; {entry.bounds}" if entry.choices else f", {entry.bounds}"
    meaning = _sentence(entry.description)
    if entry.goes_with:
        meaning += " Goes with " + ", ".join(f"`{key}`" for key in entry.goes_with) + "."
    default = "required" if entry.default is None else f"`{entry.default}`"
    return (
        "| "
        + " | ".join(cell.replace("|", "\\|") for cell in (f"`{entry.key}`", kind, default, meaning))
        + " |"
    )


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."
