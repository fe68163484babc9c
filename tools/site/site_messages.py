"""The messages of the package, and the entries of docs/troubleshooting.md that speak of them.

An entry is a heading of the third level; the line below it that begins with "Messages:" lists fragments in
code type. An entry covers the messages that contain one of its fragments, with `…` for what is filled in.
A message that is made elsewhere (`raise UserError(text)`) has no words of its own: its place covers it, such
as `chem/units.py known_factor`.
"""

from __future__ import annotations

import ast
import functools
import html
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "mmgnn_dist"
PAGE = ROOT / "docs" / "troubleshooting.md"
ENTRY = re.compile(r"(?m)^### (?P<title>.+)\n+Messages: (?P<fragments>(?:.+\n)+)")
FEWEST_LETTERS = 8  # of a message's own words; with fewer it is known by its place


class Unknown(Exception):
    """A fragment is in no message, or a message in no entry."""


@dataclass(frozen=True)
class Message:
    """What a user reads.

    Attributes:
        text: the message, `…` for what is filled in; its place, if it has no words of its own.
        made_elsewhere: whether `text` is a place.
    """

    text: str
    made_elsewhere: bool


@dataclass(frozen=True)
class Entry:
    """An entry of the page.

    Attributes:
        title: its heading.
        fragments: what its messages contain.
    """

    title: str
    fragments: tuple[str, ...]

    def covers(self, message: Message) -> bool:
        """Whether it speaks of a message."""
        return any(fragment in message.text for fragment in self.fragments)


@functools.cache
def messages() -> tuple[Message, ...]:
    """All messages of the package that end in an error of the user, each once."""
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
    kinds = error_kinds(texts.values())
    raised = re.compile(rf"\b(?:{'|'.join(sorted(kinds))})\(")
    found: list[Message] = []
    for path, text in texts.items():
        if raised.search(text):
            tree = ast.parse(text)
            found += messages_of(tree, str(path.relative_to(PACKAGE)), kinds, constants_of(tree))
    return tuple(dict.fromkeys(found))


def error_kinds(texts: Iterable[str]) -> set[str]:
    """Names of `UserError` and of the classes that derive from it."""
    pattern = re.compile(r"^class (\w+)\((\w+)\):", re.MULTILINE)
    bases = dict(pair for text in texts for pair in pattern.findall(text))
    kinds = {"UserError"}
    while more := {name for name, base in bases.items() if base in kinds} - kinds:
        kinds |= more
    return kinds


def constants_of(tree: ast.Module) -> dict[str, str]:
    """Strings that a module gives a name."""
    return {
        node.targets[0].id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    }


def messages_of(
    tree: ast.AST, module: str, kinds: set[str], constants: dict[str, str], function: str = "module"
) -> Iterator[Message]:
    """The messages below a node of a module."""
    for node in ast.iter_child_nodes(tree):
        inner = node.name if isinstance(node, ast.FunctionDef) else function
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in kinds and node.args:
            text = words_of(node.args[0], constants)
            if sum(map(str.isalpha, text)) < FEWEST_LETTERS:
                yield Message(f"{module} {function}", True)
            else:
                yield Message(text, False)
        yield from messages_of(node, module, kinds, constants, inner)


def words_of(node: ast.expr, constants: dict[str, str]) -> str:
    """The text of an expression, `…` for what is known only when the program runs."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(words_of(part, constants) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return words_of(node.value, constants)
    if isinstance(node, ast.Name):
        return constants.get(node.id, "…")
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return words_of(node.left, constants) + words_of(node.right, constants)
    return "…"


def entries(text: str | None = None) -> tuple[Entry, ...]:
    """The entries of the page."""
    page = PAGE.read_text(encoding="utf-8") if text is None else text
    return tuple(
        Entry(found["title"], tuple(re.findall(r"`([^`]+)`", found["fragments"])))
        for found in ENTRY.finditer(page)
    )


def with_messages(text: str) -> str:
    """The page with all messages of each entry in full, so that a search finds them.

    Raises:
        Unknown: an entry has a fragment that is in no message.
    """
    if "\nMessages: " not in text:
        return text

    def in_full(found: re.Match[str]) -> str:
        entry = entries(found[0])[0]
        unused = [part for part in entry.fragments if not any(part in message.text for message in messages())]
        if unused:
            raise Unknown(f"troubleshooting.md, '{entry.title}': no message contains {unused}")
        listed = [
            html.escape(message.text)
            for message in messages()
            if entry.covers(message) and not message.made_elsewhere
        ]
        rows = "".join(f"<li><code>{line}</code></li>" for line in listed)
        told = (
            f'<details class="messages"><summary>{len(listed)} in full</summary><ul>{rows}</ul></details>\n'
        )
        return f"### {found['title']}\n\n{told}\n" if listed else f"### {found['title']}\n"

    return ENTRY.sub(in_full, text)
