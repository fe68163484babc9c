"""From InChIKeys to text: keys to CIDs, then properties and synonyms of the CIDs, in lists of 100.

Keys are asked as `property/InChIKey`, since a bare list of CIDs does not say which key it answers. A list
that the service refuses is halved until the wrong identifier is alone; that one counts as not found. An
InChIKey may have several CIDs (salts drawn differently, tautomers that share a standard InChI); the lowest
one that has a name is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from mmgnn_dist.errors import UserError
from mmgnn_dist.pubchem.answers import OLD_PROPERTIES, PUG_PROPERTIES, Kind, rows, text_fields
from mmgnn_dist.pubchem.cache import Cache
from mmgnn_dist.pubchem.client import Client, Refused, TooBroad

REFUSALS = 5  # single identifiers refused in a row; then the service is wrong, not the identifiers
BATCH = 100  # PubChem takes 100 to 200 identifiers a list
FIELD_NAMES = ("iupac_name", "title", "synonyms")  # a CID with one of them is better than one without
Report = Callable[[int, int, str], None]  # settled identifiers, their total, current step


@dataclass(frozen=True)
class Question:
    """One kind of question.

    Attributes:
        kind: its name in the cache.
        namespace: the kind of its identifiers.
        operations: forms of the request: today's form first, then that of older mirrors.
        what: its name in the progress display.
    """

    kind: str
    namespace: str
    operations: tuple[str, ...]
    what: str


KEYS = Question("keys", "inchikey", ("property/InChIKey",), "InChIKeys")
TEXT = Question(
    "properties",
    "cid",
    tuple("property/" + ",".join(names) for names in (PUG_PROPERTIES, OLD_PROPERTIES)),
    "properties",
)
SYNONYMS = Question("synonyms", "cid", ("synonyms",), "synonyms")


@dataclass
class Compound:
    """PubChem's data on one CID: `fields` by our names, `dates` of the answers (Unix time) by field."""

    cid: int
    fields: dict[str, Any] = field(default_factory=dict)
    dates: dict[str, float] = field(default_factory=dict)

    @property
    def named(self) -> bool:
        """Whether the compound has any name."""
        return any(self.fields.get(name) for name in FIELD_NAMES)


class Lookup:
    """Looks up keys; it asks the service only for what the cache does not have.

    Args:
        client: client of the service.
        cache: cache of its answers.
        max_age: days after which an identifier that the service did not have is asked again.
        report: called with the progress.
    """

    def __init__(self, client: Client, cache: Cache, max_age: float, report: Report):
        self.client, self.cache, self.max_age, self.report = client, cache, max_age, report
        self._operations: dict[str, list[str]] = {}
        self._refused: list[str] = []  # identifiers refused since the last answer, not stored yet

    def cids(self, keys: list[str]) -> dict[str, list[int]]:
        """Return the CIDs of each InChIKey that PubChem has, ascending."""
        self._settle(KEYS, keys)
        cids_by_key: dict[str, set[int]] = {}
        for _, body, names in self.cache.answers(KEYS.kind, keys):
            for cid, row in rows(body):
                if row.get("inchikey") in names:
                    cids_by_key.setdefault(row["inchikey"], set()).add(cid)
        return {key: sorted(cids) for key, cids in cids_by_key.items()}

    def compounds(self, cids: list[int]) -> dict[int, Compound]:
        """Return PubChem's data on each CID."""
        names = [str(cid) for cid in cids]
        self._settle(TEXT, names)
        self._settle(SYNONYMS, names)
        compounds = {cid: Compound(cid) for cid in cids}
        for date, body, settled in self.cache.answers(TEXT.kind, names):
            for cid, row in rows(body):
                if str(cid) in settled:
                    _add(compounds[cid], text_fields(row), date)
        for date, body, settled in self.cache.answers(SYNONYMS.kind, names):
            for cid, row in rows(body):
                if str(cid) in settled:
                    _add(compounds[cid], {"synonyms": _synonyms(row)}, date)
        return compounds

    def _settle(self, question: Question, identifiers: list[str]) -> None:
        """Ask for the identifiers that the cache does not have."""
        pending = self.cache.open_questions(question.kind, identifiers, self.max_age)
        total = len(identifiers)
        start = done = total - len(pending)
        found_count = 0

        def note(words: str) -> None:
            share = f"{found_count / (done - start):.0%} of those asked found" if done > start else ""
            self.report(done, total, ", ".join(filter(None, (question.what, share, words))))

        self.client.note = note
        note("")
        for first in range(0, len(pending), BATCH):
            batch = pending[first : first + BATCH]
            found_count += self._ask(question, batch)
            done += len(batch)
            note("")
        self._store_refused(question)

    def _ask(self, question: Question, batch: list[str]) -> int:
        """Settle one list; return how many identifiers were found."""
        why = ""
        operations = self._operations.setdefault(question.kind, list(question.operations))
        for operation in list(operations):
            try:
                kind, body = self.client.ask(question.namespace, batch, operation)
            except Refused as error:
                why = why or str(error)
                continue
            except TooBroad:
                break
            operations.sort(key=lambda other: other != operation)  # put the form that works first
            found_identifiers = set(_held(question, body)) & set(batch) if kind is Kind.FOUND else set()
            self.cache.store(question.kind, batch, found_identifiers, body)
            self._store_refused(question)
            return len(found_identifiers)
        if len(batch) == 1:
            self._refused += batch
            if len(self._refused) >= REFUSALS:
                raise UserError(
                    f"{self.client.base_url} refuses whatever it is asked ({why}): check --base-url"
                )
            return 0
        half = len(batch) // 2
        return self._ask(question, batch[:half]) + self._ask(question, batch[half:])

    def _store_refused(self, question: Question) -> None:
        """Store the refused identifiers as not found, now that the service has answered others."""
        if self._refused:
            self.cache.store(question.kind, self._refused, set(), b"{}")
            self._refused = []


def _held(question: Question, body: bytes) -> Iterator[str]:
    """Yield the identifiers for which an answer has data."""
    for cid, row in rows(body):
        if question is KEYS:
            if not row.get("inchikey"):  # its key is unknown: never treat this as 'not found'
                raise UserError(
                    f"CID {cid} came without its InChIKey: the service at --base-url is not PUG REST"
                )
            yield str(row["inchikey"])
        elif text_fields(row) if question is TEXT else _synonyms(row):
            yield str(cid)


def _synonyms(row: dict[str, Any]) -> list[str]:
    synonyms = row.get("synonym")
    return [str(name) for name in synonyms if name] if isinstance(synonyms, list) else []


def _add(compound: Compound, fields: dict[str, Any], date: float) -> None:
    compound.fields |= fields
    compound.dates |= dict.fromkeys(fields, date)


def choose(compounds: list[Compound]) -> Compound:
    """Return the first compound with a name, else the first; the compounds of a key ascend by CID."""
    return next((compound for compound in compounds if compound.named), compounds[0])
