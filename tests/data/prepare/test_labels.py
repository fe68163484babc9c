import numpy as np
import pytest

from mmgnn_dist.chem.targets import Target
from mmgnn_dist.data.prepare.labels import decide_kind, deviating

ELEMENTS = np.array([-13.6, -1030.0, -2043.0])  # eV of one atom each


@pytest.fixture
def counts():
    return np.random.default_rng(0).integers(1, 9, size=(300, 3)).astype(np.uint16)


def noise(n=300):
    return np.random.default_rng(1).normal(size=n)


def test_a_sum_over_atoms_is_extensive_and_a_mean_is_not(counts):
    target = Target("own", "eV", "")
    kind, why = decide_kind(target, counts @ ELEMENTS + noise(), counts)
    assert kind == "extensive" and "100" in why and "data.targets.own.kind" in why
    mean = counts @ ELEMENTS / counts.sum(1)
    assert decide_kind(target, mean + noise(), counts)[0] == "intensive"
    assert decide_kind(target, noise(), counts)[0] == "intensive"


def test_a_kind_that_labels_do_not_show_is_said(counts):
    kind, why = decide_kind(Target("own", "eV", ""), noise(5), counts[:5])
    assert kind == "intensive" and "without evidence (5 labels)" in why
    same_size = np.full((300, 1), 4, np.uint16)
    assert "all of one size" in decide_kind(Target("own", "eV", ""), noise(), same_size)[1]


@pytest.mark.parametrize("absurd", [1e38, -9999.0, 1e5])
@pytest.mark.parametrize("kind", ["extensive", "intensive"])
def test_absurd_labels_are_found_and_no_other(counts, kind, absurd):
    y = noise() if kind == "intensive" else counts @ ELEMENTS + noise()
    y[[7, 200]] = absurd
    y[9] = np.nan
    rows, by = deviating(kind, y, counts, 100.0)
    assert rows.tolist() == [7, 200] and (by > 100).all()


def test_a_small_slip_in_an_energy_is_found_after_the_fit(counts):
    y = counts @ ELEMENTS + noise()
    y[3] /= 27.2  # Hartree among eV: within the range of the other energies
    assert deviating("extensive", y, counts, 100.0)[0].tolist() == [3]


def test_skewed_and_constant_labels_stay(counts):
    skewed = np.exp(3 * noise())  # concentrations over nine decades
    assert len(deviating("intensive", skewed, counts, 100.0)[0]) == 0
    assert len(deviating("intensive", np.zeros(300), counts, 100.0)[0]) == 0
    assert len(deviating("extensive", counts @ ELEMENTS, counts, 100.0)[0]) == 0


def test_one_absurd_label_among_a_few_does_not_pass_for_a_tail():
    y = 11 + noise(20)
    y[4] = 1e6
    rows, by = deviating("intensive", y, np.ones((20, 1), np.uint16), 100.0)
    assert rows.tolist() == [4] and by[0] > 1e5
