"""Where tables hold geometries, in which of Arrow's types, and what is refused, by every reader of tables."""

import decimal
import hashlib
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ase.build import molecule
from ase.db import connect

from mmgnn_dist.chem.checks import REASONS, check_molecules
from mmgnn_dist.chem.readers.find import find_sources
from mmgnn_dist.cli.main import main
from mmgnn_dist.errors import UserError

NAMES, SMILES = ("H2O", "CH4", "CH3OH"), ["O", "C", "CO"]
MOLECULES = [molecule(name) for name in NAMES]
NUMBERS = [atoms.numbers.tolist() for atoms in MOLECULES]
TRIPLES = [atoms.positions.tolist() for atoms in MOLECULES]
FLAT = [atoms.positions.ravel().tolist() for atoms in MOLECULES]
AXES = [atoms.positions.T.tolist() for atoms in MOLECULES]
GAP = {"gap": [1.0, 2.0, 3.0]}
EV = {"gap": "eV"}


def read(path, units=EV):
    """(source, block, reasons) of a file, which must be as it was, with nothing beside it."""
    before = state(path.parent)
    [source] = find_sources([str(path)], units)
    block = source.convert(source.stream(0).read(source.rows), 0, [t.name for _, t, _ in source.targets])
    assert state(path.parent) == before
    return source, block, [REASONS[code] for code in check_molecules(block)]


def state(folder):
    return {os.fsencode(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def is_right(block, positions=FLAT):
    return (
        np.array_equal(block.z, np.concatenate(NUMBERS))
        and block.z_count.tolist() == [3, 5, 6]
        and np.allclose(block.pos, np.concatenate(positions), atol=1e-3)
        and block.y.ravel().tolist() == GAP["gap"]
    )


@pytest.mark.parametrize(
    ("positions", "numbers"),
    [
        ("pos", "z"),
        ("coordinates", "species"),
        ("R", "Z"),
        ("xyz", "charges"),
        ("Positions", "Atomic_Numbers"),
    ],
)
def test_a_geometry_under_another_name_is_read_and_told(save, positions, numbers):
    made = {"smiles": SMILES, positions: TRIPLES, numbers: NUMBERS, **GAP}
    source, block, reasons = read(save(made))
    assert reasons == [""] * 3 and is_right(block)
    assert f"'{positions}' (Å) and '{numbers}' (elements)" in source.notes[0]


def xyz_block(atoms):
    rows = [
        f"{s} {x:.4f} {y:.4f} {z:.4f}" for s, (x, y, z) in zip(atoms.symbols, atoms.positions, strict=True)
    ]
    return "\n".join([str(len(atoms)), "", *rows])


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({"geom": TRIPLES}, "'geom'"),
        ({"structure_3d": FLAT}, "'structure_3d'"),
        ({"frames": AXES}, "'frames'"),
        ({"sites": [[{"x": 0.0, "y": 0.0, "z": 0.0}]] * 3}, "'sites'"),
        ({"x": [[0.0]] * 3, "y": [[0.0]] * 3, "z": [[0.0]] * 3}, "'x', 'y', 'z'"),
        ({"geometry": [xyz_block(atoms) for atoms in MOLECULES]}, "'geometry'"),
        ({"mol": ["\n\n\n  0  0\nM  END\n"] * 3}, "'mol'"),
        ({"coords": [str(places) for places in TRIPLES]}, "'coords'"),
        ({"positions": TRIPLES}, "no column atomic_numbers"),
        ({"positions": TRIPLES, "charges": [[0.1] * len(z) for z in NUMBERS]}, "no column atomic_numbers"),
        ({"pos": TRIPLES, "coords": TRIPLES, "z": NUMBERS}, "'pos', 'coords' all look like positions"),
    ],
)
def test_no_conformer_is_made_where_a_geometry_stands_unread(save, columns, named):
    with pytest.raises(UserError) as error:
        read(save({"smiles": SMILES, **columns, **GAP}))
    assert named in str(error.value) and "\n" not in str(error.value)


def test_lists_that_are_no_geometry_do_not_matter(save):
    made = {
        "smiles": SMILES,
        "fingerprint": [[0.0, 1.0] * 8] * 3,
        "z": NUMBERS,
        "bonds": [[[0, 1]]] * 3,
        **GAP,
    }
    source, _, reasons = read(save(made))
    assert reasons == [""] * 3 and source.embeds and "not read: 'z'" in source.notes[0]


