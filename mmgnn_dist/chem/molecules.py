"""A block of molecules as flat arrays: what every reader yields and every check reads.

Nothing here is one Python object per molecule. A block may hold anything a file can hold (counts that do
not match, unknown elements, NaN): `checks` decides what is set aside.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa


@dataclass(frozen=True)
class Molecules:
    """n molecules in the order of their source.

    Attributes:
        source: name of the file of each molecule, one for all of the block.
        row: row of each molecule in its file, int64 [n].
        id: source ids, large_string [n]; null where the file has none.
        smiles: large_string [n], nullable.
        inchikey: large_string [n], nullable.
        z: atomic numbers of all molecules in a row, int64; 0 where the file's value is no element.
        z_count: number of atomic numbers of each molecule, int64 [n].
        pos: coordinates in Å, flat, float32 or float64; NaN where missing.
        pos_count: number of coordinates of each molecule, int64 [n].
        ragged: whether a molecule has a position that is not a triple, bool [n].
        y: targets in canonical units, float64 [n, T]; NaN where missing.
        excluded: molecules that the data set itself advises not to use, bool [n].
        fault: index into `checks.REASONS` of what the reader found wrong, int8 [n]; 0 where nothing.
        why: the reader's words on its fault, large_string [n], nullable.
        text: columns of text fields as the file has them, n rows.
    """

    source: str
    row: np.ndarray
    id: pa.Array
    smiles: pa.Array
    inchikey: pa.Array
    z: np.ndarray
    z_count: np.ndarray
    pos: np.ndarray
    pos_count: np.ndarray
    ragged: np.ndarray
    y: np.ndarray
    excluded: np.ndarray
    fault: np.ndarray
    why: pa.Array
    text: pa.Table

    def __len__(self) -> int:
        return len(self.row)

    def keep(self, mask: np.ndarray) -> Molecules:
        """The molecules where `mask`, bool [n], holds."""
        chosen = pa.array(mask)
        return replace(
            self,
            row=self.row[mask],
            id=self.id.filter(chosen),
            smiles=self.smiles.filter(chosen),
            inchikey=self.inchikey.filter(chosen),
            z=self.z[np.repeat(mask, self.z_count)],
            z_count=self.z_count[mask],
            pos=self.pos[np.repeat(mask, self.pos_count)],
            pos_count=self.pos_count[mask],
            ragged=self.ragged[mask],
            y=self.y[mask],
            excluded=self.excluded[mask],
            fault=self.fault[mask],
            why=self.why.filter(chosen),
            text=self.text.filter(chosen),
        )
