"""Replicates: one test part for all folds, and training and validation parts that no two folds share.

The errors of a fold then differ from those of another by the training alone, and no training molecule is
shared: the folds are independent replicates of a training, given the test molecules. Groups are dealt out in
their order: the test part first, then training and validation part of each fold, so that more folds leave the
others as they are. A group that has more molecules than its part has room for is not used, so every part has
exactly its size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmgnn_dist.errors import UserError

TRAIN, VAL, TEST, UNUSED = range(4)  # places in the names of parts, and what is in no part


@dataclass(frozen=True)
class ReplicateSizes:
    """Molecules of the parts of a fold: `train` and `val` are its own, `test` is that of all folds."""

    train: int
    val: int
    test: int

    def needed(self, folds: int) -> int:
        """Molecules that all folds need."""
        return self.test + folds * (self.train + self.val)


def deal_replicates(
    codes: np.ndarray, order: np.ndarray, folds: int, sizes: ReplicateSizes, place: object
) -> list[np.ndarray]:
    """Deal groups out to the parts of all folds.

    Args:
        codes: group of each molecule [n].
        order: groups in the order in which they are dealt out.
        folds: number of folds.
        sizes: molecules of the parts.
        place: where the molecules are, for the error.

    Returns:
        Part of each molecule [n] (`TRAIN`, `VAL`, `TEST` or `UNUSED`), for each fold.

    Raises:
        UserError: a part is empty or the molecules do not suffice.
    """
    if min(sizes.train, sizes.val, sizes.test) < 1:
        raise UserError(
            f"replicates of {sizes.train} training, {sizes.val} validation and {sizes.test} test molecules: "
            "every part has at least one"
        )
    counts = np.bincount(codes, minlength=len(order))[order]
    rooms = [sizes.test, *([sizes.train, sizes.val] * folds)]
    part_of = np.full(len(order), -1, np.int64)
    part, room = 0, rooms[0]
    for group, count in zip(order.tolist(), counts.tolist(), strict=True):
        if count > room:
            continue
        part_of[group], room = part, room - count
        if not room:
            part += 1
            if part == len(rooms):
                break
            room = rooms[part]
    if part < len(rooms):
        most = max((len(codes) - sizes.test) // (sizes.train + sizes.val), 0)
        raise UserError(
            f"{place} has {len(codes)} molecules, {folds} replicates need {sizes.needed(folds)} "
            f"({sizes.test} to test, and {sizes.train} + "
            f"{sizes.val} each), and groups stay whole: take at most {most} "
            "--folds, or smaller --train, --val and --test"
        )
    drawn = part_of[codes]
    return [
        np.select([drawn == 0, drawn == 2 * fold + 1, drawn == 2 * fold + 2], [TEST, TRAIN, VAL], UNUSED)
        for fold in range(folds)
    ]
