"""A block of molecules as flat arrays: what every reader yields and every check reads.

There is no Python object per molecule. A block may hold anything that a file can hold (counts that do
not match, unknown elements, NaN); `checks` decides which molecules are set aside.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from mmgnn_dist.chem.states.electronic_state import StatedStates


@dataclass(frozen=True)
class Molecules:
    """n molecules in the order of their source.

    Attributes:
        source: name of the file, the same for the whole block.
        row: row of each molecule in its file, int64 [n].
        id: source ids, large_string [n]; null where the file has none.
        smiles: large_string [n], nullable.
        inchikey: large_string [n], nullable.
        z: atomic numbers of all molecules, concatenated, int64; 0 where the file's value is no element.
        z_count: number of atomic numbers of each molecule, int64 [n].
        pos: coordinates in Å, flat, float32 or float64; NaN where missing.
        pos_count: number of coordinates of each molecule, int64 [n].
        ragged: whether a molecule has a position that is not a triple, bool [n].
        y: targets in canonical units, float64 [n, T]; NaN where missing.
        excluded: molecules that the data set itself advises against, bool [n].
        fault: index into `checks.REASONS` of the fault that the reader found, int8 [n]; 0 for none.
        why: the reader's description of the fault, large_string [n], nullable.
        text: columns of text fields as the file has them, n rows.
        stated: charges and multiplicities as the file states them.
        note: what was done to a molecule otherwise than to most, large_string [n], nullable; None: nothing.
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
    stated: StatedStates
    note: pa.Array | None = None

    def __len__(self) -> int:
        return len(self.row)

    def keep(self, mask: np.ndarray) -> Molecules:
        """Return the molecules where `mask`, bool [n], is true."""
        arrow_mask = pa.array(mask)
        return replace(
            self,
            row=self.row[mask],
            id=self.id.filter(arrow_mask),
            smiles=self.smiles.filter(arrow_mask),
            inchikey=self.inchikey.filter(arrow_mask),
            z=self.z[np.repeat(mask, self.z_count)],
            z_count=self.z_count[mask],
            pos=self.pos[np.repeat(mask, self.pos_count)],
            pos_count=self.pos_count[mask],
            ragged=self.ragged[mask],
            y=self.y[mask],
            excluded=self.excluded[mask],
            fault=self.fault[mask],
            why=self.why.filter(arrow_mask),
            text=self.text.filter(arrow_mask),
            stated=self.stated.keep(mask),
            note=None if self.note is None else self.note.filter(arrow_mask),
        )