def decimals(values):
    return pa.array([decimal.Decimal(str(value)) for value in values], pa.decimal128(10, 4))


def in_dictionary(lists):
    flat = pa.array([symbol for symbols in lists for symbol in symbols]).dictionary_encode()
    return pa.ListArray.from_arrays(np.cumsum([0, *map(len, lists)]), flat)


SYMBOLS = [list(atoms.symbols) for atoms in MOLECULES]
VIEW = pa.large_list_view(pa.list_view(pa.float64()))
FORMS = {
    "views": {
        "positions": pa.array(TRIPLES, VIEW),
        "atomic_numbers": pa.array(NUMBERS, pa.list_view(pa.int8())),
    },
    "decimals": {"gap": decimals(GAP["gap"])},
    "half floats": {"gap": pa.array(np.array(GAP["gap"], np.float16))},
    "half positions": {
        "positions": pa.array([np.array(p, np.float16) for p in FLAT], pa.list_(pa.float16()))
    },
    "numbers as text": {"gap": ["1.0", " 2", "3e0"]},
    "text views": {
        "gap": pa.array(["1", "2", "3"], pa.string_view()),
        "id": pa.array(["a", "b", "c"], pa.string_view()),
    },
    "unsigned": {"atomic_numbers": pa.array(NUMBERS, pa.list_(pa.uint64()))},
    "dictionaries": {
        "atomic_numbers": in_dictionary(SYMBOLS),
        "gap": pa.array(GAP["gap"]).dictionary_encode(),
    },
    "symbols": {"atomic_numbers": [[f" {symbol.lower()} " for symbol in row] for row in SYMBOLS]},
    "isotopes": {"atomic_numbers": [[s.replace("H", "D") for s in row] for row in SYMBOLS]},
    "fixed triples": {"positions": pa.array(TRIPLES, pa.list_(pa.list_(pa.float32(), 3)))},
    "axes first": {"positions": AXES},
    "bytes": {"id": pa.array([b"a", b"b", b"c"], pa.binary_view())},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_type_of_arrow_for_the_same_values(save, form):
    made = {"atomic_numbers": NUMBERS, "positions": TRIPLES, **GAP, **FORMS[form]}
    source, block, reasons = read(save(made))
    assert reasons == [""] * 3 and is_right(block)
    assert any("[3][n]" in note for note in source.notes) == (form == "axes first")


def test_tensors(save):
    """Extension types: molecules of one size as tensors [3, 3] and [3]."""
    made = {"gap": [1.0, 2.0]}
    for name, shape, kind in (("positions", (3, 3), pa.float32()), ("atomic_numbers", (3,), pa.int64())):
        values = np.array([TRIPLES[0]] * 2 if name == "positions" else [NUMBERS[0]] * 2)
        storage = pa.array(values.reshape(2, -1).tolist(), pa.list_(kind, int(np.prod(shape))))
        made[name] = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(kind, shape), storage)
    _, block, reasons = read(save(made))
    assert reasons == ["", ""] and np.allclose(block.pos, FLAT[0] * 2)


def test_padding_is_cut_and_told(save):
    width = 7
    padded = {
        "atomic_numbers": [z + [0] * (width - len(z)) for z in NUMBERS],
        "positions": [p + [0.0] * (3 * width - len(p)) for p in FLAT],
    }
    source, block, reasons = read(save(padded | GAP))
    assert reasons == [""] * 3 and is_right(block) and "are cut" in source.notes[0]
    padded["positions"][1][-1] = 0.5  # an atom of no element
    padded["atomic_numbers"][2][1] = 0  # between atoms
    assert read(save(padded | GAP))[2] == ["", "unknown element", "unknown element"]


