from unittest.mock import ANY

import pytest

from mmgnn_dist.chem.elements import NUMBERS, SYMBOLS
from mmgnn_dist.chem.own_targets.target_names import known_name
from mmgnn_dist.chem.targets import READOUTS, TARGETS, UNDECIDED, Target, readout_for, target_for
from mmgnn_dist.errors import UserError


@pytest.mark.parametrize(
    ("name", "unit", "value", "expected"),
    [
        ("u0", "Hartree", -40.47893, -1101.4877990543107),
        ("u0", "Ha", 1.0, 27.211386245988),
        ("gap", "a.u.", 1.0, 27.211386245988),
        ("gap", "kcal/mol", 23.060547830619026, 1.0),
        ("gap", "kJ/mol", 96.48533212331002, 1.0),
        ("gap", "meV", 1000.0, 1.0),
        ("homo", " ev ", 2.0, 2.0),
        ("mu", "a.u.", 1.0, 2.541746473),
        ("mu", "e*Angstrom", 1.0, 4.80320471257),
        ("alpha", "Å^3", 1.0, 6.748334494600),
        ("r2", "Bohr^2", 3.0, 3.0),
        ("cv", "J/mol/K", 4.184, 1.0),
        # pint's: 1 eV = 8065.543937 cm^-1 = 23.0605 kcal/mol = 96.4853 kJ/mol (CODATA)
        ("gap", "cm^-1", 8065.543937349212, 1.0),
        ("gap", "cm-1", 8065.543937349212, 1.0),
        ("gap", "kcal mol-1", 23.060547830619026, 1.0),
        ("gap", "kJ mol⁻¹", 96.48533212331002, 1.0),
        ("u0", "hartree/particle", 1.0, 27.211386245988),
        ("u0", "mEh", 1000.0, 27.211386245988),
        ("gap", "eV/molecule", 2.0, 2.0),
        ("gap", "aJ", 0.1602176634, 1.0),
        ("cv", "J mol^-1 K^-1", 4.184, 1.0),
        ("cv", "J/K/mol", 4.184, 1.0),
        ("r2", "nm^2", 0.0529177210903**2, 1.0),
        ("alpha", "bohr^3", 1.0, 1.0),
        ("mu", "C*m", 3.33564095198152e-30, 1.0),
    ],
)
def test_units_are_converted_to_the_canonical_one(name, unit, value, expected):
    target, factor = target_for(name, unit)
    assert target is TARGETS[name]
    assert value * factor == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        *[
            ("gap", "D"),
            ("gap", "MeV"),
            ("mu", "electrons"),
            ("new", "a.u."),
            ("gap", "K"),
            ("u0", "eV/atom"),
        ],
        *[("new", ""), ("new", "hartre"), ("new", "angstrm^2"), ("gap", "furlong"), ("gap", "((")],
    ],
)
def test_a_unit_that_does_not_fit_is_the_users_error(name, unit):
    with pytest.raises(UserError, match=f"{name}"):
        target_for(name, unit)


@pytest.mark.parametrize(
    ("unit", "stored"),
    [
        *[
            ("K", "K"),
            ("GPa", "GPa"),
            ("kcal/mol", "kcal/mol"),
            (" ev ", "eV"),
            ("cm^-1", "cm^-1"),
            ("1", "1"),
        ],
        *[("log(mol/L)", "log(mol/L)"), ("pIC50", "pIC50"), ('"hartre"', "hartre"), ("mg mL-1", "mg mL-1")],
    ],
)
def test_a_target_outside_the_table_keeps_its_unit(unit, stored):
    assert target_for("own", unit) == (Target("own", stored, UNDECIDED, ANY), 1.0)


def test_a_value_per_atom_is_not_taken_for_one_of_the_molecule():
    assert target_for("formation", "eV/atom")[0].kind == "intensive"
    with pytest.raises(
        UserError, match="value per atom.*multiply the column by the number of atoms and give eV"
    ):
        target_for("formation", "eV/atom", "extensive")


@pytest.mark.parametrize(
    ("name", "beside", "meant"),
    [
        *[("HOMO", (), "homo"), ("Cv", (), "cv"), ("U0", (), "u0"), ("energy_U0", (), "u0")],
        *[("dipole_moment", (), "mu"), ("homolumogap", (), "gap"), ("REF_energy", (), "energy")],
        *[("isotropic_polarizability", (), "alpha"), ("electronic_spatial_extent", (), "r2")],
        *[("G", (), None), ("G", ("U0", "G"), "g298"), ("free_energy", (), None), ("u0_atom", (), None)],
        ("free_energy", ("energy_U0", "free_energy"), "g298"),
    ],
)
def test_other_names_of_known_targets(name, beside, meant):
    assert known_name(name, beside) == meant


def test_elements():
    assert len(SYMBOLS) == 119
    assert [NUMBERS[s] for s in ("H", "C", "Fe", "Au", "Og")] == [1, 6, 26, 79, 118]


def test_every_kind_has_its_read_out():
    assert READOUTS.keys() == {*(target.kind for target in TARGETS.values()), "class"}
    found = {name: readout_for(name, TARGETS[name].kind) for name in ("u0", "alpha", "gap", "mu", "r2")}
    assert found == {"u0": "sum", "alpha": "sum", "gap": "mean", "mu": "dipole_norm", "r2": "r2"}
    assert readout_for("gap", "intensive", "attention") == "attention"
    assert readout_for("ionisation", "intensive", "sum") == "sum"  # nothing is known of it


@pytest.mark.parametrize(
    ("name", "wanted", "says"),
    [("gap", "sum", "use mean or attention"), ("u0", "mean", "use sum"), ("alpha", "dipole", "extensive")],
)
def test_a_read_out_without_physical_sense_is_refused(name, wanted, says):
    with pytest.raises(UserError, match=f"model.readout.{name}={wanted} makes no physical sense.*{says}"):
        readout_for(name, TARGETS[name].kind, wanted)
