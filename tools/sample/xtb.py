"""Geometries and labels: RDKit embedding, GFN2-xTB relaxation, numerical Hessian, ideal-gas Cv.

Positions are in Å and energies in eV throughout; tblite works in Bohr and Hartree, and the
conversion happens in `Surface` alone.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.optimize import BFGS
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import AllChem
from scipy import constants
from tblite.exceptions import TBLiteRuntimeError
from tblite.interface import Calculator as TBLiteCalculator
from tblite.interface import Result

Array = NDArray[np.float64]

BOHR = constants.value("Bohr radius") * 1e10  # Å
HARTREE = constants.value("Hartree energy in eV")  # eV
DEBYE = constants.value("atomic unit of electric dipole mom.") * constants.c * 1e21  # D per e*Bohr
CM1 = constants.h * constants.c * 100 / constants.e  # eV per cm-1
GAS = constants.R / constants.calorie  # cal/mol/K
TEMPERATURE = 298.15  # K
# eV/(Å^2 u) -> cm-1 is sqrt(lambda) times this.
WAVENUMBER = np.sqrt(constants.e * 1e20 / constants.atomic_mass) / (2 * np.pi * constants.c * 100)

FMAX = 0.01  # eV/Å, largest force left after relaxation
FMAX_REPEAT = 0.002  # eV/Å; on a flat torsion the usual limit is met before the saddle is left behind
MAX_STEPS = 250
STEP = 0.005  # Å, displacement of the numerical Hessian
IMAGINARY = 20.0  # cm-1; an imaginary mode above this is no minimum
MAX_REPEATS = 2  # relaxations from a step along an imaginary mode; two methyl rotors need both
MIN_GAP = 0.5  # eV; below it the closed-shell single-reference picture is meaningless
BONDED, APART = 1.25, 1.20  # times the sum of covalent radii
RADII = {1: 0.31, 6: 0.76, 7: 0.71, 8: 0.66, 9: 0.57}  # Å, Cordero et al. 2008


class Dropped(Exception):
    """A molecule that cannot be labelled; the message is the reason that is counted."""


class Surface(Calculator):
    """GFN2-xTB energy (eV) and forces (eV/Å) of one molecule, each SCF started from the last one."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def __init__(self, numbers: Array, positions: Array) -> None:
        super().__init__()
        self.tb = TBLiteCalculator("GFN2-xTB", numbers, positions / BOHR)
        self.tb.set("verbosity", 0)
        # Tighter than the default, because the Hessian differentiates these gradients.
        self.tb.set("accuracy", 0.1)
        self.last: Result | None = None

    def evaluate(self, positions: Array) -> Result:
        """Run the SCF at `positions` (Å); raise `Dropped` if it does not converge."""
        try:
            self.tb.update(positions / BOHR)
            self.last = self.tb.singlepoint(self.last)
        except TBLiteRuntimeError as error:
            raise Dropped("SCF not converged") from error
        return self.last

    def gradient(self, positions: Array) -> Array:
        """dE/dx in eV/Å at `positions` (Å)."""
        return self.evaluate(positions).get("gradient") * (HARTREE / BOHR)

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        """Entry point that ASE's optimizer calls."""
        super().calculate(atoms, properties, system_changes)
        result = self.evaluate(self.atoms.positions)
        self.results = {
            "energy": float(result.get("energy")) * HARTREE,
            "forces": -result.get("gradient") * (HARTREE / BOHR),
        }


def embed(mol: Chem.Mol, seed: int, conformers: int = 5) -> Array:
    """Positions (Å) of the lowest of a few MMFF94-minimized ETKDGv3 conformers."""
    params = AllChem.ETKDGv3()
    params.randomSeed = seed
    ids = list(AllChem.EmbedMultipleConfs(mol, conformers, params))
    if not ids:
        raise Dropped("no 3-D embedding")
    best = ids[0]
    if AllChem.MMFFHasAllMoleculeParams(mol):
        energies = [energy for _, energy in AllChem.MMFFOptimizeMoleculeConfs(mol, maxIters=500)]
        best = ids[int(np.argmin(energies))]
    return mol.GetConformer(best).GetPositions()


def relax(surface: Surface, numbers: Array, positions: Array, fmax: float) -> Array:
    """Positions (Å) after BFGS down to `fmax` (eV/Å, the largest force on an atom)."""
    atoms = Atoms(numbers, positions, calculator=surface)
    if not BFGS(atoms, logfile=None, maxstep=0.15).run(fmax=fmax, steps=MAX_STEPS):
        raise Dropped("relaxation not converged")
    return atoms.get_positions()


