"""The content of a shard set in the form that the searches read: flat arrays and lists of texts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from mmgnn_dist.data.shardset.shards import CONTEXT_FIELDS, ShardSet

SYNONYM_SEPARATOR = "; "  # between the synonyms of a molecule in one text
NO_TEXT = ("id", "smiles", "inchikey", "field_sources")  # columns of strings that no model reads


@dataclass(frozen=True)
class Content:
    """A shard set with N molecules, T targets and A atoms; everything is read when it is first asked for."""

    shards: ShardSet

    @cached_property
    def ids(self) -> np.ndarray:
        """Ids, object [N]."""
        return self.shards.ids()

    @cached_property
    def y(self) -> np.ndarray:
        """Targets in their units, float64 [N, T], NaN where missing."""
        return np.concatenate([shard.y for shard in self.shards.shards])

    @cached_property
    def z(self) -> np.ndarray:
        """Atomic numbers, uint8 [A]."""
        return np.concatenate([shard.z for shard in self.shards.shards])

    @cached_property
    def pos(self) -> np.ndarray:
        """Positions in Å, float32 [A, 3]."""
        return np.concatenate([shard.pos for shard in self.shards.shards])

    @cached_property
    def sizes(self) -> np.ndarray:
        """Atoms of each molecule, int64 [N]."""
        return np.concatenate([np.diff(shard.ptr) for shard in self.shards.shards])

    @cached_property
    def owner(self) -> np.ndarray:
        """Molecule of each atom, int64 [A]."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)

    @cached_property
    def elements(self) -> np.ndarray:
        """Atomic numbers that occur, int64 [E]."""
        return np.unique(self.z).astype(np.int64)

    @cached_property
    def composition(self) -> np.ndarray:
        """Number of atoms of each of `elements`, int64 [N, E]."""
        columns = len(self.elements)
        cells = self.owner * columns + np.searchsorted(self.elements, self.z)
        return np.bincount(cells, minlength=len(self.sizes) * columns).reshape(-1, columns)

    @cached_property
    def context(self) -> dict[str, np.ndarray]:
        """Numeric text fields, float64 [N], NaN where missing."""
        table = np.concatenate([shard.context for shard in self.shards.shards]).astype(np.float64)
        return {name: table[:, place] for place, name in enumerate(CONTEXT_FIELDS)}

    @cached_property
    def texts(self) -> dict[str, list[str]]:
        """Text fields of words, the synonyms of a molecule in one text; '' where missing."""
        texts = {}
        for field in self.shards.shards[0].table.schema:
            column = self.shards.column(field.name)
            if field.name == "synonyms":
                texts[field.name] = [
                    SYNONYM_SEPARATOR.join(filter(None, names or [])) for names in column.to_pylist()
                ]
            elif pa.types.is_large_string(field.type) and field.name not in NO_TEXT:
                texts[field.name] = [text or "" for text in column.to_pylist()]
        return {name: words for name, words in texts.items() if any(words)}

    @cached_property
    def prose(self) -> dict[str, list[str]]:
        """The texts but for the formula, which is the composition itself."""
        return {name: words for name, words in self.texts.items() if name != "molecular_formula"}
