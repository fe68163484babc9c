"""Own ids of tables without a column `id`."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmgnn_dist.cli.main import main
from mmgnn_dist.data.shardset.shards import ShardSet

ROWS = {"smiles": ["C", "CC", "CCC"], "gap": [5.0, 6.0, 7.0]}


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("columns", "ids"),
    [
        ({**ROWS, "name": ["a", "b", "c"]}, ["a", "b", "c"]),
        ({"smiles": ROWS["smiles"], "Compound Name": ["a", "b", "c"], "gap": ROWS["gap"]}, ["a", "b", "c"]),
        ({"reg": ["m7", "m8", "m9"], **ROWS}, ["m7", "m8", "m9"]),
        ({"id": ["x", "y", "z"], "name": ["a", "b", "c"], **ROWS}, ["x", "y", "z"]),
        ({**ROWS, "name": ["a", "a", "c"]}, ["odd-0", "odd-1", "odd-2"]),  # one would be lost as a duplicate
        ({"temperature": ["1.5", "2.5", "3.5"], **ROWS}, ["odd-0", "odd-1", "odd-2"]),
    ],
    ids=["name", "Compound Name", "first", "id", "repeated", "numbers"],
)
def test_names_or_the_first_column_are_ids(tmp_path, capsys, suffix, columns, ids):
    path = tmp_path / f"odd.{suffix}"
    if suffix == "csv":
        rows = [",".join(map(str, row)) for row in (list(columns), *zip(*columns.values(), strict=True))]
        path.write_text("\n".join(rows))
    else:
        pq.write_table(pa.table(columns), path)
    assert main(["data", "prepare", str(path), "--to", str(tmp_path / "set"), "data.units.gap=eV"]) == 0
    assert ShardSet.open(tmp_path / "set").ids().tolist() == [
        name.replace("odd-", f"{path.stem}-") for name in ids
    ]
    assert ("has no column id: the ids are those of" in capsys.readouterr().out) is (ids[0] in ("a", "m7"))
