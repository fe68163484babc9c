"""Audit of splits: overlaps between the parts of a split by identity, by scaffold and by identical text.

For every pair of parts the share is the fraction of molecules of the later part (in the order train, val,
test) whose identity, scaffold or text also occurs in the earlier part, among those that have one. A molecule
without InChIKey and SMILES has no identity here: its id is unique, so it says nothing about overlaps. Groups
are compared by 64-bit hashes: among 10^8 molecules the probability of a false overlap is about 10^-4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from mmgnn_dist.data.shardset.groups import NONE, scaffold_names, string_hashes, structures, text_hashes
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.data.shardset.splits import PARTS, load_split, split_folds, split_info, split_names
from mmgnn_dist.errors import UserError, nearest

WAYS = ("identity", "scaffold", "text")


@dataclass(frozen=True)
class Overlap:
    """Overlap of two parts of a fold.

    Attributes:
        split, fold: split and fold of the parts.
        first, second: the earlier and the later part.
        way: `identity`, `scaffold` or `text`.
        groups: number of groups that occur in both parts.
        molecules: number of molecules of the second part in one of these groups.
        of: number of molecules of the second part that have a group.
    """

    split: str
    fold: int
    first: str
    second: str
    way: str
    groups: int
    molecules: int
    of: int

    @property
    def share(self) -> float:
        """Fraction of the second part that overlaps with the first."""
        return self.molecules / self.of if self.of else 0.0


def audit(
    shards: ShardSet, splits: Sequence[str] | None = None, fields: Sequence[str] | None = None
) -> list[Overlap]:
    """All overlaps of some splits.

    Args:
        shards: the shard set.
        splits: names of stored splits; None for all of them.
        fields: text fields whose combination is the text of a molecule; None: all that the set has.

    Raises:
        UserError: no such split or field, no stored split, or a split that does not fit the shard set.
    """
    fields = fields or shards.text_fields
    for field in fields:
        if field not in shards.text_fields:
            allowed = ", ".join(shards.text_fields)
            raise UserError(
                f"no text field '{field}'{nearest(field, shards.text_fields)}; there are: {allowed}"
            )
    names = list(splits or split_names(shards))
    if not names:
        raise UserError(f"{shards.path} has no split: make one with 'mmgnn data split'")
    parts = {
        (name, fold): load_split(shards, name, fold)
        for name in names
        for fold in range(split_folds(shards, name))
    }
    groups = {
        "identity": string_hashes(structures(shards)),
        "scaffold": string_hashes(scaffold_names(shards)),
        "text": text_hashes(shards, fields),
    }
    return [
        _overlap(name, fold, first, second, way, groups[way][rows[first]], groups[way][rows[second]])
        for (name, fold), rows in parts.items()
        for way in WAYS
        for first, second in combinations(PARTS, 2)
    ]


def above_limits(shards: ShardSet, overlaps: Sequence[Overlap], most: dict[str, float | None]) -> list[str]:
    """Describe the overlaps above their limits.

    Args:
        shards: the shard set.
        overlaps: result of `audit`.
        most: allowed share by way; None: the promise of the split, that is no shared identity, and in a
            scaffold split no shared scaffold.

    Returns:
        One phrase for each overlap above its limit.
    """
    phrases = []
    for overlap in overlaps:
        limit = most.get(overlap.way)
        if limit is None:
            promised = overlap.way == "identity" or (
                overlap.way == "scaffold" and split_info(shards, overlap.split).get("kind") == "scaffold"
            )
            limit = 0.0 if promised else 1.0
        if overlap.share > limit:
            phrases.append(
                f"{overlap.split} fold {overlap.fold}: {overlap.molecules} of {overlap.of} molecules of "
                f"{overlap.second} share their {overlap.way} with {overlap.first} (allowed {limit:g})"
            )
    return phrases


def _overlap(
    split: str,
    fold: int,
    first: str,
    second: str,
    way: str,
    first_groups: np.ndarray,
    second_groups: np.ndarray,
) -> Overlap:
    first_groups, second_groups = first_groups[first_groups != NONE], second_groups[second_groups != NONE]
    shared = np.intersect1d(first_groups, second_groups)
    molecules = int(np.isin(second_groups, shared).sum())
    return Overlap(split, fold, first, second, way, len(shared), molecules, len(second_groups))
