"""ASE's calculator: energies are those of `predict`, forces the slopes of the energy, for each backbone."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.optimize import BFGS
from made_export import SMALL, make_export

import mmgnn_dist
from mmgnn_dist.ase import Calculator
from mmgnn_dist.errors import UserError

STEP = 1e-4  # Å, of the differences


def shaken(name: str = "CH3CH2OH") -> Atoms:
    """Without symmetry: frames of a symmetric top are not unique."""
    atoms = molecule(name)
    atoms.positions += np.random.default_rng(0).normal(scale=0.05, size=atoms.positions.shape)
    return atoms


@pytest.fixture(scope="module")
def exported(few_shards, tmp_path_factory):
    made = {}

    def make(backbone: str):
        if backbone not in made:
            made[backbone] = make_export(
                tmp_path_factory.mktemp("ase") / backbone,
                few_shards.path,
                targets=["mu", "energy", "gap"],
                model={"modality": "graph", "backbone": {"name": backbone, **SMALL[backbone]}},
            ).path
        return made[backbone]

    return make


@pytest.mark.parametrize("backbone", SMALL)
def test_forces_are_the_slopes_of_the_energy(exported, backbone):
    atoms = shaken()
    atoms.calc = Calculator(exported(backbone))
    forces = atoms.get_forces()
    assert np.abs(forces).max() > 1e-3
    assert np.abs(forces.sum(0)).max() < 1e-9  # moving all atoms changes nothing
    start, places = atoms.get_positions(), [(0, 0), (2, 1), (5, 2), (8, 0)]
    for atom, axis in places:
        energies = []
        for side in (1, -1):
            moved = start.copy()
            moved[atom, axis] += side * STEP
            atoms.set_positions(moved)
            energies.append(atoms.get_potential_energy())
        slope = (energies[0] - energies[1]) / (2 * STEP)
        assert abs(forces[atom, axis] + slope) < 1e-4


def test_energies_are_those_of_predict_and_text_counts(few_shards, tiny_bert, tmp_path):
    run = make_export(
        tmp_path / "run",
        few_shards.path,
        targets=["mu", "energy"],
        text={"encoder": str(tiny_bert), "fields": ["iupac_name"]},
        model={"modality": "both", "backbone": {"name": "schnet", **SMALL["schnet"]}},
    )
    model, atoms = mmgnn_dist.load(run.path), shaken()
    found = []
    for text in ({"iupac_name": "ethanol"}, None):
        atoms.calc = Calculator(model, text=text)
        table = model.predict(atoms, text)
        assert atoms.get_potential_energy() == pytest.approx(table["energy"][0].as_py(), abs=1e-3)
        length = np.linalg.norm(atoms.get_dipole_moment()) / units.Debye
        assert length == pytest.approx(abs(table["mu"][0].as_py()), rel=1e-4)
        found.append(atoms.get_potential_energy())
    assert found[0] != pytest.approx(found[1], abs=1e-6)


def test_the_dipole_turns_with_the_molecule(exported):
    atoms = shaken()
    atoms.calc = Calculator(exported("painn"))
    before = atoms.get_dipole_moment()
    turned = Atoms(atoms.numbers, atoms.positions @ np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0.0]]))
    turned.calc = Calculator(exported("painn"))
    np.testing.assert_allclose(turned.get_dipole_moment(), np.roll(before, 1), rtol=1e-6)


def test_ase_relaxes_a_molecule(exported):
    """The optimiser reaches a point without forces, and another molecule takes the same calculator."""
    calculator = Calculator(exported("painn"))
    atoms = shaken("H2O")
    atoms.calc = calculator
    begin = atoms.get_potential_energy()
    BFGS(atoms, logfile=None).run(fmax=0.02, steps=60)
    assert np.abs(atoms.get_forces()).max() < 0.05 and atoms.get_potential_energy() < begin
    other = molecule("CH4")
    other.calc = calculator
    assert other.get_forces().shape == (5, 3)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"pbc": True, "cell": [9, 9, 9]}, "a periodic cell is no molecule"),
        ({"symbols": "OBrH"}, "element not trained on"),
    ],
)
def test_what_the_model_cannot_do_is_one_line(exported, change, says):
    atoms = Atoms(change.get("symbols", "OH2"), [[0, 0, 0], [0, 0.76, 0.59], [0, -0.76, 1.59]])
    if "pbc" in change:
        atoms.set_cell(change["cell"])
        atoms.pbc = True
    atoms.calc = Calculator(exported("schnet"))
    with pytest.raises(UserError, match=says) as refused:
        atoms.get_potential_energy()
    assert "\n" not in str(refused.value)


def test_targets_are_chosen_by_name(exported):
    with pytest.raises(UserError, match="these extensive energies: energy"):
        Calculator(exported("schnet"), energy="gap")
    with pytest.raises(UserError, match="these dipole moments: mu"):
        Calculator(exported("schnet"), dipole="gap")
