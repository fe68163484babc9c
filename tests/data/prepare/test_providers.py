"""Providers of text through `prepare`: order, origins, what RDKit adds, the same shards for any workers."""

from __future__ import annotations

import json
from importlib.metadata import version

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rdkit import rdBase
from real_atoms import with_real_atoms

from mmgnn_dist.config import DataConfig
from mmgnn_dist.data.prepare.pipeline import prepare
from mmgnn_dist.data.shardset.shards import CONTEXT_FIELDS, ShardSet
from mmgnn_dist.errors import UserError

RDKIT = f"RDKit {rdBase.rdkitVersion}"
UNITS = '{"energy": "eV", "gap": "eV"}'


@pytest.fixture
def files(columns, save, tmp_path):
    """40 molecules; the file knows TPSA of every other and some names, the table the weight of number 3."""
    made = columns(40)
    made["smiles"] = ["CCO"] * 40
    made["smiles"][5], made["smiles"][6] = None, "C1CC"
    molecules = save(with_real_atoms(made), units=UNITS)
    table = tmp_path / "text.parquet"
    pq.write_table(pa.table({"id": ["made-00003"], "molecular_weight": [77.0], "cid": [702]}), table)
    return molecules, table


def rows_of(path):
    shards = ShardSet.open(path)
    context = [value for shard in shards.shards for value in shard.context.tolist()]
    found = []
    names = zip(*(shards.column(n).to_pylist() for n in ("molecular_formula", "field_sources")), strict=True)
    for numbers, (formula, sources) in zip(context, names, strict=True):
        row = {k: v for k, v in zip(CONTEXT_FIELDS, numbers, strict=True) if v == v}
        found.append((row | ({"molecular_formula": formula} if formula else {}), json.loads(sources or "{}")))
    return found


def run(files, to, providers, **more):
    text = [files[1]] if "table" in providers else []
    prepare([str(files[0])], to, text, DataConfig(providers=providers, rows_per_shard=15, **more))
    return rows_of(to)


def test_a_field_comes_from_the_first_that_has_it(files, tmp_path):
    rows = run(files, tmp_path / "a", ["table", "file", "rdkit"])
    values, origins = rows[3]
    assert values["molecular_weight"] == 77 and "CID 702" in origins["molecular_weight"]
    assert values["tpsa"] == 3 and origins["tpsa"] == "molecules.parquet"
    assert origins["xlogp"] == origins["molecular_formula"] == RDKIT
    assert values["molecular_formula"] == "C2H6O" and values["h_bond_donor_count"] == 1
    values, origins = rows[4]
    assert values["tpsa"] == pytest.approx(20.23) and origins["tpsa"] == RDKIT
    assert origins["iupac_name"] == "molecules.parquet"
    assert ShardSet.open(tmp_path / "a").manifest["coverage"]["xlogp"] == 38
    manifest = ShardSet.open(tmp_path / "a").manifest
    assert manifest["prepare"]["providers"] == ["table", "file", "rdkit"]
    assert manifest["versions"]["rdkit"] == version("rdkit")


def test_the_order_is_the_recipes(files, tmp_path):
    values, origins = run(files, tmp_path / "a", ["rdkit", "file"])[3]
    assert values["tpsa"] == pytest.approx(20.23) and origins["tpsa"] == RDKIT
    assert origins["molecular_weight"] == RDKIT
    values, origins = run(files, tmp_path / "b", ["rdkit"])[1]
    assert set(origins.values()) == {RDKIT} and "iupac_name" not in origins


@pytest.mark.parametrize("row", [5, 6])
def test_molecules_without_smiles_have_formula_and_weight(files, tmp_path, row):
    values, origins = run(files, tmp_path / "a", ["rdkit"])[row]
    assert set(values) == {"molecular_formula", "molecular_weight"}
    assert set(origins.values()) == {f"{RDKIT} from the atoms"}


def test_without_rdkit_nothing_is_added(files, tmp_path):
    rows = run(files, tmp_path / "a", ["table", "file"])
    assert all(not name.startswith("RDKit") for _, origins in rows for name in origins.values())


def test_shards_do_not_depend_on_the_workers(ray_once, files, tmp_path):
    entries = []
    for workers in (0, 2):
        run(files, tmp_path / str(workers), ["table", "file", "rdkit"], workers=workers)
        entries.append(ShardSet.open(tmp_path / str(workers)).manifest["shards"])
    assert entries[0] == entries[1] and len(entries[0]) == 3


def test_a_table_that_no_provider_reads_is_an_error(files, tmp_path):
    with pytest.raises(UserError, match="no 'table'"):
        prepare([str(files[0])], tmp_path / "a", [files[1]], DataConfig(providers=["file", "rdkit"]))