def check_bonds(mol: Chem.Mol, positions: Array) -> None:
    """Raise `Dropped` unless the bonds seen in `positions` (Å) are exactly those of `mol`."""
    radii = np.array([RADII[atom.GetAtomicNum()] for atom in mol.GetAtoms()])
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    ratio = distance / (radii[:, None] + radii[None])
    bonded = Chem.GetAdjacencyMatrix(mol).astype(bool)
    others = ~bonded & ~np.eye(len(radii), dtype=bool)
    if (ratio[bonded] > BONDED).any() or (ratio[others] < APART).any():
        raise Dropped("bonds changed in relaxation")


def hessian(surface: Surface, positions: Array, step: float = STEP) -> Array:
    """Second derivatives (eV/Å^2), by central differences of analytic gradients `step` Å either side."""
    size = positions.size
    result = np.empty((size, size))
    for i in range(size):
        shift = np.zeros(size)
        shift[i] = step
        shift = shift.reshape(positions.shape)
        difference = surface.gradient(positions + shift) - surface.gradient(positions - shift)
        result[i] = difference.ravel() / (2 * step)
    return (result + result.T) / 2


def rigid_modes(masses: Array, positions: Array) -> Array:
    """Orthonormal mass-weighted translations and rotations, as columns: 6, or 5 if linear."""
    centred = positions - masses @ positions / masses.sum()
    weights = np.sqrt(masses)[:, None]
    moves = [np.broadcast_to(axis, centred.shape) for axis in np.eye(3)]
    moves += [np.cross(axis, centred) for axis in np.eye(3)]
    stacked = np.stack([(weights * move).ravel() for move in moves], axis=1)
    # A linear molecule leaves a rotation about its axis; a relative cut finds it.
    vectors, values, _ = np.linalg.svd(stacked, full_matrices=False)
    return vectors[:, values > 1e-2 * values[0]]


def vibrations(masses: Array, positions: Array, second: Array) -> tuple[Array, Array, int]:
    """Wavenumbers (cm-1, imaginary ones negative), Cartesian modes (rows), number of rotations."""
    inverse = np.repeat(1 / np.sqrt(masses), 3)
    rigid = rigid_modes(masses, positions)
    full = np.linalg.qr(rigid, mode="complete")[0]
    inner = full[:, rigid.shape[1] :]
    values, vectors = np.linalg.eigh(inner.T @ (inverse[:, None] * second * inverse) @ inner)
    waves = np.sign(values) * np.sqrt(np.abs(values)) * WAVENUMBER
    return waves, (inner @ vectors).T * inverse, rigid.shape[1] - 3


def thermal(waves: Array, rotations: int) -> tuple[float, float]:
    """ZPVE (eV) and Cv (cal/mol/K, rigid rotor and harmonic oscillator) from wavenumbers (cm-1)."""
    quanta = np.abs(waves) * CM1
    x = quanta / (constants.k / constants.e * TEMPERATURE)
    vibration = np.sum((x / 2 / np.sinh(x / 2)) ** 2)
    return float(quanta.sum() / 2), float(GAS * (1.5 + rotations / 2 + vibration))


def electronic(result: Result) -> dict[str, float]:
    """Dipole norm (D), HOMO, LUMO and gap (eV), total energy (eV)."""
    levels = result.get("orbital-energies") * HARTREE
    occupied = result.get("orbital-occupations") > 1
    homo, lumo = round(float(levels[occupied].max()), 4), round(float(levels[~occupied].min()), 4)
    return {
        "mu": float(np.linalg.norm(result.get("dipole"))) * DEBYE,
        "homo": homo,
        "lumo": lumo,
        "gap": round(lumo - homo, 4),
        "energy": float(result.get("energy")) * HARTREE,
    }


def label(smiles: str, seed: int) -> dict[str, object]:
    """Geometry and labels of one molecule; raises `Dropped` with the reason otherwise."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()])
    positions = embed(mol, seed)
    surface = Surface(numbers, positions)
    masses = Atoms(numbers).get_masses()
    repeats = 0
    while True:
        positions = relax(surface, numbers, positions, FMAX_REPEAT if repeats else FMAX)
        check_bonds(mol, positions)
        values = electronic(surface.evaluate(positions))
        if values["gap"] < MIN_GAP:
            raise Dropped(f"gap below {MIN_GAP} eV")
        waves, modes, rotations = vibrations(masses, positions, hessian(surface, positions))
        if waves[0] > -IMAGINARY:
            break
        if repeats == MAX_REPEATS:
            raise Dropped("imaginary mode left")
        repeats += 1
        direction = modes[0].reshape(-1, 3)
        positions = positions + 0.2 * direction / np.abs(direction).max()
    zpve, cv = thermal(waves, rotations)
    centred = positions - masses @ positions / masses.sum()
    return {
        "atomic_numbers": numbers.tolist(),
        "positions": np.round(centred, 4).ravel().tolist(),
        **values,
        "zpve": zpve,
        "cv": cv,
        "lowest": float(waves[0]),
        "repeats": repeats,
    }