def test_the_layout_is_that_of_the_file(save):
    """Of three atoms [3][3] tells nothing: the other rows decide, and rows of both kinds are refused."""
    many = {"atomic_numbers": NUMBERS[:1] * 5000 + NUMBERS, "positions": AXES[:1] * 5000 + AXES}
    source, block, _ = read(save(many | {"gap": [1.0] * 5003}))
    assert source.axes_first and np.allclose(block.pos[:9], FLAT[0])
    mixed = {"atomic_numbers": NUMBERS, "positions": [TRIPLES[0], TRIPLES[1], AXES[2]], **GAP}
    with pytest.raises(UserError, match=r"\[n\]\[3\] in some rows and \[3\]\[n\] in others"):
        read(save(mixed))
    cut = [TRIPLES[0], TRIPLES[1], [row[:2] for row in TRIPLES[2]]]
    assert read(save({"atomic_numbers": NUMBERS, "positions": cut, **GAP}))[2] == ["", "", "lengths differ"]


def test_an_empty_column_of_a_target_is_a_missing_target(save):
    made = {"atomic_numbers": NUMBERS, "positions": FLAT, "gap": pa.nulls(3), "homo": [1.0, 2.0, 3.0]}
    source, block, reasons = read(save(made), {"gap": "eV", "homo": "eV"})
    y = dict(zip([target.name for _, target, _ in source.targets], block.y.T, strict=True))
    assert reasons == [""] * 3 and np.isnan(y["gap"]).all() and y["homo"].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_names_in_any_case(tmp_path, suffix):
    made = {
        "ID": ["a", "b", "c"],
        "SMILES": SMILES,
        "InChIKey": [None] * 3,
        "IUPAC_Name": ["x", "y", "z"],
        **GAP,
    }
    path = tmp_path / f"made{suffix}"
    if suffix == ".csv":
        rows = [",".join(str(value or "") for value in row) for row in zip(*made.values(), strict=True)]
        path.write_text("\n".join([",".join(made), *rows]))
    else:
        pq.write_table(pa.table(made), path)
    _, block, reasons = read(path)
    assert reasons == [""] * 3 and block.id.to_pylist() == ["a", "b", "c"]
    assert block.smiles.to_pylist() == SMILES and block.text["iupac_name"].to_pylist() == ["x", "y", "z"]


def test_a_name_that_stands_twice_is_refused(tmp_path):
    table = pa.Table.from_arrays(
        [pa.array(SMILES), pa.array([1.0] * 3), pa.array([2.0] * 3)], ["smiles", "gap", "gap"]
    )
    pq.write_table(table, tmp_path / "twice.parquet")
    with pytest.raises(UserError, match="two columns of the same name, 'gap'"):
        read(tmp_path / "twice.parquet")
    pq.write_table(pa.table({"SMILES": SMILES, "Smiles": SMILES, **GAP}), tmp_path / "cases.parquet")
    with pytest.raises(UserError, match="'SMILES' and 'Smiles' are both smiles"):
        read(tmp_path / "cases.parquet")


@pytest.mark.parametrize("write", [str, lambda value: np.array2string(np.array(value), threshold=999)])
def test_lists_in_a_csv_are_geometries(tmp_path, write):
    rows = zip(SMILES, map(write, TRIPLES), map(str, SYMBOLS), GAP["gap"], strict=True)
    lines = [f'{smiles},"{places}","{symbols}",{gap}' for smiles, places, symbols, gap in rows]
    path = tmp_path / "made.csv"
    broken = """C,"[[0, 0","['C']",4"""
    path.write_text("\n".join(["smiles,coordinates,symbols,gap", *lines, broken]))
    source, block, reasons = read(path)
    assert reasons == ["", "", "", "unreadable record"] and "'coordinates' (Å)" in source.notes[0]
    assert np.allclose(block.pos, np.concatenate(FLAT), atol=1e-6)
    assert block.z[: len(np.concatenate(NUMBERS))].tolist() == np.concatenate(NUMBERS).tolist()


def test_a_csv_with_a_geometry_that_is_not_read_is_refused(tmp_path):
    path = tmp_path / "made.csv"
    path.write_text(
        "smiles,geom,gap\n" + "".join(f'{s},"{p}",1\n' for s, p in zip(SMILES, TRIPLES, strict=True))
    )
    with pytest.raises(UserError, match="'geom'"):
        read(path)
    path.write_text("smiles,x,y,z,gap\nO,0.1,0.2,0.3,1\n")
    with pytest.raises(UserError, match="'x', 'y', 'z'"):
        read(path)


