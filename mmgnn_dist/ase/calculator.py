"""The calculator of ASE."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
import torch
from ase import Atoms, units
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.calculator import all_changes

from mmgnn_dist.api.model import TrainedModel, load_model
from mmgnn_dist.api.molecules import TextFields, sources_of
from mmgnn_dist.chem.units import DIMENSIONS
from mmgnn_dist.errors import UserError
from mmgnn_dist.predict.bundle import open_bundle
from mmgnn_dist.predict.fixed_molecule import FixedMolecule, Surface

PREFERRED = ("energy", "u0", "u298", "h298", "g298")  # zpve is no potential energy
DTYPES = {"float64": torch.float64, "float32": torch.float32}


class Calculator(AseCalculator):
    """Energy, forces and dipole moment of a trained model, for one molecule after the other.

    The forces are the negative gradient of the energy. A model that was trained on relaxed geometries knows
    little of the energy beside its minima: see `docs/python.md`.

    Args:
        model: a trained model, or its folder.
        energy: target of the energy, extensive and an energy; None: the first of energy, u0, u298, h298 and
            g298 that the model has, else its only one.
        dipole: target of the dipole moment; None: `mu`, if the model has it. Its sign is not determined,
            because labels are norms.
        text: text fields of the molecule, such as `{"iupac_name": "ethanol"}`.
        dtype: `float64` or `float32`, in which graph, fusion and read-out are computed.

    Raises:
        UserError: there is no such model or target, or the model reads no graph.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "dipole"]
    ignored_changes: ClassVar[set[str]] = {"cell"}

    def __init__(
        self,
        model: TrainedModel | str | Path,
        energy: str | None = None,
        dipole: str | None = None,
        text: TextFields | None = None,
        dtype: str = "float64",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.model = model if isinstance(model, TrainedModel) else load_model(model)
        if not open_bundle(self.model.path, []).model.reads_graph:
            raise UserError(f"{self.model.path} reads no geometry: it has no forces")
        if dtype not in DTYPES:
            raise UserError(f"dtype {dtype}: give one of {', '.join(DTYPES)}")
        self.energy = _energy_target(self.model, energy)
        self.dipole = _dipole_target(self.model, dipole)
        self.text, self.dtype = text or {}, DTYPES[dtype]
        self._molecule: FixedMolecule | None = None

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Compute energy in eV, forces in eV/Å and dipole moment in e Å; called by ASE.

        Raises:
            UserError: the molecule is periodic, or has elements or a charge that the model does not know.
        """
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        if self._molecule is None or not set(system_changes) <= {"positions"}:
            self._molecule = self._fixed(self.atoms)
        surface = self._molecule.at(self.atoms.get_positions(), self.energy, self.dipole)
        self.results = self._results(surface)

    def _fixed(self, atoms: Atoms) -> FixedMolecule:
        with TemporaryDirectory(prefix="mmgnn-ase-") as folder:
            (source,) = sources_of(atoms, self.text, Path(folder))
            return FixedMolecule(self.model.path, source, Path(folder), self.dtype)

    def _results(self, surface: Surface) -> dict[str, float | np.ndarray]:
        factor = DIMENSIONS["energy"][self.model.units[self.energy]]
        energy = surface.value * factor
        found: dict[str, float | np.ndarray] = {
            "energy": energy,
            "free_energy": energy,
            "forces": -surface.gradient * factor,
        }
        if surface.dipole is not None and self.dipole is not None:
            debye = DIMENSIONS["dipole"][self.model.units[self.dipole]]
            found["dipole"] = surface.dipole * debye * units.Debye
        return found


def _energy_target(model: TrainedModel, wanted: str | None) -> str:
    """The target of the energy.

    Raises:
        UserError: the model has none, or several of which none was chosen.
    """
    kinds = model.card["kinds"]
    found = [
        name
        for name, unit in model.units.items()
        if kinds[name] == "extensive" and unit in DIMENSIONS["energy"]
    ]
    listed = ", ".join(found) or "none"
    if wanted is not None:
        if wanted not in found:
            raise UserError(f"energy={wanted}: {model.path} has these extensive energies: {listed}")
        return wanted
    for name in PREFERRED:
        if name in found:
            return name
    if len(found) != 1:
        raise UserError(f"{model.path} has these extensive energies: {listed}; choose one with energy=NAME")
    return found[0]


def _dipole_target(model: TrainedModel, wanted: str | None) -> str | None:
    kinds = model.card["kinds"]
    found = [
        name for name, unit in model.units.items() if kinds[name] == "dipole" and unit in DIMENSIONS["dipole"]
    ]
    if wanted is not None and wanted not in found:
        raise UserError(
            f"dipole={wanted}: {model.path} has these dipole moments: {', '.join(found) or 'none'}"
        )
    return wanted or ("mu" if "mu" in found else None)
