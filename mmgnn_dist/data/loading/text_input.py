"""The tokens of a molecule's text in one epoch: prefix, the runs of the chosen fields, suffix.

Field dropout, this epoch's synonym, and the control texts of a study are chosen at loading time from the
existing runs of the sidecars, so no sidecar is made again. A random choice depends on (seed, epoch, row), a
control on (seed, row), so both are the same for any number of processes and after a resume.

Controls do not change which molecules have a text, but `same_formula` and `same_scaffold` leave those without
that find no other:

    zero       the special tokens only: a text without content
    shuffled, same_formula, same_scaffold    the text of another molecule, see `borrowed_text`
    renamed, numbers_masked    the text with other tokens, see `token_maps`
    fingerprint, random_weights    the text; what reads it is another, see `vector_sources`
    random     as many tokens as the text has, each drawn from all ids except special tokens
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmgnn_dist.config import TEXT_FIELDS, Control, TextConfig
from mmgnn_dist.data.loading.borrowed_text import NOBODY
from mmgnn_dist.data.loading.token_maps import MAPPED, token_map
from mmgnn_dist.data.shardset.hashing import draw, mix, uniform
from mmgnn_dist.data.shardset.ragged import GatherPlan, ragged_index
from mmgnn_dist.data.text.token_cache import TokenSet

# Streams of random numbers; no two choices share one.
DROPOUT, SYNONYM, RANDOM = 1, 2, 4


@dataclass(frozen=True)
class TextChoice:
    """How the text of each molecule is changed.

    Attributes:
        seed: seed of all random choices.
        control: kind of control text, see the module docstring.
        dropout: probability of leaving out a field, drawn anew in every epoch.
        sample: draw one synonym in every epoch if the sidecar has a run per synonym; else read the first.
    """

    seed: int = 0
    control: Control = "none"
    dropout: float = 0.0
    sample: bool = False

    @classmethod
    def of(cls, config: TextConfig, seed: int, training: bool) -> TextChoice:
        """Make the choice of a recipe; evaluation reads every field and the first synonym."""
        if not training:
            return cls(seed, config.control)
        return cls(seed, config.control, config.field_dropout, config.sample_synonyms)


class TextInput:
    """Joins the token runs of each molecule to one input.

    Args:
        tokens: the sidecars.
        fields: fields to join, in order.
        starts: global row at which each shard begins, and the end.
        choice: how the text is changed.
        sources: row whose text each molecule reads, `NOBODY` for none, int64 [rows]; None: its own.
    """

    def __init__(
        self,
        tokens: TokenSet,
        fields: Sequence[str],
        starts: np.ndarray,
        choice: TextChoice,
        sources: np.ndarray | None = None,
    ):
        self.tokens, self.fields, self.starts, self.choice = tokens, list(fields), starts, choice
        self._sources = sources
        self._map = token_map(tokens, choice.control) if choice.control in MAPPED else None
        self._prefix, self._suffix = tokens.prefix, tokens.suffix
        if choice.control == "zero":
            self._prefix, self._suffix = np.array(tokens.blank), tokens.suffix[:0]

    @property
    def varies(self) -> bool:
        """Whether the text of a molecule changes from epoch to epoch."""
        return self.choice.dropout > 0 or self.choice.sample

    def read(self, rows: np.ndarray, plan: GatherPlan, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens int64 [K] and offsets [M + 1] of some molecules.

        Args:
            rows: global rows, int64 [M].
            plan: the plan that reads these rows.
            epoch: epoch of the random choices.
        """
        plan = self._of_sources(rows, plan)
        stages = [self._prefix, self._suffix]
        # One row per molecule, one column per piece of its input: where it begins in the stage, its length.
        start = np.zeros((len(rows), len(self.fields) + 2), np.int64)
        count = np.zeros_like(start)
        size = len(stages[0]) + len(stages[1])
        for i, field in enumerate(self.fields, start=1):
            begin, length, stage = self._field(field, rows, plan, epoch)
            start[:, i], count[:, i] = begin + size, length
            stages.append(stage)
            size += len(stage)
        present = count.any(axis=1)
        if self.choice.control == "zero":
            count[:] = 0
        count[:, 0] = len(stages[0]) * present
        start[:, -1] = len(stages[0])
        count[:, -1] = len(stages[1]) * present
        if self.choice.control == "random":
            return self._random(rows, count)
        index, offsets = ragged_index(start.ravel(), count.ravel())
        words = np.concatenate(stages)[index].astype(np.int64)
        return words if self._map is None else self._map[words], offsets[:: start.shape[1]]

    def lengths(self, rows: np.ndarray, plan: GatherPlan, epoch: int) -> np.ndarray:
        """Number of tokens that `read` returns for each molecule, int64 [M]; reads no token."""
        plan = self._of_sources(rows, plan)
        total = np.zeros(len(rows), np.int64)
        for field in self.fields:
            length = self._runs(field, rows, plan, epoch).lengths(
                [run.ptr for run in self.tokens.runs[field]]
            )
            self._leave_out(length, field, rows, epoch)
            total += length
        special = (total > 0) * (len(self._prefix) + len(self._suffix))
        return special if self.choice.control == "zero" else total + special

    def _of_sources(self, rows: np.ndarray, plan: GatherPlan) -> GatherPlan:
        """The plan that reads the molecules whose texts are read; `NOBODY` reads its own, of no length."""
        if self._sources is None:
            return plan
        sources = self._sources[rows]
        return GatherPlan(np.where(sources == NOBODY, rows, sources), self.starts)

    def _field(
        self, field: str, rows: np.ndarray, plan: GatherPlan, epoch: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(where each molecule's run begins in the stage, its length, the stage) for one field."""
        runs, plan = self.tokens.runs[field], self._runs(field, rows, plan, epoch)
        begin, length, (stage,) = plan.ragged([run.ptr for run in runs], [run.values for run in runs])
        self._leave_out(length, field, rows, epoch)
        return begin, length, stage

    def _runs(self, field: str, rows: np.ndarray, plan: GatherPlan, epoch: int) -> GatherPlan:
        """The plan that reads the run of a field that each molecule uses in this epoch."""
        items = [run.items for run in self.tokens.runs[field] if run.items is not None]
        if not items:
            return plan
        seed, sample = self.choice.seed, self.choice.sample
        return plan.one_of(items, uniform((SYNONYM, seed, epoch), rows) if sample else np.zeros(len(rows)))

    def _leave_out(self, length: np.ndarray, field: str, rows: np.ndarray, epoch: int) -> None:
        """Set the length of a field to 0 for molecules that do not read it, or lose it in this epoch."""
        if self.tokens.reads is not None:
            sources = rows if self._sources is None else self._sources[rows]
            length[~self.tokens.reads[field][sources]] = 0
        if self._sources is not None:
            length[self._sources[rows] == NOBODY] = 0
        if self.choice.dropout:
            key = (DROPOUT, self.choice.seed, epoch, _number(field))
            length[uniform(key, rows) < self.choice.dropout] = 0

    def _random(self, rows: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Texts of the same lengths (`count`, as in `read`) with random tokens between the special ones."""
        length = count.sum(axis=1)
        ptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(length)])
        key = draw((RANDOM, self.choice.seed), rows) - ptr[:-1].astype(np.uint64)
        counter = np.repeat(key, length) + np.arange(ptr[-1], dtype=np.uint64)  # key + position in the text
        high = mix(counter) >> np.uint64(32)
        result = self.tokens.ordinary[(high * np.uint64(len(self.tokens.ordinary))) >> np.uint64(32)]
        present = length > 0
        for i, token in enumerate(self._prefix.tolist()):
            result[ptr[:-1][present] + i] = token
        for i, token in enumerate(self._suffix[::-1].tolist(), start=1):
            result[ptr[1:][present] - i] = token
        return result, ptr


def _number(field: str) -> int:
    """The number by which a field has random numbers of its own, whatever other fields there are."""
    if field in TEXT_FIELDS:
        return TEXT_FIELDS.index(field)
    return int.from_bytes(hashlib.sha256(field.encode()).digest()[:6], "big")


def no_text(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Input of molecules whose text is not read: no tokens, and their offsets."""
    return np.empty(0, np.int64), np.zeros(rows + 1, np.int64)