def test_refusals_are_one_line_and_exit_code_2(save, tmp_path, capsys):
    path = save({"smiles": SMILES, "positions": TRIPLES, **GAP})
    assert main(["data", "prepare", str(path), "--to", str(tmp_path / "set"), "data.units.gap=eV"]) == 2
    assert "Traceback" not in (said := capsys.readouterr().err) and "no column atomic_numbers" in said
    odd = tmp_path / os.fsdecode(b"caf\xe9.parquet")
    path.rename(odd)
    assert main(["data", "prepare", str(odd), "--to", str(tmp_path / "set"), "data.units.gap=eV"]) == 2
    assert r"caf\xe9.parquet: the name of this file is not UTF-8" in capsys.readouterr().err
    assert main(["data", "prepare", str(tmp_path), "--to", str(tmp_path / "set"), "data.units.gap=eV"]) == 2
    assert r"caf\xe9.parquet" in capsys.readouterr().err


def database(path):
    with connect(str(path.parent / "made.db")) as rows:
        for atoms, gap, smiles in zip(MOLECULES, GAP["gap"], SMILES, strict=True):
            rows.write(atoms, key_value_pairs={"gap": gap, "SMILES": smiles})
    (path.parent / "made.db").rename(path)
    return path


@pytest.mark.parametrize("name", ["a?b#c%20d.db", "it's a.db"])
def test_a_database_is_opened_by_its_own_name_and_not_changed(tmp_path, name):
    _, block, reasons = read(database(tmp_path / name))
    assert reasons == [""] * 3 and is_right(block) and block.smiles.to_pylist() == SMILES


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_what_an_unfinished_writer_left_is_read_and_stays(tmp_path, mode):
    """A committed change in a write-ahead log counts; a journal undoes what was not committed."""
    path = database(tmp_path / "some.db")
    end = "c.commit()" if mode == "wal" else "c.execute('PRAGMA cache_spill=1')"
    code = f"""
import os, sqlite3
c = sqlite3.connect({str(path)!r})
c.execute("PRAGMA journal_mode={mode}")
c.execute("PRAGMA cache_size=1")
c.execute("PRAGMA wal_autocheckpoint=0")
c.execute("UPDATE systems SET positions = zeroblob(length(positions)) WHERE id = 1")
c.execute("DELETE FROM systems WHERE id = 2")
{end}
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    (tmp_path / "some.db-shm").unlink(missing_ok=True)
    assert (tmp_path / f"some.db-{'wal' if mode == 'wal' else 'journal'}").exists()
    _, block, reasons = read(path)
    if mode == "wal":
        assert reasons == ["overlapping atoms", ""] and block.smiles.to_pylist() == ["O", "CO"]
    else:
        assert reasons == [""] * 3 and is_right(block)


@pytest.mark.parametrize(
    "geometry",
    [
        {"coords": [np.zeros(9).tobytes()]},
        {"geom": ["[('O', (0, 0, 0.117)), ('H', (0, 0.755, -0.47)), ('H', (0, -0.755, -0.47))]"]},
        {"geom": ["O 0.0 0.0 0.117; H 0.0 0.755 -0.47; H 0.0 -0.755 -0.47"]},
    ],
)
def test_no_conformer_where_bytes_or_a_text_may_be_a_geometry(tmp_path, geometry):
    pq.write_table(pa.table({"smiles": ["O"], "gap": [1.0], **geometry}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="what looks like a geometry would not be read"):
        read(tmp_path / "a.parquet")


def test_numbers_in_a_description_are_no_geometry(tmp_path):
    words = ["Boils at 99.97, melts at 0.0, 18.02 g/mol, 1.0 g/mL, 3.2 kPa, 1.8 D, 4.2 J."]
    pq.write_table(pa.table({"smiles": ["O"], "gap": [1.0], "words": words}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet")


def test_a_symbol_that_is_no_element_is_shown(tmp_path):
    z = {"atomic_numbers": [["Xq", "H"], ["6", "O"]], "positions": [[0, 0, 0, 0, 0, 1.2]] * 2}
    pq.write_table(pa.table({**z, "gap": [1.0, 2.0]}), tmp_path / "a.parquet")
    [source] = find_sources([str(tmp_path / "a.parquet")], {"gap": "eV"})
    block = source.convert(source.stream(0).read(2), 0, ["gap"])
    assert block.why.to_pylist() == ["atom 1: 'Xq' is no element", None] and block.z[2:].tolist() == [6, 8]
