"""Outputs of a model by target: one for a number, one logit for each class of a target of kind class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmgnn_dist.data.shardset.shards import ShardSet


@dataclass(frozen=True)
class Heads:
    """Which outputs belong to which target; outputs stand in the order of the targets.

    Attributes:
        classes: names of the classes of each target, empty for a number.
    """

    classes: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, shards: ShardSet, targets: Sequence[str]) -> Heads:
        """The heads for some targets of a shard set."""
        return cls(tuple(tuple(shards.classes.get(name, ())) for name in targets))

    @property
    def numbers(self) -> list[int]:
        """Places of the targets that are numbers."""
        return [place for place, names in enumerate(self.classes) if not names]

    @property
    def classed(self) -> list[int]:
        """Places of the targets that are classes."""
        return [place for place, names in enumerate(self.classes) if names]

    @property
    def repeats(self) -> list[int]:
        """Number of outputs of each target."""
        return [max(len(names), 1) for names in self.classes]

    def outputs(self, place: int) -> slice:
        """The outputs of one target."""
        first = sum(self.repeats[:place])
        return slice(first, first + self.repeats[place])

    @property
    def number_outputs(self) -> list[int]:
        """Outputs of the targets that are numbers, in their order."""
        return [self.outputs(place).start for place in self.numbers]
