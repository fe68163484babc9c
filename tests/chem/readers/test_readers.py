import re

import numpy as np
import pyarrow as pa
import pytest

from mmgnn_dist.chem.checks import REASONS, check_molecules
from mmgnn_dist.chem.readers.find import find_sources
from mmgnn_dist.errors import UserError

UNITS = {"energy": "Hartree", "gap": "eV"}


def read(path, units=None, start=0, rows=None):
    [source] = find_sources([str(path)], UNITS if units is None else units)
    names = [target.name for _, target, _ in source.targets]
    return source.convert(source.stream(start).read(rows or source.rows - start), start, names)


def test_rows_come_alike_from_any_start_and_row_group_size(columns, save):
    made = columns(60)
    path = save(made, row_group_size=7)
    every = read(path)
    assert every.id.to_pylist() == made["id"]
    assert every.z.tolist() == [z for mol in made["atomic_numbers"] for z in mol]
    assert every.y[:, 0] == pytest.approx(np.array(made["energy"]) * 27.211386245988)
    part = read(path, start=20, rows=17)
    assert part.id.to_pylist() == made["id"][20:37]
    assert np.array_equal(part.y, every.y[20:37])


def test_a_stream_is_read_on(columns, save):
    made = columns(50)
    [source] = find_sources([str(save(made, row_group_size=11))], UNITS)
    stream = source.stream(3)
    got = [stream.read(k)["id"].to_pylist() for k in (1, 10, 20)]
    assert [name for part in got for name in part] == made["id"][3:34]


def test_positions_as_triples_and_elements_as_symbols(columns, save):
    made = columns(20)
    flat = read(save(made))
    made["positions"] = [np.reshape(p, (-1, 3)).tolist() for p in made["positions"]]
    symbols = {1: "H", 6: "C", 7: "N", 8: "O"}
    made["atomic_numbers"] = [[symbols[z] for z in mol] for mol in made["atomic_numbers"]]
    nested = read(save(made, "nested.parquet"))
    assert np.array_equal(flat.pos, nested.pos)
    assert np.array_equal(flat.z, nested.z)
    assert np.array_equal(flat.pos_count, nested.pos_count)


def test_ids_are_made_of_name_and_row(columns, save):
    made = columns(5)
    del made["id"]
    assert read(save(made, "mine.parquet"), start=2).id.to_pylist() == ["mine-2", "mine-3", "mine-4"]


def test_units_of_the_files_metadata_and_ignored_columns(columns, save):
    made = columns(5) | {"my_number": [1.0] * 5}
    [source] = find_sources([str(save(made, units='{"energy": "eV", "gap": "meV"}'))], {})
    assert source.ignored == ("my_number",)
    assert {t.name: f for _, t, f in source.targets} == {"energy": 1.0, "gap": 1e-3}
    [source] = find_sources([str(save(made))], UNITS | {"my_number": "D"})
    assert source.ignored == ()


@pytest.mark.parametrize(
    ("change", "units", "message"),
    [
        ({}, {"energy": "eV"}, "unit of column 'gap' is not given: add data.units.gap="),
        ({}, {**UNITS, "gapp": "eV"}, "no source has it .did you mean 'gap'"),
        ({}, {**UNITS, "gap": "D"}, "unit 'D' does not fit gap"),
        ({"gap": ["a"] * 4}, UNITS, "not a number"),
        ({"positions": None}, UNITS, "no column positions"),
    ],
)
def test_wrong_tables_are_the_users_error(columns, save, change, units, message):
    made = columns(4) | change
    path = save({name: values for name, values in made.items() if values is not None})
    with pytest.raises(UserError, match=message):
        find_sources([str(path)], units)


@pytest.mark.parametrize(
    ("column", "values", "says"),
    [
        ("positions", ["[0, 0, 0]"] * 4, "'positions' is string, and has to be lists of coordinates"),
        ("positions", [{"x": 0.0}] * 4, "'positions' is struct<x: double>, and"),
        ("atomic_numbers", ["[1, 1]"] * 4, "has to be lists of atomic numbers or symbols"),
        ("id", [["a"]] * 4, "'id' is list<"),
        ("synonyms", [1, 2, 3, 4], "has to be lists of strings, or JSON lists"),
        ("synonyms", [[1]] * 4, "has to be lists of strings, or JSON lists"),
        ("iupac_name", [["a"]] * 4, "has to be strings or numbers"),
        ("tpsa", [[1.0]] * 4, "has to be numbers, also as strings"),
        ("field_sources", [{"a": 1}] * 4, "'field_sources' is struct<a: int64>, and has to be strings"),
        ("uncharacterized", ["no"] * 4, "has to be true or false"),
    ],
)
def test_columns_of_a_wrong_type_are_refused_before_any_work(columns, save, column, values, says):
    made = columns(4) | {column: values}
    if column == "uncharacterized":
        made |= {name: [1.0] * 4 for name in ("A", "B", "C")} | {"gdb_idx": [1, 2, 3, 4]}
    with pytest.raises(UserError, match=re.escape(says)):
        find_sources([str(save(made))], UNITS)


