"""Text of a molecule: each field becomes one short sentence with its label, or nothing where it is absent.

A sentence never holds a placeholder: an absent, empty or NaN value gives None, and what is only a number in
some database (CAS, UNII, ChEBI ...) is left out of the synonyms. `TEMPLATE` is part of the key of token
sidecars: raise it whenever a change here alters any sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import chain

import pyarrow as pa

from mmgnn_dist.data.shards import CONTEXT_FIELDS
from mmgnn_dist.errors import UserError, nearest

TEMPLATE = 1
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
DECIMALS = {"molecular_weight": 2, "xlogp": 1, "tpsa": 1}  # the other numbers are counts

# Marks of a source behind a name: "ethane [HSDB]". Brackets of a name, bicyclo[1.1.1]..., follow no space.
_SOURCE_MARK = re.compile(r"\s+\[[^\]]*\]")
_ACCESSION = re.compile(
    r"""
    \b\d{2,7}-\d{2}-\d\b                             # CAS number
    | \b\d{3}-\d{3}-\d\b                            # EC and EINECS number
    | \b[A-Z]{14}-[A-Z]{10}-[A-Z]\b                  # InChIKey
    | inchi= | smiles: | \bwln:                       # line notations
    | \b(?:cas|cid|sid|nsc|unii|einecs|ec|brn|hsdb|ccris|chebi|chembl|schembl|surecn|dtxsid|dtxcid|fema|rcra|
         akos|mfcd|zinc|drugbank|kegg|refchem|ncgc|bdbm|ai3)[\s:#.-]*(?:no\b\.?|number\b)?[\s:#.-]*\d
    | \bunii[:-] | \bagn-pc- | ^ac1[0-9a-z]{5}$ | \bcaswell\s+no | pesticide\s+chemical\s+code
    | ^(?=[a-z]*\d)(?=\d*[a-z])[0-9a-z]{10}$         # UNII without its mark
    | ^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-           # UUID
    """,
    re.VERBOSE | re.IGNORECASE,
)
# Catalogue numbers have no common form; among synonyms it costs little to lose "macrogol 400" with them.
_CATALOGUE = re.compile(
    r"\d{3} | ^[a-z]{1,6}[\s_.:-]?\d+[a-z]?$ | ^[0-9a-z]{1,4}-[0-9a-z]*\d[0-9a-z-]*\d{2}$",
    re.VERBOSE | re.IGNORECASE,
)


def is_accession(name: str) -> bool:
    """Whether a name is an identifier of a database: CAS, InChIKey, ChEBI, UNII, DTXSID, EINECS, NSC, CID."""
    return _ACCESSION.search(name) is not None


def join_synonyms(synonyms: Iterable[str | None]) -> str | None:
    """Names joined by "; ", each once, without accessions and marks of sources; None if no name is left."""
    kept: dict[str, str] = {}
    for name in chain.from_iterable(
        (synonym or "").split(";") for synonym in synonyms
    ):  # some hold several names
        plain = " ".join(_SOURCE_MARK.sub("", name).split())
        if plain and plain[0] not in "[{" and not is_accession(plain) and not _CATALOGUE.search(plain):
            kept.setdefault(plain.casefold(), plain)
    return "; ".join(kept.values()) or None


def format_number(value: float, decimals: int) -> str:
    """`value` with at most `decimals` decimals: 46.07, 20.2, 20, never -0."""
    text = f"{value:.{decimals}f}"
    if decimals:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def render(table: pa.Table, field: str) -> list[str | None]:
    """The sentence of one field for every molecule of a shard.

    Args:
        table: `Shard.table`.
        field: one of `LABELS`.

    Returns:
        One string a molecule, such as "IUPAC name: propan-2-one.", or None where the field is absent.

    Raises:
        UserError: no such field.
    """
    if field not in LABELS:
        raise UserError(f"no text field '{field}'{nearest(field, LABELS)}; there are: {', '.join(LABELS)}")
    return [None if value is None else f"{LABELS[field]}: {value}." for value in _values(table, field)]


def _values(table: pa.Table, field: str) -> list[str | None]:
    if field in CONTEXT_FIELDS:
        context = table.column("context").combine_chunks()
        numbers = context.values.to_numpy().reshape(len(context), -1)[:, CONTEXT_FIELDS.index(field)]
        decimals = DECIMALS.get(field, 0)
        return [
            format_number(x, decimals) if x == x else None for x in numbers.tolist()
        ]  # NaN differs from itself
    raw = table.column(field).to_pylist()
    if field == "synonyms":
        return [join_synonyms(names) if names else None for names in raw]
    texts = [" ".join(text.split()) if text else "" for text in raw]
    if field == "title":  # PubChem titles a compound without a name by an accession
        texts = ["" if is_accession(text) else text for text in texts]
    return [text or None for text in texts]
