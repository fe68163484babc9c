"""Control texts of other molecules: whose text each molecule reads.

    shuffled      any other molecule with text: one cycle through all of them
    same_formula  a molecule of equal composition and another identity: the text tells what the atoms are, and
                  nothing true beyond that
    same_scaffold a molecule of equal Bemis-Murcko scaffold and another identity; without a ring there is none

Within a group every molecule with text lends its text once, so the texts stay the same as a whole. A molecule
that is alone in its group, or whose group has too few other identities, reads no text; it is counted.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mmgnn_dist.config import Control
from mmgnn_dist.data.shardset.groups import NONE, formula_hashes, identities, scaffold_names, string_hashes
from mmgnn_dist.data.shardset.hashing import draw
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.errors import UserError

NOBODY = -1  # source of a molecule that reads no text
# Streams of random numbers, beside those of `text_input`.
SHUFFLE, BORROW = 3, 5


def scaffold_hashes(shards: ShardSet) -> np.ndarray:
    """Hash of the scaffold of each molecule, uint64 [rows]; `NONE` without rings or SMILES."""
    return string_hashes(scaffold_names(shards))


GROUPS: dict[str, Callable[[ShardSet], np.ndarray]] = {
    "same_formula": formula_hashes,
    "same_scaffold": scaffold_hashes,
}
LENT = ("shuffled", *GROUPS)  # controls that read the text of another molecule


def text_sources(shards: ShardSet, has_text: np.ndarray, control: Control, seed: int) -> np.ndarray:
    """Find the molecule whose text each molecule reads.

    Args:
        shards: the molecules.
        has_text: which of them have text, bool [rows].
        control: kind of control text, one of `LENT`.
        seed: seed of the random choice.

    Returns:
        Global rows, int64 [rows], `NOBODY` for a molecule that reads no text although it has one.

    Raises:
        UserError: no molecule with text has another one to read.
    """
    if control == "shuffled":
        return partners(has_text, seed)
    sources = lent(GROUPS[control](shards), string_hashes(identities(shards)), has_text, seed)
    if not (sources[has_text] >= 0).any():
        raise UserError(
            f"text.control={control} needs molecules with text of equal {control.removeprefix('same_')} and "
            f"different identity, and {shards.path} has none: leave this control out"
        )
    return sources


def partners(has_text: np.ndarray, seed: int) -> np.ndarray:
    """The molecule whose text each molecule reads if texts are shuffled, int64 [rows].

    One cycle passes through all molecules with text, so none keeps its own text; the others stay without.

    Raises:
        UserError: fewer than two molecules have text.
    """
    rows = np.flatnonzero(has_text)
    if len(rows) < 2:
        raise UserError(
            f"text.control=shuffled needs two molecules with text, not {len(rows)}: take other text.fields"
        )
    order = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, SHUFFLE]))).permutation(rows)
    result = np.arange(len(has_text))
    result[order] = np.roll(order, 1)
    return result


def lent(groups: np.ndarray, identity: np.ndarray, has_text: np.ndarray, seed: int) -> np.ndarray:
    """Draw for each molecule another one of its group and of another identity.

    The molecules of a group are put in a random order that keeps identities together, and each reads the text
    of the one that stands as many places further as the largest identity has molecules. This is never its own
    identity unless that makes up more than half of the group.

    Args:
        groups: group of each molecule, uint64 [rows]; `NONE` for a molecule without a group.
        identity: hash of its identity, uint64 [rows].
        has_text: which molecules have text, bool [rows].
        seed: seed of the order.

    Returns:
        Row of the other molecule, int64 [rows]; `NOBODY` where there is none; its own row without text.
    """
    result = np.arange(len(groups))
    result[has_text] = NOBODY
    rows = np.flatnonzero(has_text & (groups != NONE))
    keys = draw((BORROW, seed), identity[rows])
    rows = rows[np.lexsort((rows, keys, groups[rows]))]
    if not len(rows):
        return result
    _, start, group = np.unique(groups[rows], return_index=True, return_inverse=True)
    size = np.bincount(group)
    begins = np.flatnonzero(_differs(group) | _differs(identity[rows]))
    run = np.diff(np.r_[begins, len(rows)])  # molecules of each identity in each group
    shift = np.zeros(len(start), np.int64)
    np.maximum.at(shift, group[begins], run)
    place = np.arange(len(rows)) - start[group]
    other = rows[start[group] + (place + shift[group]) % size[group]]
    result[rows] = np.where(identity[other] == identity[rows], NOBODY, other)
    return result


def _differs(values: np.ndarray) -> np.ndarray:
    """Where a value is not that before it, bool [n]."""
    return np.r_[True, values[1:] != values[:-1]]


def told(sources: np.ndarray, has_text: np.ndarray, control: Control) -> str:
    """Say how many molecules read the text of another one, and how many read none for want of one."""
    nobody = int((sources[has_text] == NOBODY).sum())
    return (
        f"text.control={control}: {int(has_text.sum()) - nobody:,} molecules read the text of another one"
        + (f", {nobody:,} with text have no other of their group and read none" if nobody else "")
    )
