"""The composition of a molecule by its SMILES, formula or InChI, compared with the atoms of its geometry.

SMILES of the organic subset are counted here, implicit hydrogens included (OpenSMILES, section 3.1.5): that
takes a fifth of RDKit's time. RDKit counts the others, and every SMILES that seems to contradict the atoms.
Isotopes count as their element.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from importlib.util import find_spec

import numpy as np
import pyarrow as pa

from mmgnn_dist.chem.checks import OTHER_ATOMS, REASONS
from mmgnn_dist.chem.elements import MAX_Z, NUMBERS, SYMBOLS, element_number

Composition = dict[int, int]  # atoms by atomic number
TOKEN = re.compile(r"Cl|Br|[BCNOPSFI]|[bcnops]|\[[^\[\]]*\]|%\d\d|[-=#$:/\\().\d]")
BRACKET = re.compile(r"\[\d*([A-Z][a-z]?|[a-z][a-z]?)@{0,2}(?:[A-Z]{2}\d+)?(H(\d?))?[-+]*\d*(?::\d+)?\]")
AROMATIC = frozenset("cnos")
DIGITS = frozenset("0123456789%")
VALENCES = {"B": (3,), "C": (4,), "N": (3,), "O": (2,), "P": (3,), "S": (2,)} | dict.fromkeys(
    ("F", "Cl", "Br", "I"), (1,)
)
# SMILES of usual atoms and bonds alone: their hydrogens follow from the numbers of letters
SIMPLE = re.compile(r"[CNOF()=#1-9]+")
SIMPLE_ELEMENTS = (1, 6, 7, 8, 9)
ORDERS = {"-": 1, "=": 2, "#": 3, "/": 1, "\\": 1}
FORMULA_PART = re.compile(r"([A-Z][a-z]?)(\d*)")
FORMULA = re.compile(r"(?:[A-Z][a-z]?\d*)+")
CHARGE = re.compile(r"[-+]+\d*$")
INCHI = re.compile(r"InChI=1S?/([^/]+)")
PROTONS = re.compile(r"/p([-+]\d+)")
MAX_TEXT = 2000  # characters of a SMILES or formula that is looked at
HYDROGEN = 1
# names, in lower case, of the columns that state which atoms a molecule has; of each kind the first is read
FORMULA_COLUMNS = ("molecular_formula", "formula", "mol_formula", "chemical_formula", "sum_formula")
STATING = {"SMILES": ("smiles",), "formula": FORMULA_COLUMNS, "InChI": ("inchi",)}


def stating_columns(names: Iterable[str]) -> dict[str, str]:
    """Return the column of each kind in `STATING` that there is, whatever the case of its name."""
    names_of = {name.lower(): name for name in names}
    chosen = {
        kind: next((word for word in words if word in names_of), None) for kind, words in STATING.items()
    }
    return {kind: names_of[word] for kind, word in chosen.items() if word}


def formula_counts(text: str) -> Composition | None:
    """Return the composition of a formula such as `C2H6O`, `NH4+` or `C6H6.H2O`; None for any other text."""
    counts: Counter[int] = Counter()
    if re.fullmatch(r"[A-Z][a-z]?\d+[-+]", text.strip()):  # in Ca2+, 2 is the charge; in O2-, perhaps not
        return None
    for part in CHARGE.sub("", text.strip()).replace("·", ".").split("."):
        times = re.match(r"\d*", part)
        unit = part[times.end() :] if times else part
        if not FORMULA.fullmatch(unit):
            return None
        for symbol, number in FORMULA_PART.findall(unit):
            z = element_number(symbol)
            if not z:
                return None
            counts[z] += int(number or 1) * int((times and times[0]) or 1)
    return dict(counts) or None


def inchi_counts(text: str) -> Composition | None:
    """Return the composition of an InChI, by its formula and its protons; None for any other text."""
    match = INCHI.match(text.strip())
    counts = formula_counts(match[1]) if match else None
    protons = sum(int(number) for number in PROTONS.findall(text))
    if counts and protons:
        counts[HYDROGEN] = counts.get(HYDROGEN, 0) + protons
    return {z: n for z, n in counts.items() if n} if counts else None


def _simple_counts(smiles: str) -> list[int]:
    """Return the numbers of H, C, N, O and F of a SMILES that is `SIMPLE` and has no unusual valence."""
    count = smiles.count
    c, n, o, f = count("C"), count("N"), count("O"), count("F")
    rings = sum(map(count, "123456789")) // 2
    pairs = c + n + o + f - 1 + rings + count("=") + 2 * count("#")
    return [4 * c + 3 * n + 2 * o + f - 2 * pairs, c, n, o, f]


def quick_counts(smiles: str) -> Composition | None:
    """Return the composition of a SMILES of the organic subset, None where RDKit has to count."""
    tokens = TOKEN.findall(smiles)
    if sum(map(len, tokens)) != len(smiles):
        return None
    symbols, orders = list[str](), list[int]()  # of each atom: its symbol, and the sum of its bond orders
    previous, order = -1, 0
    branches, rings = list[int](), dict[str, tuple[int, int]]()
    for token in tokens:
        if token in ORDERS:
            order = ORDERS[token]
        elif token == "(":
            branches.append(previous)
        elif token == ")" and branches:
            previous = branches.pop()
        elif token == ".":
            previous = -1
        elif token in ":$)":
            return None
        elif token[0] in DIGITS:
            if token in rings:
                other, other_order = rings.pop(token)
                strength = order or other_order or 1
                orders[previous] += strength
                orders[other] += strength
            else:
                rings[token] = previous, order
            order = 0
        else:
            symbols.append(token)
            orders.append(0)
            if previous >= 0:
                orders[previous] += order or 1
                orders[-1] += order or 1
            previous, order = len(symbols) - 1, 0
        if previous < 0 and token != ".":
            return None
    return None if rings or branches else _with_hydrogens(symbols, orders)


def _with_hydrogens(symbols: list[str], orders: list[int]) -> Composition | None:
    """Count atoms and their hydrogens; None where an atom has a valence that is not usual."""
    counts: Counter[int] = Counter()
    for symbol, order in zip(symbols, orders, strict=True):
        if symbol[0] == "[":
            match = BRACKET.fullmatch(symbol)
            z = element_number(match[1]) if match else 0
            if match is None or not z:
                return None
            counts[z] += 1
            counts[HYDROGEN] += int(match[3] or 1) if match[2] else 0
        elif symbol in VALENCES:
            valence = next((most for most in VALENCES[symbol] if most >= order), None)
            if valence is None:
                return None
            counts[NUMBERS[symbol]] += 1
            counts[HYDROGEN] += valence - order
        elif symbol in AROMATIC:
            counts[element_number(symbol)] += 1
            counts[HYDROGEN] += max(3 - order, 0) if symbol == "c" else 0
        else:
            return None
    return {z: n for z, n in counts.items() if n} or None


def smiles_counts(smiles: str) -> Composition | None:
    """Return the composition of a SMILES by RDKit; None if it cannot read it, or an atom is no element."""
    if not find_spec("rdkit"):
        return None
    from rdkit import rdBase

    from mmgnn_dist.chem.rdkit_tools import chem

    with rdBase.BlockLogs():
        mol = chem().MolFromSmiles(smiles)
    counts: Counter[int] = Counter()
    for atom in mol.GetAtoms() if mol is not None else ():
        counts[atom.GetAtomicNum()] += 1
        counts[HYDROGEN] += atom.GetTotalNumHs()
    return {z: n for z, n in counts.items() if n} if counts and 0 not in counts else None


def formula_of(counts: Composition) -> str:
    """Return the Hill formula: carbon, hydrogen, then by symbol."""
    carbon = 6 in counts
    order = sorted(counts, key=lambda z: (not (carbon and z == 6), not (carbon and z == 1), SYMBOLS[z]))
    return "".join(SYMBOLS[z] + (str(counts[z]) if counts[z] > 1 else "") for z in order)


@lru_cache(maxsize=8192)
def _stated(kind: str, text: str, hydrogens: int) -> Composition | None:
    """Return the composition that a text states; RDKit counts again if `hydrogens`, of the atoms, differ."""
    if len(text) > MAX_TEXT:
        return None
    if kind == "SMILES":
        quick = quick_counts(text)
        return quick if quick and quick.get(HYDROGEN, 0) == hydrogens else smiles_counts(text)
    return inchi_counts(text) if kind == "InChI" else formula_counts(text)


def contradictions(
    z: np.ndarray, z_count: np.ndarray, stated: dict[str, pa.Array], fault: np.ndarray, why: list[str | None]
) -> None:
    """Record molecules whose SMILES, formula or InChI has another composition than their atoms.

    Args:
        z: atomic numbers of all molecules, concatenated, int64; molecules with other numbers are passed over.
        z_count: number of atoms of each molecule, int64 [n].
        stated: large_string [n] of each of "SMILES", "formula" and "InChI" that the source has; null where
            there is none.
        fault: index into `checks.REASONS` of the fault of each molecule, int8 [n]; it receives new ones.
        why: the description of each fault, [n]; it receives both formulas.
    """
    ends = np.cumsum(z_count)
    given = {kind: values.to_pylist() for kind, values in stated.items() if values.null_count < len(values)}
    if not given:
        return
    known = (z >= 1) & (z <= MAX_Z)
    atom_of = np.repeat(np.arange(len(z_count)), z_count)
    simple = np.zeros((len(z_count), len(SIMPLE_ELEMENTS)), np.int64)
    for place, element in enumerate(SIMPLE_ELEMENTS):
        simple[:, place] = np.bincount(atom_of[z == element], minlength=len(z_count))
    smiles = given.get("SMILES")
    if smiles is not None:  # most molecules are done here
        alone = simple.sum(axis=1) == z_count
        for row, (text, own) in enumerate(zip(smiles, simple.tolist(), strict=True)):
            if text and alone[row] and SIMPLE.fullmatch(text) and _simple_counts(text) == own:
                smiles[row] = None
    waiting = {row for values in given.values() for row, text in enumerate(values) if text}
    for row in sorted(waiting):
        part = slice(ends[row] - z_count[row], ends[row])
        if fault[row] or not z_count[row] or not known[part].all():
            continue
        texts = [(kind, values[row]) for kind, values in given.items() if values[row]]
        atoms = dict(Counter(z[part].tolist()))
        for kind, text in texts:
            counts = _stated(kind, text.strip(), atoms.get(HYDROGEN, 0))
            if counts is not None and counts != atoms:
                fault[row] = REASONS.index(OTHER_ATOMS)
                why[row] = f"{formula_of(counts)} by its {kind}, {formula_of(atoms)} by its atoms"
                break