def test_ids_that_are_numbers(columns, save):
    """Floats that are whole are ids as people write them; the others keep their digits, and NaN is none."""
    made = columns(6) | {"id": [0.0, 0.1, 0.25, float("nan"), None, 12.0]}
    [source] = find_sources([str(save(made))], UNITS)
    molecules = source.convert(source.stream(0).read(6), 0, list(UNITS))
    assert molecules.id.to_pylist() == ["0", "0.1", "0.25", None, None, "12"]
    assert [REASONS[code] for code in check_molecules(molecules)] == ["", "", "", "no id", "no id", ""]


def test_targets_that_no_float_holds_are_rounded(columns, save):
    made = columns(2) | {"gap": [2**53 + 1, 3]}
    [source] = find_sources([str(save(made))], UNITS)
    assert source.convert(source.stream(0).read(2), 0, ["gap", "energy"]).y[:, 0].tolist() == [2.0**53, 3.0]


def test_wrong_files_are_the_users_error(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.parquet").write_bytes(b"PAR1 not really")
    (tmp_path / "x.pdf").write_text("")
    for name, message in [
        ("absent.parquet", "no file"),
        ("empty", "without any of Parquet, XYZ"),
        ("x.parquet", "not a readable Parquet"),
        ("x.pdf", "read from Parquet, XYZ.*not from '.pdf'"),
    ]:
        with pytest.raises(UserError, match=message):
            find_sources([str(tmp_path / name)], {})


def test_every_fault_has_its_reason(columns, save):
    made = columns(13)
    z, pos = made["atomic_numbers"], made["positions"]
    z[1], pos[1] = [], []
    pos[2] = pos[2][:-1]
    z[3][0] = 0
    z[4][0] = 119
    pos[5][1] = float("nan")
    pos[6][1] = float("inf")
    pos[7][1] = 1e5
    pos[8][3:6] = [x + 0.05 for x in pos[8][:3]]
    made["gap"][9] = float("inf")
    made["gap"][10] = None
    made["id"][11] = " "
    z[12] = None
    molecules = read(save(made))
    reasons = [REASONS[code] for code in check_molecules(molecules)]
    assert reasons == [
        "",
        "zero atoms",
        "lengths differ",
        "unknown element",
        "unknown element",
        "non-finite coordinates",
        "non-finite coordinates",
        "huge coordinates",
        "overlapping atoms",
        "infinite target",
        "",
        "no id",
        "zero atoms",
    ]
    assert np.isnan(molecules.y[10, 1])


def test_overlaps_agree_with_all_pairs(columns, save):
    made = columns(300, seed=4)
    rng = np.random.default_rng(1)
    for k in range(0, 300, 3):
        place = int(rng.integers(1, len(made["atomic_numbers"][k])))
        shift = rng.normal(size=3)
        shift *= rng.uniform(0.1, 0.3) / np.linalg.norm(shift)
        made["positions"][k][3 * place : 3 * place + 3] = (
            np.array(made["positions"][k][:3]) + shift
        ).tolist()
    molecules = read(save(made))
    close = []
    for flat in made["positions"]:
        pos = np.reshape(flat, (-1, 3))
        pairs = np.linalg.norm(pos[:, None] - pos[None], axis=-1)[np.triu_indices(len(pos), 1)]
        close.append(bool((pairs < 0.2).any()))
    assert 20 < sum(close) < 100
    assert (check_molecules(molecules) != 0).tolist() == close


def test_ragged_triples_are_seen(columns, save):
    made = columns(3)
    made["positions"] = [np.reshape(p, (-1, 3)).tolist() for p in made["positions"]]
    made["positions"][1][0], made["positions"][1][1] = [0.0], [1.0, 2.0, 3.0, 4.0, 5.0]
    assert [REASONS[code] for code in check_molecules(read(save(made)))] == ["", "lengths differ", ""]


@pytest.mark.shared
def test_qm9_is_recognised(shared):
    path = shared / "data/qm9/qm9.parquet"
    [source] = find_sources([str(path)], {})
    assert source.qm9 and set(source.ignored) == {"A", "B", "C", "connectivity_ok"}
    names = [target.name for _, target, _ in source.targets]
    molecules = source.convert(source.stream(0).read(3000), 0, names)
    y = dict(zip(names, molecules.y.T, strict=True))
    assert molecules.id[0].as_py() == "dsgdb9nsd_000001"
    assert y["u0"][0] == pytest.approx(-40.47893 * 27.211386245988, rel=1e-12)  # methane
    assert y["mu"][2] == pytest.approx(1.8511)  # water, D
    assert y["cv"][0] == pytest.approx(6.469)
    assert np.abs(y["lumo"] - y["homo"] - y["gap"]).max() < 0.006  # three roundings at 1e-4 Hartree
    assert pa.compute.count_distinct(molecules.id).as_py() == 3000
