"""The page of the command line: every verb with its options, from the parser itself."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass

from site_links import anchor_of


def all_verbs() -> str:
    """Markdown of all verbs, in the order of `mmgnn --help`."""
    from mmgnn_dist.cli.main import make_parser

    found = list(verbs(make_parser()))
    listed = [f"| [`{verb.words}`](#{anchor_of(verb.words)}) | {plain(verb.told)} |" for verb in found]
    pages = (line for verb in found for line in page_of(verb))
    return "\n".join(["| verb | what it does |", "|---|---|", *listed, "", *pages])


@dataclass(frozen=True)
class Verb:
    """A verb that has no verbs of its own.

    Attributes:
        words: the command, such as `mmgnn data split`.
        told: what it does, as in the list of verbs.
        parser: its parser.
    """

    words: str
    told: str
    parser: argparse.ArgumentParser


def verbs(parser: argparse.ArgumentParser, words: str = "mmgnn", told: str = "") -> Iterator[Verb]:
    """All verbs below a parser."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield Verb(words, told, parser)
    for group in groups:
        helps = {action.dest: action.help or "" for action in group._choices_actions}
        for name, inner in group.choices.items():
            yield from verbs(inner, f"{words} {name}", helps.get(name, ""))


def page_of(verb: Verb) -> Iterator[str]:
    """Lines of one verb: usage, what it does, a table of its arguments, its examples."""
    parser = verb.parser
    told = parser.description or verb.told
    usage = re.sub(r"\s+", " ", parser.format_usage().removeprefix("usage: ")).strip()
    yield from (
        f"## {verb.words}",
        "",
        f"{plain(told[:1].upper() + told[1:])}.".replace("..", "."),
        "",
        f"```text\n{usage}\n```",
        "",
    )
    yield from ("| argument | what it does |", "|---|---|")
    for action in parser._actions:
        if action.help is not argparse.SUPPRESS:
            told = action.help or ""
            told = told % (vars(action) | {"prog": parser.prog}) if "%" in told else told
            yield f"| {name_of(action)} | {plain(told)} |"
    yield ""
    if parser.epilog:
        yield f"```text\n{parser.epilog.rstrip()}\n```\n"


def name_of(action: argparse.Action) -> str:
    """An argument as it is written on the command line."""
    choices = "{" + ",".join(map(str, action.choices or ())) + "}"
    value = action.metavar or (choices if action.choices else action.dest.upper())
    if isinstance(value, tuple):
        value = " ".join(value)
    if not action.option_strings:
        return code(str(value))
    takes = "" if action.nargs == 0 else f" {value}"
    return ", ".join(code(option + takes) for option in action.option_strings)


def code(words: str) -> str:
    """Words in code type, for a cell of a table."""
    return "`" + words.replace("|", "\\|") + "`"


def plain(words: str) -> str:
    """Help text as prose of a cell."""
    return re.sub(r"\s+", " ", words).strip().replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
