import ase.data
import numpy as np
import pytest

from mmgnn_dist.data.prepare.pipeline import prepare
from mmgnn_dist.data.shardset.references import (
    baselines,
    composition,
    elements,
    extents,
    fit_references,
    labels,
    with_other_elements,
)
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.data.shardset.splits import load_split
from mmgnn_dist.errors import UserError


@pytest.fixture
def made(columns, save, tmp_path):
    table = columns(300)
    table["energy"] = [
        sum({1: 1.5, 6: 20.0, 7: 30.0, 8: 40.0}[z] for z in mol) for mol in table["atomic_numbers"]
    ]
    table["gap"][:250] = [None] * 250
    table["gap"][250] = 5.0
    prepare([str(save(table, units='{"energy": "eV", "gap": "eV"}'))], tmp_path / "set")
    return ShardSet.open(tmp_path / "set"), table


def test_composition_counts_atoms(sample_shards):
    rows = np.random.default_rng(0).permutation(sample_shards.rows)[:200]
    counts = composition(sample_shards, rows)
    z = sample_shards.column("z").to_pylist()
    for row, count in zip(rows, counts, strict=True):
        assert np.array_equal(count, np.bincount(z[row], minlength=119))


def test_references_agree_with_an_explicit_fit(sample_shards):
    train = load_split(sample_shards, "random")["train"]
    names = sample_shards.targets
    found = fit_references(sample_shards, train, names)
    matrix = np.stack([np.bincount(z, minlength=119) for z in sample_shards.column("z").to_pylist()])[train]
    y = np.array(sample_shards.column("y").to_pylist())[train]
    for place, name in enumerate(names):
        here = ~np.isnan(y[:, place])
        if sample_shards.kinds[name] == "extensive":
            weights = np.linalg.lstsq(matrix[here].astype(float), y[here, place], rcond=None)[0]
        else:
            weights = np.zeros(119)
        residual = y[here, place] - matrix[here] @ weights
        assert found.atom_ref[place] == pytest.approx(weights, rel=1e-8, abs=1e-9)
        assert found.mean[place] == pytest.approx(residual.mean(), rel=1e-8, abs=1e-9)
        assert found.std[place] == pytest.approx(residual.std(), rel=1e-8)


def test_a_linear_target_is_recovered_and_missing_labels_are_left_out(made):
    shards, table = made
    rows = np.arange(shards.rows)
    found = fit_references(shards, rows, ["energy", "gap"])
    assert found.atom_ref[0, [1, 6, 7, 8]] == pytest.approx([1.5, 20, 30, 40])
    assert found.std[0] == 1.0  # nothing is left to scale
    gaps = np.array(table["gap"][250:], dtype=float)
    assert (found.mean[1], found.std[1]) == pytest.approx((gaps.mean(), gaps.std()))
    with pytest.raises(UserError, match="target gap has 1 labelled"):
        fit_references(shards, rows[:251], ["gap"])
    with pytest.raises(UserError, match=r"unknown target 'gapp' .did you mean 'gap'"):
        fit_references(shards, rows, ["gapp"])


def test_spatial_extent_of_charges_is_recovered(columns, save, tmp_path):
    """r2 = sum of a_z + q_z |r - r_c|^2 with known a and q; centres of mass by a loop with ASE's masses."""
    table = columns(200)
    own, charge = {1: 3.5, 6: 10.4, 7: 10.2, 8: 10.3}, {1: 3.3, 6: 21.8, 7: 25.5, 8: 28.9}
    table["r2"] = []
    for z, flat in zip(table["atomic_numbers"], table["positions"], strict=True):
        pos, mass = np.array(flat, np.float32).reshape(-1, 3).astype(float), ase.data.atomic_masses[z]
        distances = np.square(pos - mass @ pos / mass.sum()).sum(1)
        table["r2"].append(sum(own[a] + charge[a] * d for a, d in zip(z, distances, strict=True)))
    units = '{"energy": "eV", "gap": "eV", "r2": "a0^2"}'
    prepare([str(save(table, units=units))], tmp_path / "set")
    shards = ShardSet.open(tmp_path / "set")
    rows = np.random.default_rng(0).permutation(200)
    found = fit_references(shards, rows, ["r2", "energy"])
    assert found.atom_ref[0, list(own)] == pytest.approx(list(own.values()), rel=1e-6)
    assert found.extent_ref[0, list(charge)] == pytest.approx(list(charge.values()), rel=1e-6)
    assert not found.extent_ref[1].any()
    predicted = composition(shards, rows) @ found.atom_ref[0] + extents(shards, rows) @ found.extent_ref[0]
    assert predicted == pytest.approx(np.array(table["r2"])[rows], rel=1e-6)


def test_elements_that_the_training_part_lacks(made):
    shards, table = made
    has = np.array([8 in z for z in table["atomic_numbers"]])
    light = np.flatnonzero(~has)
    assert fit_references(shards, light, ["energy"]).atom_ref[0, 8] == 0
    known = elements(shards, light)
    assert known == ["H", "C", "N"]
    rows = np.random.default_rng(0).permutation(shards.rows)
    assert with_other_elements(shards, rows, known).tolist() == has[rows].tolist()


def test_baselines_agree_with_a_fit_with_intercept(sample_shards):
    parts = load_split(sample_shards, "random")
    names = sample_shards.targets
    got = baselines(sample_shards, parts["train"], parts["test"], names)
    y = labels(sample_shards, parts["train"], names)
    assert got["mean"] == pytest.approx(np.tile(np.nanmean(y, axis=0), (len(parts["test"]), 1)))
    train, test = (
        np.column_stack([composition(sample_shards, parts[p]), np.ones(len(parts[p]))])
        for p in ("train", "test")
    )
    for place in range(len(names)):
        here = ~np.isnan(y[:, place])
        weights = np.linalg.lstsq(train[here], y[here, place], rcond=None)[0]
        assert got["composition"][:, place] == pytest.approx(test @ weights, rel=1e-8, abs=1e-8)
