"""Every form of source through the real preparation, against independent readings of the same files."""

import io
import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_files import METHANE, QM9_ORDER, archive, packed, qm9_text, xyz_text

from mmgnn_dist.config import DataConfig
from mmgnn_dist.data.prepare.pipeline import prepare
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.errors import UserError

HARTREE = 27.211386245988
WATER = (["O", "H", "H"], np.array([[0, 0, 0.11779], [0, 0.755453, -0.471161], [0, -0.755453, -0.471161]]))


def made(path, to, units=None, **changes):
    settings = {"units": units or {}, "rows_per_shard": 7, "max_bad_fraction": 0.9, **changes}
    result = prepare([str(path)], to, data=DataConfig(**settings))
    assert result.counts["in"] == result.counts["kept"] + result.counts["set_aside"]
    return ShardSet.open(to), result


def targets(shards):
    y = np.concatenate([shard.y for shard in shards.shards])
    return dict(zip(shards.targets, y.T, strict=True))


def positions(shards):
    return [np.reshape(flat, (-1, 3)) for flat in shards.column("pos").to_pylist()]


def quarantine(to):
    return {
        row["id"]: (row["reason"], row["detail"])
        for row in pq.read_table(to / "quarantine.parquet").to_pylist()
    }


def hashes(path):
    return [entry["sha256"] for entry in json.loads((path / "manifest.json").read_text())["shards"]]


@pytest.fixture(scope="module")
def qm9_rows(shared):
    table = pq.read_table(shared / "data/qm9/qm9.parquet").slice(0, 130)
    return [row for row in table.to_pylist() if row["smiles"]]


@pytest.fixture(scope="module")
def qm9_files(qm9_rows):
    from rdkit import Chem

    files = {}
    for row in qm9_rows:
        inchi = Chem.MolToInchi(Chem.MolFromSmiles(row["smiles"]))
        text = qm9_text(row["gdb_idx"], row["atomic_numbers"], row["positions"], row, row["smiles"], inchi)
        files[f"dsgdb9nsd_{row['gdb_idx']:06d}.xyz"] = text.encode()
    return files


def test_the_published_file_of_methane(tmp_path):
    (tmp_path / "dsgdb9nsd_000001.xyz").write_text(METHANE)
    shards, result = made(tmp_path / "dsgdb9nsd_000001.xyz", tmp_path / "set")
    assert result.counts["kept"] == 1
    assert shards.ids().tolist() == ["dsgdb9nsd_000001"]
    y = {name: values[0] for name, values in targets(shards).items()}
    expected = {
        "mu": 0,
        "alpha": 13.21,
        "homo": -0.3877 * HARTREE,
        "lumo": 0.1171 * HARTREE,
        "gap": 0.5048 * HARTREE,
        "r2": 35.3641,
        "zpve": 0.044749 * HARTREE,
        "u0": -40.47893 * HARTREE,
        "u298": -40.476062 * HARTREE,
        "h298": -40.475117 * HARTREE,
        "g298": -40.498597 * HARTREE,
        "cv": 6.469,
    }
    assert y == pytest.approx(expected, rel=1e-12)
    assert shards.column("smiles")[0].as_py() == "C"
    assert shards.column("inchikey")[0].as_py() == "VNWKTOKETHGBQD-UHFFFAOYSA-N"
    assert shards.column("z")[0].as_py() == [6, 1, 1, 1, 1]
    assert positions(shards)[0][3] == pytest.approx([-0.540815069, 1.4475266138, -0.8766437152], rel=1e-6)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["qm9.tar.bz2", "qm9.tar.gz", "qm9.tar", "qm9.zip", "folder"])
