"""Text of a molecule: one short labelled sentence per field, or nothing where the field is absent.

A sentence never contains a placeholder: an absent, empty or NaN value gives None. Database identifiers (CAS,
UNII, ChEBI ...) are left out of the synonyms. The recipe may replace a sentence (`text.template`). `TEMPLATE`
is part of the key of token sidecars: raise it whenever a change alters any sentence, or its tokens.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import pyarrow as pa

from mmgnn_dist.data.shardset.shards import CONTEXT_FIELDS
from mmgnn_dist.errors import UserError, nearest

TEMPLATE = 3
NAME_END = ";"  # stands between two synonyms, and in none
LABELS: dict[str, str] = {
    "iupac_name": "IUPAC name",
    "title": "Name",
    "molecular_formula": "Formula",
    "molecular_weight": "Molecular weight",
    "xlogp": "XLogP",
    "h_bond_donor_count": "H-bond donors",
    "h_bond_acceptor_count": "H-bond acceptors",
    "rotatable_bond_count": "Rotatable bonds",
    "tpsa": "Polar surface area",
    "synonyms": "Synonyms",
}
Cut = Literal["tokens", "words", "blanks", "names"]
# in the names of sidecars; earlier versions knew the first two
_CUT_MARKS: dict[Cut, bool | str] = {"tokens": False, "words": True, "blanks": "blanks", "names": "names"}
DECIMALS = {"molecular_weight": 2, "xlogp": 1, "tpsa": 1}  # the other numbers are counts

# Source marks after a name: "ethane [HSDB]". Brackets within a name, bicyclo[1.1.1]..., follow no space.
_SOURCE_MARK = re.compile(r"\s+\[[^\]]*\]")
_ACCESSION = re.compile(
    r"""
    \b\d{2,7}-\d{2}-\d\b                             # CAS number
    | \b\d{3}-\d{3}-\d\b                            # EC and EINECS number
    | \b[A-Z]{14}-[A-Z]{8}[SN]A\b                    # InChIKey, also without its last letter
    | inchi= | smiles: | \bwln:                       # line notations
    | \b(?:cas|cid|sid|nsc|unii|einecs|ec|brn|hsdb|ccris|chebi|chembl|schembl|surecn|dtxsid|dtxcid|fema|rcra|
         akos|mfcd|zinc|drugbank|kegg|refchem|ncgc|bdbm|ai3)[\s:#.-]*(?:no\b\.?|number\b)?[\s:#.-]*\d
    | \bunii[:-] | \bagn-pc- | ^ac1[0-9a-z]{5}$ | \bcaswell\s+no | pesticide\s+chemical\s+code
    | ^(?=[a-z]*\d)(?=\d*[a-z])[0-9a-z]{10}$         # UNII without its mark
    | ^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-           # UUID
    """,
    re.VERBOSE | re.IGNORECASE,
)
# Catalogue numbers have no common form; the loss of names such as "macrogol 400" costs little.
_CATALOGUE = re.compile(
    r"""
    \d{3} | ^[a-z]{1,6}[\s_.:-]?\d+[a-z]?$ | ^[0-9a-z]{1,4}-[0-9a-z]*\d[0-9a-z-]*\d{2}$
    | \bno\.\s?\d | ^usaf\b
    | ^(?=[a-z]*\d)[0-9a-z]{3}$ | ^\d[0-9a-z]{3}$     # ligands and entries of the PDB
    """,
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(frozen=True)
class Wording:
    """Settings that determine the tokens of a field, besides the tokenizer.

    Attributes:
        field: name of the field.
        sentence: sentence with a placeholder for the value.
        budget: most tokens of a run; None: a text is read whole.
        each: make one run per synonym.
        cut: where a text of more tokens than `budget` is cut: after any token; between two words, or within
            the first if it is too long; at blanks alone; between two names of a list.
    """

    field: str
    sentence: str
    budget: int | None
    each: bool = False
    cut: Cut = "tokens"

    @property
    def record(self) -> dict[str, str | int | bool | None]:
        """What the manifest of the sidecar says of the wording."""
        words = {"field": self.field, "sentence": self.sentence}
        return {**words, "budget": self.budget, "each": self.each, "whole_words": _CUT_MARKS[self.cut]}

    @property
    def place(self) -> str:
        """Name of the folder of the sidecar."""
        parts = json.dumps([self.sentence, self.budget, self.each, _CUT_MARKS[self.cut]])
        return f"{self.field}-{hashlib.sha256(parts.encode()).hexdigest()[:8]}"


def wording_of(
    field: str, sentence: str, budget: int, sample_synonyms: bool = False, total_tokens: int | None = None
) -> Wording:
    """How a field is written and cut.

    Args:
        field: the field.
        sentence: its sentence with a placeholder.
        budget: most tokens that it may have.
        sample_synonyms: make one run per synonym.
        total_tokens: the budget of the joined text; if there is one, no name, formula or number is cut.
    """
    each = sample_synonyms and field == "synonyms"
    if total_tokens is None:
        return Wording(field, sentence, budget, each, "tokens" if field in LABELS else "words")
    if field not in LABELS:
        return Wording(field, sentence, budget, each, "blanks")
    if field == "synonyms" and not each:
        return Wording(field, sentence, budget, each, "names")
    return Wording(field, sentence, None, each)


def is_accession(name: str) -> bool:
    """Whether a name is a database identifier: CAS, InChIKey, ChEBI, UNII, DTXSID, EINECS, NSC, CID."""
    return _ACCESSION.search(name) is not None


def plain_names(synonyms: Iterable[str | None]) -> list[str]:
    """The distinct names among synonyms, without accessions and source marks."""
    kept: dict[str, str] = {}
    for name in chain.from_iterable(
        (synonym or "").split(NAME_END) for synonym in synonyms
    ):  # some hold several names
        plain = " ".join(_SOURCE_MARK.sub("", name).split()).rstrip(" :,")
        if plain and plain[0] not in "[{" and not is_accession(plain) and not _CATALOGUE.search(plain):
            kept.setdefault(plain.casefold(), plain)
    return list(kept.values())


def format_number(value: float, decimals: int) -> str:
    """`value` with at most `decimals` decimals: 46.07, 20.2, 20, never -0."""
    text = f"{value:.{decimals}f}"
    if decimals:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def own_sentences(text_columns: Mapping[str, str]) -> dict[str, str]:
    """The sentences of the own text fields of a shard set: the words of the column are the label.

    Args:
        text_columns: the column of each field, `ShardSet.text_columns`.
    """
    labels = {field: " ".join(column.replace("_", " ").split()) for field, column in text_columns.items()}
    return {
        field: (label[:1].upper() + label[1:]).replace("{", "{{").replace("}", "}}") + ": {value}."
        for field, label in labels.items()
    }


def sentence_of(field: str, template: Mapping[str, str]) -> str:
    """The sentence of a field with a placeholder for its value: the given one, or the built-in one.

    Raises:
        UserError: no such field.
    """
    if field in template:
        return template[field]
    if field not in LABELS:
        names = [*LABELS, *template]
        raise UserError(f"no text field '{field}'{nearest(field, names)}; there are: {', '.join(names)}")
    return LABELS[field] + ": {value}."


def render(table: pa.Table, field: str, template: Mapping[str, str] | None = None) -> list[str | None]:
    """The sentence of one field for every molecule of a shard.

    Args:
        table: `Shard.table`.
        field: one of `LABELS`, or an own field that has a sentence in `template`.
        template: sentences instead of the built-in ones, by field: "XLogP: {value:.2f}.". Numbers get
            the decimals of `DECIMALS` if the sentence has no format.

    Returns:
        One string per molecule, such as "IUPAC name: propan-2-one.", or None where the field is absent.

    Raises:
        UserError: no such field.
    """
    sentence = sentence_of(field, template or {})
    values: list[Any]
    if field in CONTEXT_FIELDS:
        context = table.column("context").combine_chunks()
        numbers = context.values.to_numpy().reshape(len(context), -1)[:, CONTEXT_FIELDS.index(field)].tolist()
        values = [x if x == x else None for x in numbers]  # NaN differs from itself
        if "{value}" in sentence:
            decimals = DECIMALS.get(field, 0)
            values = [None if x is None else format_number(x, decimals) for x in values]
    elif field == "synonyms":
        values = [f"{NAME_END} ".join(names) or None for names in _names(table)]
    else:
        values = _words(table, field)
        if field not in LABELS and sentence.endswith("{value}."):  # free text has its own full stop
            values = [value and (value.rstrip(".").rstrip() or None) for value in values]
    return [None if value is None else sentence.format(value=value) for value in values]


def render_synonyms(
    table: pa.Table, template: Mapping[str, str] | None = None
) -> tuple[list[str | None], list[int]]:
    """One sentence per synonym of every molecule of a shard.

    Args:
        table: `Shard.table`.
        template: as in `render`.

    Returns:
        The sentences, molecule by molecule in the order of its record, with a single None for a molecule
        without synonyms; and the number of entries of each molecule.
    """
    sentence = sentence_of("synonyms", template or {})
    rows: list[list[str | None]] = [
        [sentence.format(value=name) for name in names] or [None] for names in _names(table)
    ]
    return list(chain.from_iterable(rows)), [len(row) for row in rows]


def _names(table: pa.Table) -> list[list[str]]:
    return [plain_names(names or []) for names in table.column("synonyms").to_pylist()]


def _words(table: pa.Table, field: str) -> list[str | None]:
    texts = [" ".join(text.split()) if text else "" for text in table.column(field).to_pylist()]
    if field == "title":  # PubChem titles a compound without a name by an accession
        texts = ["" if is_accession(text) else text for text in texts]
    return [text or None for text in texts]
