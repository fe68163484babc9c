"""The chain of a journal: the hash of every line covers the line before, and so all lines before.

    {"kind": "train", "step": 7, ..., "hash": H}     H: BLAKE2b-128 of the hash before and this line without H

An edited, missing, moved or inserted line does not fit. Lines of earlier versions carry no hash; the first
line that has one covers all of them. The chain is not signed: who may write the whole journal can write
another one, with another chain, and only a recomputation of the run tells it from the true one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

BYTES = 16  # of a hash
HASHED = re.compile(r', "hash": "([0-9a-f]{32})"\}$')


@dataclass(frozen=True)
class Link:
    """A line of a journal as a part of its chain.

    Attributes:
        number: number of the line, from 1.
        body: text of the line without its hash.
        hash: the hash that the line carries; None without one.
        fits: whether the hash fits the line and one before it; True for lines of earlier versions.
        after: number of the line elsewhere in the journal that this line was written after, if it is out of
            order.
    """

    number: int
    body: str
    hash: str | None
    fits: bool
    after: int | None = None

    @property
    def text(self) -> str:
        """The line as it is written."""
        return self.body if self.hash is None else _joined(self.body, self.hash)

    @property
    def fault(self) -> str:
        """What is wrong with a line that does not fit."""
        if self.hash is None:
            return "it was inserted: it carries no hash, and lines before it do"
        if self.after is not None:
            return f"it was written after line {self.after}: lines were moved, removed or inserted"
        return "it was altered, or the line before it is missing"


def chained(previous: str, line: Mapping[str, object]) -> tuple[str, str]:
    """Return the text of a new line with its hash, and the hash.

    Args:
        previous: hash of the line before; "" for the first line.
        line: content of the line.
    """
    body = json.dumps(line)
    found = _hash(previous, body)
    return _joined(body, found), found


def read_chain(texts: Sequence[str]) -> list[Link]:
    """Compare the hash of every line of a journal with the lines before it."""
    parts = [_parted(text) for text in texts]
    carried = {found: number for number, (_, found) in enumerate(parts, 1) if found is not None}
    links: list[Link] = []
    begun = False
    heads = [""]  # hashes that the next line may follow: more than one behind lines that do not fit
    for number, (body, found) in enumerate(parts, 1):
        if found is None:
            links.append(Link(number, body, None, fits=not begun))
            if not begun:
                heads = [_hash(heads[-1], body)]
            continue
        begun = True
        if found in (_hash(head, body) for head in heads):
            links.append(Link(number, body, found, fits=True))
            heads = [found]
            continue
        after = next((place for head, place in carried.items() if _hash(head, body) == found), None)
        links.append(Link(number, body, found, fits=False, after=after))
        heads.append(found)
    return links


def rewound(links: Sequence[Link], kept: Sequence[bool]) -> tuple[list[str], str]:
    """Drop lines from a journal and chain the rest anew; a line that did not fit does not fit afterwards.

    Args:
        links: all lines.
        kept: whether each of them stays.

    Returns:
        The texts of the lines that stay, and the hash that the next line covers.
    """
    texts: list[str] = []
    head, dropped = "", False
    for link, stays in zip(links, kept, strict=True):
        if not stays:
            dropped = True
        elif link.hash is None:
            texts.append(link.body)
            head = _hash(head, link.body) if link.fits else head
        else:
            head = _hash(head, link.body) if dropped and link.fits else link.hash
            texts.append(_joined(link.body, head))
    return texts, head


def _hash(previous: str, body: str) -> str:
    return hashlib.blake2b(f"{previous}\n{body}".encode(), digest_size=BYTES).hexdigest()


def _joined(body: str, found: str) -> str:
    return f'{body[:-1]}, "hash": "{found}"}}'


def _parted(text: str) -> tuple[str, str | None]:
    match = HASHED.search(text)
    return (text[: match.start()] + "}", match[1]) if match else (text, None)