def test_qm9_raw_is_read_alike_in_every_container(qm9_rows, qm9_files, tmp_path, name):
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
        for file, content in qm9_files.items():
            (path / file).write_bytes(content)
        (path / "readme.txt").write_text("not a molecule")
    else:
        archive(path, qm9_files)
    beside = path if path.is_dir() else tmp_path
    (beside / "uncharacterized.txt").write_text(
        "Index of molecules\n=====\n  Index  SMILES\n  21  CC(C)C  CC(C)C  0.1\n   60 CCO  CCO 0.2\n\n"
    )
    shards, result = made(path, tmp_path / "set")
    unwanted = {21, 60} & {row["gdb_idx"] for row in qm9_rows}
    assert result.counts["in"] == len(qm9_rows)
    assert unwanted and result.counts["reasons"] == {"uncharacterized": len(unwanted)}
    kept = [row for row in qm9_rows if row["gdb_idx"] not in unwanted]
    assert shards.ids().tolist() == [f"dsgdb9nsd_{row['gdb_idx']:06d}" for row in kept]
    y = targets(shards)
    for column in ("mu", "alpha", "r2", "cv"):
        assert y[column].tolist() == [row[column] for row in kept]
    for column in ("homo", "u0", "g298", "zpve"):
        assert y[column] == pytest.approx(np.array([row[column] for row in kept]) * HARTREE, rel=1e-12)
    for got, row in zip(positions(shards), kept, strict=True):
        assert np.array_equal(got.ravel(), np.float32(row["positions"]))
    assert any("part of QM9" in line for line in result.lines)


