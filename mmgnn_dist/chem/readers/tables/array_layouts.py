"""Layouts of public data sets in arrays: the names of their arrays, their units, and what they call the
energy.

shared    numbers [n], positions [m, n, 3]: conformers of one molecule or formula (SPICE, ANI-1x, rMD17)
padded    numbers [m, n], positions [m, n, 3]: molecules of several sizes, with zeros behind the smaller ones
packed    number of atoms [m], numbers [total], positions [total, 3]: molecules one after the other
single    numbers [n], positions [n, 3]: one molecule
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mmgnn_dist.chem.readers.tables.array_files import Arrays, StoredArray, array_texts
from mmgnn_dist.chem.readers.tables.geometry import NUMBER_NAMES, POSITION_NAMES
from mmgnn_dist.chem.units import BOHR_ANGSTROM

LENGTHS = {"ang": 1.0, "angstrom": 1.0, "å": 1.0, "bohr": BOHR_ANGSTROM, "a0": BOHR_ANGSTROM, "nm": 10.0}  # Å
ARRAY_POSITIONS = (*POSITION_NAMES, "conformations", "atxyz")
ARRAY_NUMBERS = (*NUMBER_NAMES, "atnum")
ATOM_COUNTS = ("n", "natoms", "n_atoms", "num_atoms")


@dataclass(frozen=True)
class PublishedLayout:
    """The conventions of a published data set.

    Attributes:
        name: its name.
        sign: arrays that every group has, by which it is recognised.
        length: unit of its positions, Å.
        energy: the array that is the target `energy`.
        unit: unit of that array.
    """

    name: str
    sign: frozenset[str]
    length: float
    energy: str
    unit: str


PUBLISHED = (
    PublishedLayout(
        "SPICE",
        frozenset({"atomic_numbers", "conformations", "dft_total_energy"}),
        BOHR_ANGSTROM,
        "dft_total_energy",
        "Hartree",
    ),
    PublishedLayout(
        "ANI-1x",
        frozenset({"atomic_numbers", "coordinates", "wb97x_dz.energy"}),
        1.0,
        "wb97x_dz.energy",
        "Hartree",
    ),
    PublishedLayout(
        "rMD17", frozenset({"nuclear_charges", "coords", "energies"}), 1.0, "energies", "kcal/mol"
    ),
    PublishedLayout("MD17", frozenset({"z", "R", "E", "F"}), 1.0, "E", "kcal/mol"),
)


@dataclass(frozen=True)
class ArrayLayout:
    """Which arrays of a group hold its molecules.

    Attributes:
        form: one of the four forms above.
        positions: array of positions.
        numbers: array of atomic numbers or symbols.
        counts: array of the numbers of atoms, in the packed form.
    """

    form: str
    positions: str
    numbers: str
    counts: str = ""

    def rows(self, arrays: Arrays) -> int:
        """Return the number of molecules in a group."""
        if self.form == "single":
            return 1
        return int(arrays[self.counts or self.positions].shape[0])


def array_layout(arrays: Arrays) -> ArrayLayout | None:
    """Recognise the layout of a group of arrays; None if it holds no molecules in one of the forms."""
    positions = _named(arrays, ARRAY_POSITIONS)
    numbers = _named(arrays, ARRAY_NUMBERS)
    if positions is None or numbers is None:
        return None
    place, atoms = arrays[positions].shape, arrays[numbers].shape
    if place[-1:] != (3,):
        return None  # such as [molecules, 3, atoms]
    if len(place) == 3 and len(atoms) == 1:
        return ArrayLayout("shared", positions, numbers)
    if len(place) == 3 and len(atoms) == 2 and place[:2] == atoms:
        return ArrayLayout("padded", positions, numbers)
    if len(place) == 2 and len(atoms) == 1 and place[0] == atoms[0]:
        counts = _named(arrays, ATOM_COUNTS)
        if counts is not None and len(arrays[counts].shape) == 1:
            return ArrayLayout("packed", positions, numbers, counts)
        return ArrayLayout("single", positions, numbers)
    return None


def published_layout(arrays: Arrays) -> PublishedLayout | None:
    """Return the published layout that a group of arrays has, if any."""
    return next((layout for layout in PUBLISHED if layout.sign <= set(arrays)), None)


def stored_unit(arrays: Arrays, name: str) -> str:
    """Return the unit that a file gives for an array, "" if none.

    HDF5 files have it as an attribute, MD17's as the arrays r_unit and e_unit.
    """
    attributes: Any = getattr(arrays[name], "attrs", {})
    for key in ("units", "unit"):
        if key in attributes:
            return array_texts(attributes[key])[0].strip()
    key = {"R": "r_unit", "E": "e_unit"}.get(name, "")
    return array_texts(arrays[key][()])[0].strip() if key in arrays else ""


def is_scalar_column(array: StoredArray, rows: int) -> bool:
    """Whether an array has one number for each of the rows."""
    shape = array.shape
    one = shape in ((rows,), (rows, 1)) or (rows == 1 and shape == ())
    return one and array.dtype.kind in "iuf"


def is_text_column(array: StoredArray, rows: int) -> bool:
    """Whether an array has one text for each of the rows, or one for all."""
    metadata: Any = array.dtype.metadata or {}  # h5py's strings of any length
    return (array.dtype.kind in "SU" or metadata.get("vlen") in (str, bytes)) and array.shape in (
        (rows,),
        (rows, 1),
        (1,),
        (),
    )


def _named(arrays: Arrays, names: tuple[str, ...]) -> str | None:
    by_name = {key.lower(): key for key in arrays}
    return next((by_name[name] for name in names if name in by_name), None)
