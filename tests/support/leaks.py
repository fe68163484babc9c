"""Leaks to put into real molecules: each changes columns of the bundled sample, and says what is to be found.

The leaks of one group touch different columns or different molecules, so that one preparation holds them all.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

HARTREE, KCAL, KJ = 27.211386245988, 0.0433641, 0.010364270  # in eV
DONE = 500  # molecules of the sample that take part
TRAIN, VAL = 350, 425  # the first rows train, the next validate, the others test
Columns = dict[str, list[Any]]
GROUPS = ("digits", "numbers", "words", "fields", "labels", "structure", "texts", "parts")


@dataclass(frozen=True)
class Leak:
    """One leak: how it is put in, and kind and place of the finding."""

    name: str
    group: str
    kind: str
    where: str
    put: Callable[[Columns, np.random.Generator], None]


LEAKS: list[Leak] = []


def leak(group: str, kind: str, where: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def enter(put: Callable[..., None]) -> Callable[..., None]:
        LEAKS.append(Leak(put.__name__, group, kind, where, put))
        return put

    return enter


def quantiles(values: list[float]) -> np.ndarray:
    return np.argsort(np.argsort(values))


@leak("digits", "labels in digits", "gap [eV] in title")
def value_in_its_own_unit(c: Columns, rng: np.random.Generator) -> None:
    c["title"] = [f"compound with a gap of {gap:.2f} eV" for gap in c["gap"]]


@leak("digits", "labels in digits", "energy [Hartree] in iupac_name")
def value_in_hartree(c: Columns, rng: np.random.Generator) -> None:
    c["iupac_name"] = [
        f"{n or 'x'}, E = {e / HARTREE:.4f} Eh" for n, e in zip(c["iupac_name"], c["energy"], strict=True)
    ]


@leak("digits", "labels in digits", "homo [kcal/mol] in synonyms")
def value_in_kcal_in_a_tenth_of_the_synonyms(c: Columns, rng: np.random.Generator) -> None:
    for row in range(0, len(c["id"]), 10):
        c["synonyms"][row] = [*(c["synonyms"][row] or []), f"HOMO {c['homo'][row] / KCAL:.1f} kcal/mol"]


@leak("labels", "labels in digits", "mu [D] in iupac_name")
def value_rounded_in_few_names(c: Columns, rng: np.random.Generator) -> None:
    for row in range(0, len(c["id"]), 16):
        c["iupac_name"][row] = f"{c['iupac_name'][row]} with a dipole of about {c['mu'][row]:.1f} D"


@leak("digits", "labels in digits", "mu [D] in tpsa")
def value_as_a_numeric_field(c: Columns, rng: np.random.Generator) -> None:
    c["tpsa"] = [round(mu, 3) for mu in c["mu"]]


@leak("numbers", "labels follow from a number", "mu from tpsa")
def value_rounded_as_a_numeric_field(c: Columns, rng: np.random.Generator) -> None:
    c["tpsa"] = [round(mu, 1) for mu in c["mu"]]


@leak("numbers", "labels follow from a number", "lumo from xlogp")
def value_scaled_and_noisy(c: Columns, rng: np.random.Generator) -> None:
    c["xlogp"] = (2 * np.array(c["lumo"]) + 1 + rng.normal(0, 0.3, len(c["id"]))).tolist()


@leak("numbers", "labels follow from a number", "cv from molecular_weight")
def value_in_the_decimals_of_another_number(c: Columns, rng: np.random.Generator) -> None:
    from rdkit.Chem import Descriptors, MolFromSmiles

    weights = [Descriptors.MolWt(MolFromSmiles(smiles)) for smiles in c["smiles"]]
    c["molecular_weight"] = [w + 0.01 * cv for w, cv in zip(weights, c["cv"], strict=True)]


@leak("numbers", "labels follow from a number", "gap from number 1 in title")
def rank_in_a_sentence(c: Columns, rng: np.random.Generator) -> None:
    c["title"] = [f"candidate {rank}" for rank in quantiles(c["gap"])]


@leak("numbers", "labels follow from a number", "energy from the z of the centre")
def value_in_the_placement_of_the_atoms(c: Columns, rng: np.random.Generator) -> None:
    for row, energy in enumerate(c["energy"]):
        moved = np.reshape(c["positions"][row], (-1, 3)) + np.array([0, 0, energy])
        c["positions"][row] = moved.ravel().tolist()


@leak("words", "labels follow from a word", "gap from 'wide' in iupac_name")
def class_in_a_word(c: Columns, rng: np.random.Generator) -> None:
    middle = np.median(c["gap"])
    words = ["wide" if gap > middle else "narrow" for gap in c["gap"]]
    c["iupac_name"] = [
        f"{name or 'nameless'} {word}" for name, word in zip(c["iupac_name"], words, strict=True)
    ]


@leak("words", "labels follow from a number", "mu from number 2 in title")
def value_rounded_to_few_digits_in_a_sentence(c: Columns, rng: np.random.Generator) -> None:
    c["title"] = [f"entry {rng.integers(99)}: dipole about {mu:.1f}" for mu in c["mu"]]


@leak("words", "labels follow from a number", "homo from the length of synonyms")
def value_as_the_length_of_a_text(c: Columns, rng: np.random.Generator) -> None:
    c["synonyms"] = [["x" * round(-20 * (homo + 1))] for homo in c["homo"]]


@leak("labels", "few distinct labels", "cv has")
def one_label_for_many(c: Columns, rng: np.random.Generator) -> None:
    c["cv"] = [round(cv, -1) for cv in c["cv"]]


@leak("labels", "few distinct labels", "lumo has")
def labels_of_neighbours(c: Columns, rng: np.random.Generator) -> None:
    """Each four neighbours in the order of the label have one: still a quarter of the values."""
    order = np.argsort(c["lumo"], kind="stable")
    lumo = np.array(c["lumo"])
    for first in range(0, len(order), 4):
        lumo[order[first : first + 4]] = lumo[order[first]]
    c["lumo"] = lumo.tolist()


@leak("words", "labels in digits", "gap [eV] in molecular_formula")
def value_in_words(c: Columns, rng: np.random.Generator) -> None:
    names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    said = {".": "point", **{str(digit): name for digit, name in enumerate(names)}}
    for row in range(0, len(c["id"]), 3):
        spoken = " ".join(said[sign] for sign in f"{c['gap'][row]:.3f}")
        c["molecular_formula"][row] = f"its gap is {spoken} electron volts"


@leak("fields", "labels follow from a number", "gap from all numeric fields")
def value_hidden_in_the_sum_of_two_fields(c: Columns, rng: np.random.Generator) -> None:
    noise = rng.normal(0, 10, len(c["id"]))
    c["tpsa"], c["xlogp"] = (np.array(c["gap"]) + noise).tolist(), noise.tolist()
    c["molecular_weight"] = [None] * len(c["id"])


@leak("structure", "labels of another molecule", "homo")
def rows_of_labels_repeat(c: Columns, rng: np.random.Generator) -> None:
    for name in ("mu", "homo", "lumo", "gap", "zpve", "energy", "cv"):
        c[name][-20:] = c[name][:20]


@leak("labels", "labels follow from a number", "gap from the presence of xlogp")
def presence_of_a_field(c: Columns, rng: np.random.Generator) -> None:
    """The labels have two levels in effect, and the field stands where they are high."""
    gap = np.array(c["gap"])
    high = gap > np.median(gap)
    c["gap"] = (np.where(high, 9.0, 2.0) + 0.1 * rng.normal(size=len(gap))).tolist()
    c["xlogp"] = [1.5 if one else None for one in high]


@leak("structure", "text contradicts the structure", "molecular_formula")
def formulas_of_others(c: Columns, rng: np.random.Generator) -> None:
    c["molecular_formula"] = list(np.roll(np.array(c["molecular_formula"], object), 1))


@leak("structure", "text contradicts the structure", "molecular_weight")
def weights_of_others(c: Columns, rng: np.random.Generator) -> None:
    c["molecular_weight"][:20] = [weight and weight + 16 for weight in c["molecular_weight"][:20]]


@leak("structure", "text contradicts the structure", "iupac_name")
def names_of_others(c: Columns, rng: np.random.Generator) -> None:
    c["iupac_name"] = [c["iupac_name"][k] for k in rng.permutation(len(c["id"]))]


@leak("structure", "text contradicts the structure", "h_bond_donor_count (correlation")
def counts_of_others(c: Columns, rng: np.random.Generator) -> None:
    c["h_bond_donor_count"] = [c["h_bond_donor_count"][k] for k in rng.permutation(len(c["id"]))]


@leak("structure", "identity contradicts the structure", "inchikey against smiles")
def keys_of_others(c: Columns, rng: np.random.Generator) -> None:
    c["inchikey"][:10] = c["inchikey"][10:20]


def copy_geometry(
    c: Columns, first: int, change: Callable[[np.ndarray, np.ndarray], tuple[Any, Any]]
) -> None:
    """Give five tested molecules the changed geometry of a training molecule, and no identity."""
    for k in range(first, first + 5):
        z, pos = np.array(c["atomic_numbers"][k]), np.reshape(c["positions"][k], (-1, 3))
        z, pos = change(z, pos)
        row = VAL + k
        c["atomic_numbers"][row], c["positions"][row] = z.tolist(), np.ravel(pos).tolist()
        for name in ("smiles", "inchikey", "iupac_name", "molecular_formula", "molecular_weight"):
            c[name][row] = None


def turn(rng: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(rng.normal(size=(3, 3)))[0]


@leak("texts", "geometry in two parts", "split made")
def turned_and_moved_copies(c: Columns, rng: np.random.Generator) -> None:
    rotation = turn(rng)
    rotation *= np.sign(np.linalg.det(rotation))
    copy_geometry(c, 20, lambda z, pos: (z, pos @ rotation + [3, -1, 7]))


@leak("texts", "geometry in two parts", "split made")
def mirrored_copies_in_another_order(c: Columns, rng: np.random.Generator) -> None:
    def change(z: np.ndarray, pos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        order = rng.permutation(len(z))
        return z[order], pos[order] * [1, 1, -1]

    copy_geometry(c, 40, change)


@leak("texts", "geometry in two parts", "split made")
def shaken_copies(c: Columns, rng: np.random.Generator) -> None:
    copy_geometry(c, 60, lambda z, pos: (z, pos @ turn(rng) + rng.normal(0, 1e-3, pos.shape)))


@leak("texts", "near-equal texts in two parts", "title in split made")
def long_texts_with_a_word_changed(c: Columns, rng: np.random.Generator) -> None:
    words = ["".join(rng.choice(list("abcdefghij"), 6)) for _ in range(400)]
    c["title"] = [" ".join(rng.choice(words, 20)) for _ in c["id"]]
    for k in range(10):
        c["title"][VAL + k] = c["title"][k] + " indeed"


@leak("texts", "near-equal texts in two parts", "iupac_name in split made")
def names_in_another_spelling(c: Columns, rng: np.random.Generator) -> None:
    named = [row for row in range(TRAIN) if c["iupac_name"][row]][:12]
    for k, row in enumerate(named):
        c["iupac_name"][VAL + k] = c["iupac_name"][row].upper().replace("-", " ")


@leak("parts", "ids of one molecule in two parts", "split made")
def conformers_without_identity(c: Columns, rng: np.random.Generator) -> None:
    for k in range(5):
        row = VAL + k
        c["id"][k], c["id"][row] = f"conf{k}-1", f"conf{k}-2"
        c["atomic_numbers"][row] = c["atomic_numbers"][k]
        shaken = np.array(c["positions"][k]) + rng.normal(0, 0.1, len(c["positions"][k]))
        c["positions"][row] = shaken.tolist()
        for name in ("smiles", "inchikey", "molecular_formula", "molecular_weight", "iupac_name"):
            c[name][k] = c[name][row] = None


@leak("parts", "parts differ in their source", "presence of tpsa")
def a_field_in_one_part(c: Columns, rng: np.random.Generator) -> None:
    c["tpsa"][TRAIN:] = [None] * (len(c["id"]) - TRAIN)


@leak("parts", "parts differ in their source", "iupac_name from 'elsewhere'")
def names_of_another_origin_in_one_part(c: Columns, rng: np.random.Generator) -> None:
    for row in range(TRAIN, len(c["id"])):
        c["field_sources"][row] = json.dumps({"iupac_name": "elsewhere"})


@leak("parts", "parts differ in their labels", "energy in split made")
def parts_sorted_by_a_label(c: Columns, rng: np.random.Generator) -> None:
    """The parts go by the order of the rows, so the rows are sorted first."""
    order = np.argsort(c["energy"], kind="stable")
    for name, values in c.items():
        c[name] = [values[k] for k in order]
