"""Charges and multiplicities: what is derived, and what is refused."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from mmgnn_dist.chem.states.electronic_state import (
    BAD_CHARGE,
    BAD_MULTIPLICITY,
    CONTRADICTION,
    StatedStates,
    TrainedStates,
    describe_state,
    settle,
    smiles_charges,
)

NAN = np.nan
WATER = [8, 1, 1]
# charge, multiplicity, charge of the structure, SMILES -> charge and multiplicity, or the fault
CASES = [
    ((NAN, NAN, NAN, None), (0, 1)),
    ((1, 2, NAN, None), (1, 2)),
    ((-1, 2, NAN, None), (-1, 2)),
    ((0, 3, NAN, "O"), (0, 3)),
    ((NAN, 3, NAN, "O"), (0, 3)),
    ((1, NAN, NAN, None), (1, 2)),  # nine electrons: the lowest multiplicity
    ((NAN, NAN, 1, "[OH2+]"), (1, 2)),
    ((10, 1, NAN, None), (10, 1)),  # no electron is left
    ((11, NAN, NAN, None), BAD_CHARGE),
    ((0.5, NAN, NAN, None), BAD_CHARGE),
    ((np.inf, NAN, NAN, None), BAD_CHARGE),
    ((-21, 2, NAN, None), BAD_CHARGE),
    ((0, 0, NAN, None), BAD_MULTIPLICITY),
    ((0, 1.5, NAN, None), BAD_MULTIPLICITY),
    ((0, 2, NAN, None), BAD_MULTIPLICITY),
    ((NAN, 2, NAN, None), BAD_MULTIPLICITY),
    ((8, 5, NAN, None), BAD_MULTIPLICITY),  # two electrons, four of them unpaired
    ((0, NAN, NAN, "[OH2+]"), CONTRADICTION),
    ((1, 2, NAN, "O"), CONTRADICTION),
    ((1, 2, 0, None), CONTRADICTION),
    ((NAN, NAN, 1, "O"), CONTRADICTION),
]


def one(charge, multiplicity, structure, smiles):
    values = (np.array([float(value)]) for value in (charge, multiplicity, structure))
    stated = StatedStates(*values, np.zeros(1, bool))
    return stated, pa.array([smiles], pa.large_string())


@pytest.mark.parametrize(("given", "expected"), CASES, ids=str)
def test_of_water(given, expected):
    stated, smiles = one(*given)
    states = settle(stated, np.array(WATER), np.array([3]), smiles)
    faults = [reason for reason, where in states.faults.items() if where[0]]
    if isinstance(expected, str):
        assert faults[0] == expected
        assert describe_state(expected, stated, np.array(WATER), smiles)
    else:
        assert faults == []
        assert (states.charge[0], states.multiplicity[0]) == expected


def test_what_is_not_stated_is_marked_and_not_invented():
    """Hydroxyl without a word, hydronium by SMILES alone, hydroxyl of a known charge, ammonia."""
    z = np.array([8, 1, 8, 1, 1, 1, 8, 1, 7, 1, 1, 1])
    stated = StatedStates.nothing(4)
    stated.charge[2] = 0
    smiles = pa.array([None, "[OH3+]", None, "N"], pa.large_string())
    states = settle(stated, z, np.array([2, 4, 2, 4]), smiles)
    assert not np.any(list(states.faults.values()))
    assert states.charge.tolist() == [0, 0, 0, 0]
    assert states.multiplicity.tolist() == [1, 1, 2, 1]
    assert states.unstated.tolist() == [True, True, False, False]
    assert states.assumed.tolist() == [False, False, True, False]


def test_charges_of_smiles_are_those_of_rdkit():
    from rdkit import Chem

    smiles = ["CCO", "[NH4+]", "CC(=O)[O-]", "C[N+](=O)[O-]", "[Fe+2]", "[Fe++]", "[O--]", "[Na+].[Cl-]"]
    smiles += [
        "[13CH3:7][NH2+:12]C",
        "C[C@H]([NH3+])C(=O)[O-]",
        "[Al+3]",
        "c1cc[nH+]cc1",
        "[2H]C",
        "[Cu-2:3]",
    ]
    expected = [Chem.GetFormalCharge(Chem.MolFromSmiles(text)) for text in smiles]
    found = smiles_charges(pa.array([*smiles, None], pa.large_string()))
    assert found[:-1].tolist() == expected and np.isnan(found[-1])


def test_a_long_odd_text_takes_no_long_time():
    texts = ["[" + "+" * 50_000, "[" * 50_000, "[C+" + "9" * 50_000 + "]"]
    assert smiles_charges(pa.array(texts, pa.large_string())).tolist() == [0, 0, 0]


def test_trained_states():
    trained = TrainedStates((-1, 0), (1, 2))
    assert trained.has(np.array([0, -1, 1, 0]), np.array([1, 2, 1, 3])).tolist() == [True, True, False, False]
    assert not trained.neutral_singlets and TrainedStates((0,), (1,)).neutral_singlets
