"""Sets with and without ions: columns, manifest, report, and the batches of the loader."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmgnn_dist.config import DataConfig
from mmgnn_dist.data.inspect.overview import tables
from mmgnn_dist.data.loading.loader import Loader
from mmgnn_dist.data.prepare.pipeline import prepare
from mmgnn_dist.data.prepare.state_counts import count_states
from mmgnn_dist.data.shardset.references import trained_states
from mmgnn_dist.data.shardset.shards import ShardSet, shard_schema, without_plain_states

WATER, POS = [8, 1, 1], [0.0, 0, 0, 0, 0.76, 0.59, 0, -0.76, 0.59]
# ten molecules a shard: the third has no ion, the fourth one that is a duplicate
CHARGES = [0, 1, -1, 0, 0, None, 0, 0, 0, 0] + [0] * 9 + [1] + [0] * 10 + [0] * 9 + [1]
IDS = [f"m{row}" for row in range(39)] + ["m19"]


def write(path, charges, **columns):
    rows = len(charges)
    table = {
        "atomic_numbers": [WATER] * rows,
        "positions": [POS] * rows,
        "gap": [float(k) for k in range(rows)],
    }
    pq.write_table(pa.table({**table, "charge": pa.array(charges, pa.int64()), **columns}), path)
    return path


@pytest.fixture(scope="module")
def ions(tmp_path_factory, ray_once):
    folder = tmp_path_factory.mktemp("ions")
    data = DataConfig(rows_per_shard=10, units={"gap": "eV"})
    path = write(folder / "mine.parquet", CHARGES, id=IDS)
    return prepare([str(path)], folder / "shards", data=data)


def test_only_shards_with_ions_have_the_columns(ions):
    shards = ShardSet.open(ions.path)
    names = [shard.table.column_names for shard in shards.shards]
    assert ["charge" in some for some in names] == [True, True, False, False]
    assert shards.manifest["schema"] == 2 and shards.has_states
    assert shards.manifest["states"] == {
        "charge": {"-1": 1, "0": 36, "1": 2},
        "multiplicity": {"1": 36, "2": 3},
    }
    assert ions.counts["reasons"] == {"duplicate id": 1}
    assert "molecules by charge -1: 1, 0: 36, 1: 2; by multiplicity 1: 36, 2: 3" in ions.lines
    assert [line for line in ions.lines if line.startswith("3 molecules have unpaired electrons")]
    assert trained_states(shards, np.arange(5)).charges == (-1, 0, 1)


def test_the_loader_gives_charges_to_their_molecules(ions):
    shards = ShardSet.open(ions.path)
    for step in Loader(shards, np.arange(39), ["gap"], batch=8, seed=3).epoch():
        for batch in step.micro:
            expected = [CHARGES[int(gap)] or 0 for gap in batch.y[:, 0]]
            assert batch.charge.tolist() == expected
            assert batch.multiplicity.tolist() == [1 + abs(charge) for charge in expected]
            assert batch.to("cpu").charge.tolist() == expected


def test_a_set_of_neutral_singlets_is_one_without_charges(tmp_path, ray_once):
    """A column of zeros changes no byte of the shards, and the loader gives nothing."""
    data, sums = DataConfig(units={"gap": "eV"}), []
    for name, columns in (("with", {"multiplicity": [1, 1, None]}), ("without", {})):
        path = write(tmp_path / f"{name}.parquet", [0, None, 0], id=["a", "b", "c"], **columns)
        shards = ShardSet.open(prepare([str(path)], tmp_path / name, data=data).path)
        sums.append(shards.sha256)
        assert shards.manifest["schema"] == 1 and "states" not in shards.manifest
    assert sums[0] == sums[1]
    (batch,) = next(Loader(shards, np.arange(3), ["gap"], shuffle=False).epoch()).micro
    assert batch.charge is None and batch.to("cpu").multiplicity is None


def test_ions_without_a_charge_are_counted():
    names = [
        "azanium",
        "acetate",
        "2-(dimethylazaniumyl)acetate",
        "ethyl acetate",
        "1-oxidopyridin-1-ium",
        None,
    ]
    rows = len(names) + 3
    text = {
        "iupac_name": [*names, None, None, None],
        "molecular_formula": [None] * len(names) + ["H4N+", "C2H3NaO2", None],
        "smiles": [None] * (len(names) + 2) + ["C[NH3+]"],
    }
    z = [[1, 1]] * rows
    z[5] = [8, 1]
    columns = {
        "z": pa.array(z, pa.large_list(pa.uint8())),
        **{name: pa.array(values, pa.large_string()) for name, values in text.items()},
    }
    assert count_states(pa.record_batch(columns))["unstated"] == {"ions": 4, "odd": 1}


def test_plain_states_are_dropped():
    schema = shard_schema(1, states=True)
    assert [*shard_schema(1).names, "charge", "multiplicity"] == schema.names
    fields = {"id": ["a", "b"], "charge": pa.array([0, 0], pa.int8())}
    for multiplicity, kept in ((1, False), (3, True)):
        fields["multiplicity"] = pa.array([1, multiplicity], pa.int8())
        assert ("charge" in without_plain_states(pa.record_batch(fields)).schema.names) is kept


def test_the_overview_shows_the_states():
    overview = {
        "rows": 3,
        "targets": {},
        "coverage": {},
        "tokens": {"missing": ""},
        "counts": {"reasons": {}},
    }
    overview["states"] = {"charge": {"-1": 1, "0": 2}, "multiplicity": {"1": 3}}
    rows = {title: rows for title, _, rows in tables(overview)}["Charge and multiplicity"]
    assert [cells for cells, _ in rows] == [
        ["charge", "-1", "1"],
        ["charge", "0", "2"],
        ["multiplicity", "1", "3"],
    ]
