import pytest

from mmgnn_dist.chem.elements import NUMBERS, SYMBOLS
from mmgnn_dist.chem.targets import READOUTS, TARGETS, readout_for, target_for
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
    ],
)
def test_units_are_converted_to_the_canonical_one(name, unit, value, expected):
    target, factor = target_for(name, unit)
    assert target is TARGETS[name]
    assert value * factor == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    ("name", "unit"), [("gap", "D"), ("gap", "MeV"), ("mu", "electrons"), ("new", "a.u.")]
)
def test_a_unit_that_does_not_fit_is_the_users_error(name, unit):
    with pytest.raises(UserError, match=f"{name}"):
        target_for(name, unit)


def test_a_target_outside_the_table_takes_the_unit_of_its_dimension():
    target, factor = target_for("ionisation", "kcal/mol")
    assert (target.unit, target.kind) == ("eV", "intensive")
    assert factor == pytest.approx(0.0433641, rel=1e-6)


def test_elements():
    assert len(SYMBOLS) == 119
    assert [NUMBERS[s] for s in ("H", "C", "Fe", "Au", "Og")] == [1, 6, 26, 79, 118]


def test_every_kind_has_its_read_out():
    assert READOUTS.keys() == {target.kind for target in TARGETS.values()}
    found = {name: readout_for(name, TARGETS[name].kind) for name in ("u0", "alpha", "gap", "mu", "r2")}
    assert found == {"u0": "sum", "alpha": "sum", "gap": "mean", "mu": "dipole", "r2": "r2"}
    assert readout_for("gap", "intensive", "attention") == "attention"
    assert readout_for("ionisation", "intensive", "sum") == "sum"  # nothing is known of it


@pytest.mark.parametrize(
    ("name", "wanted", "says"),
    [("gap", "sum", "use mean or attention"), ("u0", "mean", "use sum"), ("alpha", "dipole", "extensive")],
)
def test_a_read_out_without_physical_sense_is_refused(name, wanted, says):
    with pytest.raises(UserError, match=f"model.readout.{name}={wanted} makes no physical sense.*{says}"):
        readout_for(name, TARGETS[name].kind, wanted)
