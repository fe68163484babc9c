"""HDF5, npz and ASE-LMDB in the layouts of public data sets, written here as those sets have them."""

import hashlib
import json
import zlib

import numpy as np
import pytest
from ase.build import molecule

from mmgnn_dist.chem.checks import REASONS, check_molecules
from mmgnn_dist.chem.readers.find import find_sources
from mmgnn_dist.errors import UserError

HARTREE, KCAL_MOL, BOHR = 27.211386245988, 1 / 23.060548, 0.529177210903
WATER, METHANOL = molecule("H2O"), molecule("CH3OH")


def state(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def read(path, units=None, start=0):
    """(source, block, reasons) of a file, which must be as it was, with nothing beside it."""
    before = state(path.parent)
    [source] = find_sources([str(path)], units or {})
    order = [target.name for _, target, _ in source.targets]
    stream = source.stream(start)
    block = source.convert(stream.read(source.rows - start), start, order)
    assert state(path.parent) == before
    return source, block, [REASONS[code] for code in check_molecules(block)]


def conformers(atoms, count):
    """Positions [count, atoms, 3], each moved a little."""
    return atoms.positions + np.random.default_rng(3).normal(scale=0.01, size=(count, len(atoms), 3))


def spice(path, unit=None):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name, smiles, atoms, count in (
            ("103147721", "[H:2][O:1][H:3]", WATER, 3),
            ("7", "CO", METHANOL, 2),
        ):
            group = file.create_group(name)
            group["subset"] = np.array([b"SPICE Dipeptides"], object).astype("S20")
            group.create_dataset("smiles", data=[smiles], dtype=h5py.string_dtype())
            group["atomic_numbers"] = atoms.numbers.astype(np.int16)
            group["conformations"] = (conformers(atoms, count) / BOHR).astype(np.float32)
            group["dft_total_energy"] = -76.0 - np.arange(count)
            group["formation_energy"] = -0.3 * np.ones(count)
            group["dft_total_gradient"] = np.zeros((count, len(atoms), 3), np.float32)
            if unit:
                group["conformations"].attrs["units"] = unit
    return path


def test_spice(tmp_path):
    source, block, reasons = read(spice(tmp_path / "SPICE.hdf5", "bohr"))
    assert reasons == [""] * 5 and source.ignored == ("formation_energy", "subset")
    assert block.y[:, 0] == pytest.approx(HARTREE * np.array([-76.0, -77.0, -78.0, -76.0, -77.0]))
    assert [target.name for _, target, _ in source.targets] == ["energy"]
    assert block.smiles.to_pylist() == ["[H:2][O:1][H:3]"] * 3 + ["CO"] * 2
    np.testing.assert_allclose(block.pos[:27].reshape(3, 3, 3), conformers(WATER, 3), atol=1e-6)
    assert "SPICE" in source.notes[0] and "dft_total_energy" in source.notes[0]
    assert block.id.to_pylist()[3:] == ["SPICE/7#0", "SPICE/7#1"]
    _, late, _ = read(tmp_path / "SPICE.hdf5", start=2)
    assert late.id.to_pylist() == block.id.to_pylist()[2:] and np.array_equal(late.pos, block.pos[18:])


def test_a_unit_of_length_that_is_not_known_is_refused(tmp_path):
    with pytest.raises(UserError, match="'conformations' is in 'furlong'"):
        read(spice(tmp_path / "SPICE.hdf5", "furlong"))


def test_ani1x(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "ani1x-release.h5"
    with h5py.File(path, "w") as file:
        for name, atoms, count in (("C1H4O1", METHANOL, 2), ("H2O1", WATER, 3)):
            group = file.create_group(name)
            group["atomic_numbers"] = atoms.numbers.astype(np.uint8)
            group["coordinates"] = conformers(atoms, count).astype(np.float32)
            group["wb97x_dz.energy"] = -76.0 * np.ones(count)
            group["wb97x_dz.forces"] = np.zeros((count, len(atoms), 3), np.float32)
            group["ccsd(t)_cbs.energy"] = np.where(np.arange(count) == 1, -76.3, np.nan)
        file["H2O1"]["other"] = h5py.ExternalLink("elsewhere.h5", "/")
    source, block, reasons = read(path, {"ccsd(t)_cbs.energy": "Hartree"})
    assert reasons == [""] * 5 and source.conformers
    names = [target.name for _, target, _ in source.targets]
    y = dict(zip(names, block.y.T, strict=True))
    assert y["energy"] == pytest.approx([-76.0 * HARTREE] * 5)
    assert np.isnan(y["ccsd(t)_cbs.energy"]).tolist() == [True, False, True, False, True]
    assert block.id.to_pylist()[:3] == [
        "ani1x-release/C1H4O1#0",
        "ani1x-release/C1H4O1#1",
        "ani1x-release/H2O1#0",
    ]
    np.testing.assert_allclose(block.pos[:36].reshape(2, 6, 3), conformers(METHANOL, 2), atol=1e-6)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_rmd17(tmp_path, save):
    path = tmp_path / "rmd17_methanol.npz"
    arrays = {"coords": conformers(METHANOL, 7), "forces": np.zeros((7, 6, 3))}
    save(
        path,
        nuclear_charges=METHANOL.numbers.astype(np.uint8),
        energies=-1000.0 - np.arange(7),
        old_indices=np.arange(7),
        **arrays,
    )
    source, block, reasons = read(path, start=3)
    assert reasons == [""] * 4 and source.rows == 7 and source.ignored == ("old_indices",)
    assert block.y[:, 0] == pytest.approx(KCAL_MOL * np.arange(-1003, -1007, -1), rel=1e-6)
    np.testing.assert_array_equal(block.pos.reshape(4, 6, 3), arrays["coords"][3:])
    assert block.z.reshape(4, 6).tolist() == [METHANOL.numbers.tolist()] * 4


def test_md17_with_the_units_of_its_file(tmp_path):
    path = tmp_path / "md17.npz"
    pos = conformers(WATER, 2)
    np.savez(
        path, z=WATER.numbers, R=pos / BOHR, E=np.array([[1.0], [2.0]]), F=pos, r_unit="bohr", e_unit="eV"
    )
    _, block, reasons = read(path)
    assert reasons == ["", ""] and block.y[:, 0].tolist() == [1.0, 2.0]
    np.testing.assert_allclose(block.pos.reshape(2, 3, 3), pos)


def test_molecules_of_several_sizes(tmp_path):
    """Padded with zeros, and one behind the other with their sizes."""
    padded = np.zeros((2, 6, 3))
    padded[0, :3], padded[1] = WATER.positions, METHANOL.positions
    numbers = np.zeros((2, 6), int)
    numbers[0, :3], numbers[1] = WATER.numbers, METHANOL.numbers
    gap = np.array([5.0, 6.0])
    np.savez(tmp_path / "padded.npz", positions=padded, charges=numbers, gap=gap)
    packed = {"R": np.concatenate([WATER.positions, METHANOL.positions]), "N": np.array([3, 6]), "gap": gap}
    np.savez(tmp_path / "packed.npz", Z=np.concatenate([WATER.numbers, METHANOL.numbers]), **packed)
    for name in ("padded", "packed"):
        _, block, reasons = read(tmp_path / f"{name}.npz", {"gap": "eV"})
        assert (
            reasons == ["", ""] and block.z_count.tolist() == [3, 6] and block.y[:, 0].tolist() == [5.0, 6.0]
        )
        assert np.array_equal(block.z, np.concatenate([WATER.numbers, METHANOL.numbers]))
        assert np.array_equal(block.pos.reshape(-1, 3), packed["R"])


def test_what_is_no_known_layout_says_what_it_holds(tmp_path):
    np.savez(tmp_path / "other.npz", x=np.zeros((4, 2)), label=np.zeros(4))
    with pytest.raises(UserError, match=r"holds no molecules as arrays.*found: x \[4, 2\], label \[4\]"):
        read(tmp_path / "other.npz")
    (tmp_path / "other.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"no" * 200)
    with pytest.raises(UserError, match="no readable file of arrays"):
        read(tmp_path / "other.h5")


def test_python_objects_are_never_unpickled(tmp_path):
    path = tmp_path / "pickled.npz"
    np.savez(path, z=WATER.numbers, R=np.array([{"a": 1}] * 27, object).reshape(3, 3, 3))
    _, block, reasons = read(path)
    assert reasons == ["damaged file"] * 3 and "pickled Python objects" in block.why[0].as_py()


def lmdb_file(path, rows, reserved):
    lmdb = pytest.importorskip("lmdb")
    opened = lmdb.open(str(path), subdir=False, map_size=1 << 22, lock=False)
    with opened as environment, environment.begin(write=True) as transaction:
        for key, value in (rows | reserved).items():
            packed = value if isinstance(value, bytes) else zlib.compress(json.dumps(value).encode())
            transaction.put(str(key).encode("ascii"), packed)
    return path


def fairchem_row(atoms, **values):
    return {
        "numbers": atoms.numbers.tolist(),
        "positions": atoms.positions.tolist(),
        "cell": np.zeros((3, 3)).tolist(),
        "pbc": [False] * 3,
        "unique_id": "5c6d",
        "ctime": 1.0,
        "mtime": 1.0,
        "user": "u",
        **values,
    }


def test_fairchems_lmdb(tmp_path):
    arrays = {"__ndarray__": [[3, 3], "float64", WATER.positions.ravel().tolist()]}
    rows = {
        1: fairchem_row(WATER, energy=-2081.0, key_value_pairs={"SMILES": "O"}, data={"homo_lumo_gap": 12.5}),
        2: fairchem_row(METHANOL, energy=-3150.0, data={"homo_lumo_gap": 10.5}),
        3: fairchem_row(WATER),
        10: fairchem_row(WATER, energy=-2081.5, positions=arrays),
        11: fairchem_row(WATER, pbc=[True] * 3),
        12: b"\x80\x04pickle",
    }
    reserved = {"nextid": 13, "metadata": {}, "deleted_ids": [3]}
    path = lmdb_file(tmp_path / "data.aselmdb", rows, reserved)
    source, block, reasons = read(path, {"homo_lumo_gap": "eV"})
    assert source.rows == 5 and reasons == ["", "", "", "periodic structure", "unreadable record"]
    names = [target.name for _, target, _ in source.targets]
    y = dict(zip(names, block.y.T, strict=True))
    assert y["energy"][:3].tolist() == [-2081.0, -3150.0, -2081.5]
    assert y["gap"][:2].tolist() == [12.5, 10.5]
    assert block.smiles[0].as_py() == "O" and "pickled rows are not read" in block.why[4].as_py()
    assert np.array_equal(block.pos[27:36].reshape(3, 3), WATER.positions)


def test_a_cut_lmdb_is_refused(tmp_path):
    path = lmdb_file(
        tmp_path / "data.aselmdb", {k: fairchem_row(WATER) for k in range(1, 99)}, {"nextid": 99}
    )
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(UserError, match="is not a readable ASE database"):
        read(path)


def test_the_unit_of_an_array_is_read_and_one_of_the_recipe_is_told(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group("water")
        group["atomic_numbers"], group["positions"] = WATER.numbers, conformers(WATER, 2)
        group["gap"] = [1.0, 2.0]
        group["gap"].attrs["units"] = "hartree"
    [source] = find_sources([str(tmp_path / "a.h5")], {})
    assert [(column, factor) for column, _, factor in source.targets] == [("gap", 27.211386245988)]
    [source] = find_sources([str(tmp_path / "a.h5")], {"gap": "eV"})
    assert (
        source.targets[0][2] == 1.0
        and "gap is read in eV, as the recipe says, not hartree" in source.notes[-1]
    )


def test_positions_with_the_axes_first_are_not_taken_as_atoms(tmp_path, save):
    turned = conformers(METHANOL, 2).transpose(0, 2, 1)
    save(tmp_path / "a.npz", z=METHANOL.numbers, R=turned, energy=np.zeros(2))
    with pytest.raises(UserError, match=r"needs positions \[molecules, atoms, 3\].*R \[2, 3, 6\]"):
        find_sources([str(tmp_path / "a.npz")], {"energy": "eV"})
