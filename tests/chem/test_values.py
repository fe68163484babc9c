"""A unit behind a value is converted or refused, in one way for all readers; factors by CODATA 2018."""

import pytest

from mmgnn_dist.chem.checks import BadRecord
from mmgnn_dist.chem.own_targets.values import target_value, unit_behind
from mmgnn_dist.chem.readers.comment import pairs, unread_words
from mmgnn_dist.chem.targets import target_for

HARTREE = 27.211386245988  # eV
DEBYE = 2.541746473  # of one e a0


@pytest.mark.parametrize(
    ("name", "unit", "text", "expected"),
    [
        ("energy", "Hartree", "-1", -HARTREE),
        ("energy", "eV", "-1 Ha", -HARTREE),
        ("energy", "Hartree", "-1 eV", -1.0),
        ("energy", "eV", "-76.4eV", -76.4),
        ("energy", "eV", "1D-3 eV", 1e-3),
        ("energy", "eV", "[-1.5] (eV)", -1.5),
        ("gap", "Hartree", "100 kJ/mol", 1.0364269656262175),
        ("mu", "e*a0", "0 0 1.85 D", 1.85),
        ("mu", "D", "[0, 0, 1] a.u.", DEBYE),
        ("melting_point", "K", "25 °C", 298.15),
        ("melting_point", "K", "300 K", 300.0),
        ("pressure", "GPa", "3 MPa", 0.003),
        ("solubility", "log(mol/L)", "-2 log(mol/L)", -2.0),
    ],
)
def test_a_unit_behind_a_value_counts(name, unit, text, expected):
    target, factor = target_for(name, unit)
    assert target_value(name, text, target, factor) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "unit", "text"),
    [
        ("energy", "eV", "-1 D"),
        ("energy", "eV", "-5.2 eV/atom"),
        ("energy", "eV", "-2 foo"),
        ("gap", "eV", "1 MeV"),
        ("melting_point", "K", "3 eV"),
        ("solubility", "log(mol/L)", "-2 mol/L"),
    ],
)
def test_a_unit_that_does_not_fit_is_shown(name, unit, text):
    target, factor = target_for(name, unit)
    with pytest.raises(BadRecord, match=f"is no unit of {name}") as error:
        target_value(name, text, target, factor)
    assert text in error.value.detail


@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        ("energy=-76.4 eV gap=0.3 eV", {"energy": "-76.4 eV", "gap": "0.3 eV"}),
        ("energy=-76.4 [Ha], gap=0.3", {"energy": "-76.4 Ha", "gap": "0.3"}),
        ("energy = -3 kcal mol-1 ; n = 2", {"energy": "-3 kcal mol-1", "n": "2"}),
        ("energy: -76.4 Eh gnorm: 0.01", {"energy": "-76.4 Eh", "gnorm": "0.01"}),
        ("energy=-76.4 water H2O", {"energy": "-76.4"}),
        ("charge=0 D id=4 K", {"charge": "0", "id": "4"}),
        ("smiles={O} Smiles=C;energy=-1", {"smiles": "O", "energy": "-1"}),
        ("smiles=O;energy=-1", {"smiles": "O", "energy": "-1"}),
    ],
)
def test_units_in_comments(comment, expected):
    assert pairs(comment) == expected


def test_words_behind_a_number_are_no_unit_unless_they_are_one():
    assert unread_words("energy=-76.4 converged step=3") == "converged"
    assert not unread_words("energy=-76.4 eV step=3")
    for words in ("water", "CH4", "step 3", "", "at minimum"):
        assert unit_behind(words) == ""
    assert unit_behind("eV/atom, x=1") == "eV/atom"