@pytest.mark.shared
def test_shards_of_a_stream_are_the_same_for_any_number_of_workers(ray_once, qm9_files, tmp_path):
    path = archive(tmp_path / "qm9.tar.bz2", qm9_files)
    for workers in (1, 2):
        made(path, tmp_path / str(workers), workers=workers)
    assert len(hashes(tmp_path / "1")) == -(-len(qm9_files) // 7)
    assert hashes(tmp_path / "1") == hashes(tmp_path / "2")


@pytest.mark.shared
@pytest.mark.parametrize("listed", [False, True])
def test_qm9_as_pyg_has_it(qm9_rows, tmp_path, listed):
    import pandas as pd
    from rdkit import Chem
    from rdkit.Geometry import Point3D

    path = tmp_path / "raw" / "gdb9.sdf"
    path.parent.mkdir()
    with Chem.SDWriter(str(path)) as writer:
        for row in qm9_rows:
            mol = Chem.RWMol()
            conformer = Chem.Conformer(len(row["atomic_numbers"]))
            conformer.Set3D(True)
            for place, (z, xyz) in enumerate(
                zip(row["atomic_numbers"], np.reshape(row["positions"], (-1, 3)).tolist(), strict=True)
            ):
                mol.AddAtom(Chem.Atom(z))
                conformer.SetAtomPosition(place, Point3D(*xyz))
            mol.AddConformer(conformer)
            mol.SetProp("_Name", f"gdb_{row['gdb_idx']}")
            writer.write(mol)
    table = pd.DataFrame(
        [{"mol_id": f"gdb_{row['gdb_idx']}"} | {k: row[k] for k in QM9_ORDER} for row in qm9_rows]
    )
    table["u0_atom"] = 1.0
    table.iloc[:-1].to_csv(path.with_name("gdb9.sdf.csv"), index=False)
    if listed:
        path.with_name("qm9_uncharacterized_idx.txt").write_text("23\n25\n")
    shards, result = made(path.parent if listed else path, tmp_path / "set")
    expected = {"unreadable record": 1} | ({"uncharacterized": 2} if listed else {})
    assert result.counts["in"] == len(qm9_rows) and result.counts["reasons"] == expected
    assert any("advise against, those in it are kept" in line for line in result.lines) != listed
    rows = [row for row in qm9_rows[:-1] if not (listed and row["gdb_idx"] in (23, 25))]
    assert shards.ids().tolist() == [f"dsgdb9nsd_{row['gdb_idx']:06d}" for row in rows]
    assert targets(shards)["gap"] == pytest.approx(
        np.array([row["gap"] for row in rows]) * HARTREE, rel=1e-12
    )
    for got, row in zip(positions(shards), rows, strict=True):
        assert got.ravel() == pytest.approx(np.array(row["positions"]), abs=6e-5)  # SD files have four digits


def test_extended_xyz_as_ase_writes_it(tmp_path):
    import ase.io
    from ase import Atoms
    from ase.build import bulk, molecule

    frames = [molecule(name) for name in ("CH4", "H2O", "C6H6", "C2H6", "NH3")]
    for place, atoms in enumerate(frames):
        atoms.info |= {
            "dipole": 0.5 * place,
            "e_total": -1.5 * place,
            "smiles": f"S{place}",
            "id": f"mol {place}",
        }
        atoms.arrays["forces"] = np.ones((len(atoms), 3))
    cell = bulk("NaCl", "rocksalt", a=5.6)
    cell.info |= {"e_total": 1.0}
    boxed = Atoms("He", cell=[9, 9, 9], pbc=False)
    boxed.info |= {"e_total": "what", "id": "boxed"}
    path = tmp_path / "many.extxyz"
    ase.io.write(path, [*frames, cell, boxed], format="extxyz")
    shards, result = made(path, tmp_path / "set", {"e_total": "kcal/mol"})
    assert quarantine(tmp_path / "set") == {
        "many-5": ("periodic structure", "pbc=T T T"),
        "many-6": ("unreadable target", "e_total: 'what'"),
    }
    assert shards.ids().tolist() == [f"mol {place}" for place in range(5)]
    assert shards.column("smiles").to_pylist() == [f"S{place}" for place in range(5)]
    assert targets(shards)["e_total"] == pytest.approx(np.arange(5) * -1.5 * 0.0433641, rel=1e-6)
    assert any("columns dipole are not read" in line for line in result.lines)
    for got, z, atoms in zip(
        positions(shards), shards.column("z").to_pylist(), ase.io.read(path, ":5"), strict=True
    ):
        assert np.array_equal(got, atoms.positions.astype(np.float32))
        assert z == atoms.numbers.tolist()


@pytest.mark.parametrize("name", ["many.xyz", "many.xyz.gz", "many.xyz.bz2"])
def test_a_bad_frame_costs_no_other(tmp_path, name):
    good = xyz_text(*WATER, "energy=-76.4")
    short = "\n".join(good.splitlines()[:-1]) + "\n"
    long = good + "H 0.0 5.0 0.0\n"
    junk = "this is no frame\nnor this\n"
    word = good.replace("-0.47116100", "left")
    alien = good.replace("O ", "Qq ")
    frames = [good, short, good, long, good, junk, good, word, alien, "0\n\n", good, "\n\n", good[:40]]
    path = packed(tmp_path / name, "".join(frames).encode())
    _, result = made(path, tmp_path / "set", {"energy": "Hartree"})
    bad = quarantine(tmp_path / "set")
    assert {k: reason for k, (reason, _) in bad.items()} == {
        "many-1": "unreadable record",
        "many-3": "unreadable record",
        "many-5": "unreadable record",
        "many-7": "unreadable record",
        "many-8": "unknown element",
        "many-9": "zero atoms",
        "many-11": "unreadable record",
    }
    assert result.counts["in"] == 12


def test_units_are_asked_for(tmp_path):
    path = tmp_path / "a.xyz"
    path.write_text(xyz_text(*WATER, "energy=-76.4 gap=0.3"))
    for units, message in [
        ({}, "unit of column 'energy' is not given: add data.units.energy="),
        ({"energy": "D", "gap": "eV"}, "unit 'D' does not fit energy"),
        ({"energy": "eV", "gap": "eV", "gab": "eV"}, "no source has it .did you mean 'gap'"),
    ]:
        with pytest.raises(UserError, match=message):
            made(path, tmp_path / "set", units)
    path.write_text(xyz_text(*WATER))
    with pytest.raises(UserError, match="no target in"):
        made(path, tmp_path / "set")


@pytest.fixture(scope="module")
def conformers():
    """Molecules with hydrogens and a conformer, and an energy in kcal/mol."""
    from rdkit import Chem
    from rdkit.Chem import rdDistGeom

    mols = []
    for place, smiles in enumerate(
        ["CCO", "c1ccccc1O", "C[C@H](N)C(=O)O", "C#N", "[NH3+]CC(=O)[O-]", "O=C=O"]
    ):
        mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
        rdDistGeom.EmbedMolecule(mol, randomSeed=7)
        mol.SetProp("_Name", f"molecule {place}" if place else "")
        mol.SetProp("gap_ev", str(1.5 * place))
        mol.SetProp("note", "two\nlines")
        mol.SetProp("PUBCHEM_IUPAC_NAME", f"name{place}")
        mols.append(mol)
    return mols


@pytest.mark.parametrize("version", ["V2000", "V3000"])
def test_sd_files(conformers, tmp_path, version):
    from rdkit import Chem
    from rdkit.Chem import rdDepictor

    path = tmp_path / "some.sdf"
    with Chem.SDWriter(str(path)) as writer:
        writer.SetForceV3000(version == "V3000")
        for mol in conformers:
            writer.write(mol)
    drawing = Chem.MolFromSmiles("CCC")
    rdDepictor.Compute2DCoords(drawing)
    text = path.read_text()
    records = text.split("$$$$\n")
    broken = (
        records[1].replace("O   ", "O x ", 1)
        if version == "V2000"
        else records[1].replace("V30 1 C", "V30 1")
    )
    records[2:2] = [broken, records[1][: len(records[1]) // 3] + "\n", Chem.MolToMolBlock(drawing)]
    path.write_text("$$$$\n".join(records))
    shards, result = made(path, tmp_path / "set", {"gap_ev": "eV"})
    assert result.counts["in"] == 9
    assert {row: reason for row, (reason, _) in quarantine(tmp_path / "set").items()} == {
        "some-2": "unreadable record",
        "some-3": "unreadable record",
        "some-4": "2D coordinates",
    }
    assert shards.ids().tolist() == ["some-0", *(f"molecule {k}" for k in range(1, 6))]
    assert targets(shards)["gap_ev"].tolist() == [1.5 * k for k in range(6)]
    assert shards.column("iupac_name").to_pylist() == [f"name{k}" for k in range(6)]
    for mol, got, z, smiles, key in zip(
        conformers,
        positions(shards),
        *(shards.column(c).to_pylist() for c in ("z", "smiles", "inchikey")),
        strict=True,
    ):
        assert got == pytest.approx(mol.GetConformer().GetPositions(), abs=6e-5)
        assert z == [atom.GetAtomicNum() for atom in mol.GetAtoms()]
        assert smiles == Chem.MolToSmiles(Chem.RemoveHs(mol))
        assert key == Chem.MolToInchiKey(mol)


SMILES = ["CCO", "c1ccccc1", "C[C@H](N)C(=O)O", "not a molecule", "OCC", "B(O)O", "", "CC(=O)O", "C1CC1N"]


def test_sd_records_without_their_hydrogens_are_no_geometries(conformers, tmp_path):
    """Heavy atoms alone, and a drawing whose header does not say so; a record without bonds is not judged."""
    from rdkit import Chem

    path = tmp_path / "some.sdf"
    flat = Chem.MolFromSmiles("CCO")
    Chem.rdDepictor.Compute2DCoords(flat)
    drawn = Chem.MolToMolBlock(flat).replace("          2D", "          3D")
    bare = Chem.MolToMolBlock(Chem.RemoveHs(conformers[0]))
    loose = "loose\n  x                  3D\n\n  2  0  0  0  0  0  0  0  0  0999 V2000\n"
    loose += "    0.0000    0.0000    0.0000 O   0  0\n    0.0000    0.0000    1.2000 O   0  0\nM  END\n"
    blocks = [Chem.MolToMolBlock(conformers[0]), bare, drawn, loose]
    path.write_text("".join(block + ">  <energy>\n1\n\n$$$$\n" for block in blocks))
    _, result = made(path, tmp_path / "set", {"energy": "eV"})
    assert result.counts["kept"] == 2 and result.counts["reasons"] == {"missing hydrogens": 2}
    details = [detail for _, detail in quarantine(tmp_path / "set").values()]
    assert "6 by its bonds: add them, or give XYZ" in details


@pytest.mark.parametrize("name", ["table.csv", "table.tsv", "table.csv.gz", "table.parquet"])
def test_tables_of_smiles(ray_once, tmp_path, name):
    from rdkit import Chem

    gaps = [float(k) for k in range(len(SMILES))]
    path = tmp_path / name
    if name.endswith("parquet"):
        pq.write_table(pa.table({"SMILES".lower(): SMILES, "gap": gaps}), path)
    else:
        tab = "\t" if "tsv" in name else ","
        lines = [tab.join(["SMILES", "gap", "title"])]
        lines += [
            tab.join([s, repr(g), f'"a, ""{k}"""' if k else '"'])
            for k, (s, g) in enumerate(zip(SMILES, gaps, strict=True))
        ]
        lines[1] = tab.join([SMILES[0], "0.0", '"two\nlines"'])
        lines += [
            tab.join(["C", "x", ""]),
            tab.join(["CC", "1"]),
            tab.join(["CC", "1", '"open']),
            tab.join(["CCC", "", "é"]),
        ]
        packed(path, ("\ufeff" + "\r\n".join(lines)).encode().replace("é".encode(), b"\xe9"))
    shards, _ = made(path, tmp_path / "set", {"gap": "meV"})
    made(path, tmp_path / "again", {"gap": "meV"}, workers=1)
    assert hashes(tmp_path / "set") == hashes(tmp_path / "again")
    bad = {k: reason for k, (reason, _) in quarantine(tmp_path / "set").items()}
    expected = {"table-3": "invalid SMILES", "table-6": "invalid SMILES"}
    if not name.endswith("parquet"):
        expected |= {
            "table-9": "unreadable target",
            "table-10": "unreadable record",
            "table-11": "unreadable record",
        }
    assert bad == expected
    kept = [k for k in range(len(SMILES)) if f"table-{k}" not in bad]
    assert targets(shards)["gap"][: len(kept)].tolist() == [gaps[k] * 1e-3 for k in kept]
    smiles = shards.column("smiles").to_pylist()
    assert smiles[: len(kept)] == [SMILES[k] for k in kept]
    if not name.endswith("parquet"):
        assert shards.column("title").to_pylist() == [
            "two\nlines",
            *(f'a, "{k}"' for k in kept[1:]),
            "\ufffd",
        ]
        assert np.isnan(targets(shards)["gap"][-1])
    same = [positions(shards)[smiles.index(text)] for text in ("CCO", "OCC")]
    assert np.array_equal(*same)  # one molecule, one geometry
    for text, z, pos, key in zip(
        smiles,
        shards.column("z").to_pylist(),
        positions(shards),
        shards.column("inchikey").to_pylist(),
        strict=True,
    ):
        mol = Chem.AddHs(Chem.MolFromSmiles(text))
        assert sorted(z) == sorted(atom.GetAtomicNum() for atom in mol.GetAtoms())
        assert key == Chem.MolToInchiKey(mol)
        apart = np.linalg.norm(pos[:, None] - pos[None], axis=-1) + 9 * np.eye(len(pos))
        assert 0.9 < apart.min() < 1.3 and np.ptp(pos, axis=0).max() < 12


def test_a_conformer_is_at_the_bottom_of_mmff94():
    from rdkit import Chem
    from rdkit.Chem import rdForceFieldHelpers

    from mmgnn_dist.chem.conformers import embed_smiles

    (pos,) = embed_smiles("CC(=O)Nc1ccccc1").positions
    mol = Chem.AddHs(Chem.MolFromSmiles(Chem.CanonSmiles("CC(=O)Nc1ccccc1")))
    holder = Chem.Conformer(mol.GetNumAtoms())
    holder.SetPositions(np.reshape(pos, (-1, 3)))
    mol.AddConformer(holder)
    field = rdForceFieldHelpers.MMFFGetMoleculeForceField(
        mol, rdForceFieldHelpers.MMFFGetMoleculeProperties(mol)
    )
    assert np.abs(field.CalcGrad()).max() < 0.05  # kcal/mol/Å


def test_ase_databases(tmp_path):
    from ase import Atoms
    from ase.build import bulk, molecule
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.db import connect

    path = tmp_path / "some.db"
    names = ["CH4", "H2O", "C6H6", "NH3", "C2H6"]
    with connect(path) as database:
        for place, name in enumerate(names):
            atoms = molecule(name)
            atoms.calc = SinglePointCalculator(atoms, energy=-10.0 * place)
            database.write(
                atoms,
                key_value_pairs={"homo": 0.1 * place, "smiles": f"S{place}"},
                data={"extra": np.array([place + 0.5]), "vector": np.ones(3)},
            )
        database.write(bulk("Cu"), key_value_pairs={"homo": 1.0})
        database.write(Atoms("HH", [[0, 0, 0], [0, 0, 0.74]]), key_value_pairs={"homo": 0.5})
        database.metadata = {"_property_unit_dict": {"extra": "Debye", "unknown": "furlong"}}
    shards, result = made(path, tmp_path / "set", {"homo": "Hartree"})
    assert result.counts["in"] == 7
    assert quarantine(tmp_path / "set") == {"some-5": ("periodic structure", "pbc=T T T")}
    y = targets(shards)
    assert y["homo"] == pytest.approx(np.array([0, 0.1, 0.2, 0.3, 0.4, 0.5]) * HARTREE)
    assert y["energy"][:5].tolist() == [0.0, -10.0, -20.0, -30.0, -40.0] and np.isnan(y["energy"][5])
    assert y["extra"][:5].tolist() == [0.5, 1.5, 2.5, 3.5, 4.5]
    assert shards.column("smiles").to_pylist() == ["S0", "S1", "S2", "S3", "S4", None]
    for name, got, z in zip(names, positions(shards), shards.column("z").to_pylist(), strict=False):
        assert np.array_equal(got, molecule(name).positions.astype(np.float32))
        assert z == molecule(name).numbers.tolist()


@pytest.mark.parametrize(
    ("unit", "size"), [("Bohr", 0.529177210903), ("nm", 10.0), ("Ang", 1.0), ("furlong", 0)]
)
def test_lengths_of_schnetpacks_databases(tmp_path, unit, size):
    """Its `_distance_unit` is that of the positions, whatever ASE's own would be."""
    from ase.build import molecule
    from ase.db import connect

    path, water = tmp_path / "some.db", molecule("H2O")
    with connect(path) as database:
        for _ in range(3):
            stored = water.copy()
            stored.positions /= size or 1.0
            database.write(stored, data={"energy": np.array([1.0])})
        database.metadata = {"_property_unit_dict": {"energy": "Hartree"}, "_distance_unit": unit}
    if not size:
        with pytest.raises(
            UserError, match="_distance_unit is 'furlong', and positions are read in Ang, Bohr or nm"
        ):
            made(path, tmp_path / "set")
        return
    shards, _ = made(path, tmp_path / "set")
    assert targets(shards)["energy"] == pytest.approx([HARTREE] * 3)
    for found in positions(shards):
        np.testing.assert_allclose(found, water.positions, atol=1e-6)


def test_a_folder_of_everything(columns, save, conformers, tmp_path):
    from rdkit import Chem

    folder = tmp_path / "all"
    save({k: v for k, v in columns(10).items() if k != "gap"}, "all/a.parquet")
    (folder / "b").mkdir()
    (folder / "b" / "one.xyz").write_text(xyz_text(*WATER, "energy=1"))
    (folder / "b" / "two.xyz").write_text(xyz_text(*WATER, "energy=2") * 2)
    packed(folder / "three.extxyz.gz", xyz_text(*WATER, "energy=3").encode())
    archive(folder / "c.zip", {"x/../../up.xyz": xyz_text(*WATER, "energy=4").encode(), "notes.md": b"#"})
    archive(folder / "d.tgz", {"/etc/passwd.xyz": xyz_text(*WATER, "energy=5").encode()})
    (folder / "e.csv").write_text("smiles,energy,id\nCC,6,ethane\n")
    conformers[0].SetProp("energy", "7")
    with Chem.SDWriter(str(folder / "f.sdf")) as writer:
        writer.write(conformers[0])
    shards, result = made(folder, tmp_path / "set", {"energy": "eV"})
    assert result.counts == {"in": 18, "kept": 18, "set_aside": 0, "reasons": {}}
    energies = dict(zip(shards.ids().tolist(), targets(shards)["energy"].tolist(), strict=True))
    assert {name: energy for name, energy in energies.items() if not name.startswith("made")} == {
        "b/one": 1,
        "b/two-0": 2,
        "b/two-1": 2,
        "f": 7,
        "three": 3,
        "x/up": 4,
        "etc/passwd": 5,
        "ethane": 6,
    }
    assert [entry["rows"] for entry in shards.manifest["sources"]] == [5, 10, 1, 1, 1]


def test_an_interrupted_stream_continues(tmp_path, monkeypatch):
    """Chunks that are staged are not parsed again, though the stream is read from its start."""
    from mmgnn_dist.data.prepare import pipeline

    files = {f"w{k}.xyz": xyz_text(*WATER, f"energy={k}").encode() for k in range(100)}
    path, to = archive(tmp_path / "many.tar.gz", files), tmp_path / "set"

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "drop_duplicates", stop)
    with pytest.raises(KeyboardInterrupt):
        made(path, to, {"energy": "eV"})
    monkeypatch.undo()
    records = sorted((tmp_path / "set.partial" / "records").glob("*.json"))
    assert len(records) == 15
    for lost in (records[0], records[3], records[14]):
        lost.unlink()
    before = {file: file.stat().st_mtime_ns for file in records if file.is_file()}
    after = {}

    def look(plan, staging):
        after.update({file: file.stat().st_mtime_ns for file in before})
        keep(plan, staging)

    keep = pipeline.drop_duplicates
    monkeypatch.setattr(pipeline, "drop_duplicates", look)
    shards, _ = made(path, to, {"energy": "eV"})
    monkeypatch.undo()
    assert after == before
    made(path, tmp_path / "whole", {"energy": "eV"})
    assert hashes(to) == hashes(tmp_path / "whole")
    assert targets(shards)["energy"].tolist() == list(range(100))


def test_chunks_may_span_sources_of_every_kind(columns, save, tmp_path):
    folder = tmp_path / "mixed"
    save({k: v for k, v in columns(9).items() if k != "gap"}, "mixed/b.parquet")
    for name in ("a.tar.gz", "c.zip", "d.tar"):
        files = {f"{name[0]}{k}.xyz": xyz_text(*WATER, f"energy={k}").encode() for k in range(9)}
        archive(folder / name, files)
    (folder / "e.csv").write_text("smiles,energy\n" + "CC,1\n" * 9)
    for rows in (4, 7, 1000):
        shards, result = made(folder, tmp_path / str(rows), {"energy": "eV"}, rows_per_shard=rows)
        assert result.counts["kept"] == 45
        assert shards.ids()[[0, 8, 9, 18, 27, 44]].tolist() == ["a0", "a8", "made-00000", "c0", "d0", "e-8"]


def test_a_bomb_ends_early_and_costs_no_other(tmp_path):
    frame = xyz_text(*WATER, "energy=1").encode()
    bomb = b"0" * 400_000_000
    path = archive(tmp_path / "a.zip", {"one.xyz": frame, "bomb.xyz": bomb, "two.xyz": frame})
    assert path.stat().st_size < 500_000
    made(path, tmp_path / "set", {"energy": "eV"})
    bad = quarantine(tmp_path / "set")
    assert list(bad) == ["bomb"] and bad["bomb"][0] == "archive bomb"
    assert "more than" in bad["bomb"][1]


def test_a_truncated_archive_is_said_to_be_one(tmp_path):
    files = {f"w{k}.xyz": xyz_text(*WATER, f"energy={k}").encode() for k in range(50)}
    path = archive(tmp_path / "many.tar", files)
    path.write_bytes(path.read_bytes()[: 1024 * 20 + 562])
    shards, result = made(path, tmp_path / "set", {"energy": "eV"})
    assert shards.rows == 20 and result.counts["reasons"] == {"damaged file": 1}
    assert any("many.tar is damaged in 1 places" in line for line in result.lines)
    content = bytearray(archive(path, files).read_bytes())
    content[1024 * 7 : 1024 * 7 + 100] = b"\xff" * 100
    path.write_bytes(content)
    shards, result = made(path, tmp_path / "other", {"energy": "eV"})
    assert shards.rows == 49 and result.counts["reasons"] == {"damaged file": 1}


def test_what_is_passed_over_is_told(tmp_path):
    """Links in an archive are set aside; other files in archives and folders are counted."""
    folder = tmp_path / "mine"
    folder.mkdir()
    with tarfile.open(folder / "a.tar", "w") as tar:
        for name, content in {"one.xyz": xyz_text(*WATER, "energy=1"), "b.csv": "x", "c.xyz.xz": "y"}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content.encode()))
        for kind, name in ((tarfile.LNKTYPE, "hard.xyz"), (tarfile.SYMTYPE, "soft.xyz")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "one.xyz"
            tar.addfile(info)
    for name in ("d.xyz.xz", "e.mol2", "f.cif", ".hidden"):
        (folder / name).write_text("z")
    _, result = made(folder, tmp_path / "set", {"energy": "eV"})
    assert result.counts["in"] == 3 and result.counts["kept"] == 1
    link = ("unreadable record", "a link, which is not followed")
    assert quarantine(tmp_path / "set") == {"hard": link, "soft": link}
    assert (
        "a.tar: 2 of its files not read (.csv, .xz): archives are read for XYZ and SD files" in result.lines
    )
    assert "mine: 3 of its files not read (.cif, .mol2, .xz)" in result.lines
    archive(tmp_path / "table.zip", {"table.csv": b"smiles,gap\nCC,1\n"})
    with pytest.raises(
        UserError, match=r"no molecule in .*table.zip; .*\(.csv\): archives are read for XYZ and SD"
    ):
        made(tmp_path / "table.zip", tmp_path / "other", {"gap": "eV"})


def test_the_command_line_reads_an_archive(tmp_path, capsys):
    from mmgnn_dist.cli.main import main

    path = archive(
        tmp_path / "a.tgz",
        {"a.xyz": METHANE.encode(), "b.xyz": METHANE.replace("gdb 1\t", "gdb 2\t").encode()},
    )
    assert main(["data", "prepare", str(path), "--to", str(tmp_path / "set"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kept"] == 2


def test_conformers_of_one_chunk_are_made_by_several_tasks(ray_once, tmp_path):
    from mmgnn_dist.chem.conformers import embed_smiles

    smiles = [f"{'C' * (k % 7 + 1)}{tail}" for k, tail in enumerate(["O", "N", "F", "C#N", "C=O"] * 28)]
    path = tmp_path / "many.csv"
    path.write_text("smiles,energy\n" + "".join(f"{text},{k}\n" for k, text in enumerate(smiles)))
    shards, result = made(path, tmp_path / "set", {"energy": "eV"}, rows_per_shard=4096, workers=2)
    assert result.counts["kept"] == 140 and len(shards.shards) == 1
    for row in (0, 63, 64, 139):
        assert np.array_equal(
            positions(shards)[row].ravel(), np.float32(embed_smiles(smiles[row]).positions[0])
        )


@pytest.mark.shared
def test_qm9_as_a_table_of_smiles_needs_no_recipe(qm9_rows, tmp_path):
    lines = [",".join(["mol_id", "smiles", *QM9_ORDER])]
    lines += [
        ",".join([f"gdb_{row['gdb_idx']}", row["smiles"], *(repr(row[k]) for k in QM9_ORDER)])
        for row in qm9_rows[:10]
    ]
    (tmp_path / "qm9.csv").write_text("\n".join(lines))
    shards, _ = made(tmp_path / "qm9.csv", tmp_path / "set")
    assert shards.ids().tolist() == [f"dsgdb9nsd_{row['gdb_idx']:06d}" for row in qm9_rows[:10]]
    assert targets(shards)["u0"] == pytest.approx([row["u0"] * HARTREE for row in qm9_rows[:10]])
    assert shards.column("inchikey").to_pylist() == [row["inchikey"] for row in qm9_rows[:10]]
