"""Names, numbers and identities that contradict the atoms: the text of another molecule.

Formula and weight are compared with the atoms, InChIKey and atoms with the SMILES, names by the elements that
they tell (a name with `fluoro` needs fluorine). PubChem's counts differ from RDKit's in single molecules, so
of these only the correlation is judged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from mmgnn_dist.chem.descriptors import describe, from_atoms
from mmgnn_dist.chem.elements import NUMBERS
from mmgnn_dist.chem.identity import key_maker, smiles_keys
from mmgnn_dist.data.inspect.leaks.content import Content
from mmgnn_dist.data.inspect.leaks.finding import AuditFinding, first_examples

ALLOWED = 0.002  # share of contradictions that databases have
LEAST = 3  # contradictions
CORRELATION = 0.5  # least correlation of a number of the text with RDKit's
SPREAD = 30  # molecules that a correlation needs
WEIGHT = 1.2  # g/mol; average and monoisotopic weights differ by less
KEY_BLOCK = 14  # letters of an InChIKey that encode the connectivity
KIND = "text contradicts the structure"
IDENTITY_KIND = "identity contradicts the structure"
_PIECE = re.compile(r"([A-Z][a-z]?)(\d*)")
_ELEMENTS = {
    "F": re.compile(r"fluor(?!ene|enyl|anthen|enon|escein)"),
    "Cl": re.compile(r"chlor(?!in\b|oph)"),
    "Br": re.compile(r"brom"),
    "I": re.compile(r"iod"),
    "S": re.compile(r"sulf|thia|thio(?!c\b)"),
    "P": re.compile(r"phosph"),
    "N": re.compile(r"nitr|amin[eo]|amide|pyridin|imidazol|pyrrol|azid"),
    "O": re.compile(r"hydroxy|methoxy|ethoxy|carboxyl|furan|oxiran|morpholin|nitro(?!gen)"),
}


def contradicted_structures(content: Content) -> Iterator[AuditFinding]:
    """Yield a finding for each field that contradicts the atoms, and for SMILES and InChIKeys that do."""
    formulas, weights = _of_atoms(content)
    texts, context = content.texts, content.context
    if words := texts.get("molecular_formula"):
        given = [_formula(text) for text in words]
        looked_at = np.array([bool(text) for text in words])
        wrong = np.array([one != _formula(other) for one, other in zip(given, formulas, strict=True)])
        yield from _contradictions(content, KIND, "molecular_formula", looked_at, wrong)
    mass = context["molecular_weight"]
    with np.errstate(invalid="ignore"):
        wrong = np.abs(mass - weights) > WEIGHT
    yield from _contradictions(content, KIND, "molecular_weight", np.isfinite(mass), wrong)
    for field in ("iupac_name", "title"):
        if words := texts.get(field):
            wrong = _names_elements(content, words)
            yield from _contradictions(content, KIND, field, np.array([bool(w) for w in words]), wrong)
    if key_maker():
        yield from _against_smiles(content, formulas)


def _against_smiles(content: Content, formulas: list[str]) -> Iterator[AuditFinding]:
    smiles = content.shards.column("smiles").combine_chunks()
    table, read = describe(smiles, np.zeros(0, np.int64), np.zeros(len(smiles), np.int64))
    if not read.any():
        return
    drawn = table["molecular_formula"].to_pylist()
    wrong = np.array([_formula(a or "") != _formula(b) for a, b in zip(drawn, formulas, strict=True)])
    yield from _contradictions(content, IDENTITY_KIND, "smiles against the atoms", read, wrong)
    stored, made = content.shards.column("inchikey").to_pylist(), smiles_keys(smiles).to_pylist()
    both = np.array([bool(a and b) for a, b in zip(stored, made, strict=True)])
    wrong = np.array(
        [(a or "")[:KEY_BLOCK] != (b or "")[:KEY_BLOCK] for a, b in zip(stored, made, strict=True)]
    )
    yield from _contradictions(content, IDENTITY_KIND, "inchikey against smiles", both, wrong)
    for field in ("h_bond_donor_count", "h_bond_acceptor_count", "rotatable_bond_count", "tpsa", "xlogp"):
        given, computed = content.context[field], table[field].to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(np.isfinite(given) & np.isfinite(computed.astype(np.float64)))
        if len(rows) < SPREAD or min(np.std(given[rows]), np.std(computed[rows])) == 0:
            continue
        agreement = float(np.corrcoef(given[rows], computed[rows])[0, 1])
        if agreement < CORRELATION:
            far = rows[np.argsort(-np.abs(given[rows] - computed[rows]), kind="stable")]
            yield _finding(
                content, KIND, f"{field} (correlation with RDKit's {agreement:.2f})", far, len(rows)
            )


def _contradictions(
    content: Content, kind: str, where: str, looked_at: np.ndarray, wrong: np.ndarray
) -> Iterator[AuditFinding]:
    rows, of = np.flatnonzero(looked_at & wrong), int(looked_at.sum())
    if len(rows) >= max(LEAST, ALLOWED * of):
        yield _finding(content, kind, where, rows, of)


def _finding(content: Content, kind: str, where: str, rows: np.ndarray, of: int) -> AuditFinding:
    advice = "see how the text was joined to the molecules, and join it by InChIKey"
    if kind == IDENTITY_KIND:
        advice = "correct the column or leave it out: splits and joins go by it"
    return AuditFinding(kind, "fault", where, len(rows), of, first_examples(content.ids[rows]), advice)


def _of_atoms(content: Content) -> tuple[list[str], np.ndarray]:
    """(formula, weight in g/mol) of each molecule by its atoms, each composition once."""
    kinds, which = np.unique(content.composition, axis=0, return_inverse=True)
    made = [from_atoms(np.repeat(content.elements, counts)) for counts in kinds]
    which = which.ravel()
    return [made[k][0] or "" for k in which.tolist()], np.array([made[k][1] for k in range(len(made))])[which]


def _formula(text: str) -> dict[str, int]:
    """The atoms of a formula, charge left out, deuterium counted as hydrogen."""
    counts: dict[str, int] = {}
    for symbol, number in _PIECE.findall(text):
        element = "H" if symbol in ("D", "T") else symbol
        counts[element] = counts.get(element, 0) + int(number or 1)
    return counts


def _names_elements(content: Content, names: list[str]) -> np.ndarray:
    """Which names tell an element that the molecule lacks, bool [N]."""
    wrong = np.zeros(len(names), bool)
    lower = [name.casefold() for name in names]
    for symbol, pattern in _ELEMENTS.items():
        place = np.flatnonzero(content.elements == NUMBERS[symbol])
        lacks = content.composition[:, place[0]] == 0 if len(place) else np.ones(len(names), bool)
        for row in np.flatnonzero(lacks).tolist():
            wrong[row] |= pattern.search(lower[row]) is not None
    return wrong
