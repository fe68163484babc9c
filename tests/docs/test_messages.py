"""docs/troubleshooting.md has an entry for every message of the package, and for no others."""

from __future__ import annotations

import ast

from site_messages import constants_of, entries, messages, messages_of, with_messages

SOURCE = """
AGAIN = "do it again"

def check(name):
    if not name:
        raise UserError(f"no {name} here: {AGAIN}")
    raise TryAgain(text_of(name))
"""


def test_every_message_has_an_entry():
    found = entries()
    without = [message.text for message in messages() if not any(entry.covers(message) for entry in found)]
    assert not without, "add a fragment of each to an entry of docs/troubleshooting.md, or a new entry"


def test_no_entry_speaks_of_a_message_that_is_gone():
    texts = [message.text for message in messages()]
    gone = [(e.title, part) for e in entries() for part in e.fragments if not any(part in t for t in texts)]
    assert not gone


def test_messages_are_read_from_the_source():
    tree = ast.parse(SOURCE)
    found = list(messages_of(tree, "a.py", {"UserError", "TryAgain"}, constants_of(tree)))
    assert [message.text for message in found] == ["no … here: do it again", "a.py check"]
    assert [message.made_elsewhere for message in found] == [False, True]


def test_the_site_shows_messages_in_full():
    page = with_messages("### A package is missing\nMessages: `this needs the package`\n\nText.\n")
    assert "<code>this needs the package &#x27;…&#x27;: pip install" in page
    assert page.endswith("Text.\n")
