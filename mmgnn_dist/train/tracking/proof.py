"""What the journal records of a step so that it can be proved: its molecules and the weights it began with.

The loss is in the line with all its bits (the shortest decimal number that has them). The hash of the
molecules covers their row numbers in the shard set and the SHA-256 of the set, and so ids, labels, geometry
and text. The hash of the weights costs a reading of all weights; it is computed every `WEIGHTS_EVERY` steps
and at the steps from which the run can continue.
"""

from __future__ import annotations

import hashlib
import logging
from typing import TypedDict

import numpy as np
import torch
from torch import nn

from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.train.ranks import Ranks
from mmgnn_dist.train.tracking.weights_hash import WeightsHash

WEIGHTS_EVERY = 100  # steps
log = logging.getLogger(__name__)


class ProofFields(TypedDict, total=False):
    """Entries of a line of the journal; the weights are those before the step."""

    molecules_hash: str
    weights_hash: str
    copies_differ: bool  # only where the weights of the ranks are not the same


class StepProof:
    """Hashes the molecules and the weights of the steps of a run.

    Args:
        shards: the shard set.
        model: the model, sharded or not.
        ranks: this process among all ranks.

    Attributes:
        also: further numbers of steps done at which the weights are hashed, as in the run that is verified.
    """

    def __init__(self, shards: ShardSet, model: nn.Module, ranks: Ranks) -> None:
        self._set = bytes.fromhex(shards.sha256)
        self._weights = WeightsHash(model, ranks)
        self._sums: torch.Tensor | None = None
        self.also: frozenset[int] = frozenset()

    def begin(self, step: int, saved: bool) -> None:
        """Hash the weights before a step if they are due; all ranks call this.

        Args:
            step: number of steps done.
            saved: whether the run can continue from these weights.
        """
        due = saved or step % WEIGHTS_EVERY == 0 or step in self.also
        self._sums = self._weights.begin() if due else None

    def fields(self, rows: np.ndarray) -> ProofFields:
        """Return the entries of the step that was begun.

        Args:
            rows: molecules of the global batch, int64 [G].
        """
        fields: ProofFields = {"molecules_hash": molecules_hash(rows, self._set)}
        if self._sums is not None:
            fields["weights_hash"], same = self._weights.finish(self._sums)
            if not same:
                fields["copies_differ"] = True
                log.error("the ranks no longer have the same weights")
        return fields


def molecules_hash(rows: np.ndarray, shard_set: bytes) -> str:
    """Return BLAKE2b-64 of row numbers (little-endian int64, in their order), keyed with a set's SHA-256."""
    content = np.ascontiguousarray(rows, "<i8").tobytes()
    return hashlib.blake2b(content, digest_size=8, key=shard_set).hexdigest()
