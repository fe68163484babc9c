"""Take the molecules of a study out of a large QM9 table.

python docs/studies/subset.py QM9.parquet OUT.parquet --with TEXT.parquet     those that have PubChem's text
python docs/studies/subset.py QM9.parquet OUT.parquet --sample 5000           drawn with seed 0
"""

from __future__ import annotations

import argparse

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


def main() -> None:
    """Write the chosen rows, in the order of the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("table")
    parser.add_argument("out")
    parser.add_argument("--with", dest="text")
    parser.add_argument("--sample", type=int)
    arguments = parser.parse_args()
    table = pq.read_table(arguments.table)
    if arguments.text:
        wanted = pq.read_table(arguments.text, columns=["gdb_idx"])["gdb_idx"].combine_chunks()
        table = table.filter(pc.is_in(table["gdb_idx"], value_set=wanted.cast(table["gdb_idx"].type)))
    else:
        usable = table.filter(pc.invert(table["uncharacterized"]))
        rows = np.sort(np.random.default_rng(0).choice(len(usable), arguments.sample, replace=False))
        table = usable.take(pa.array(rows))
    pq.write_table(table, arguments.out)
    print(f"{len(table)} molecules")


if __name__ == "__main__":
    main()
