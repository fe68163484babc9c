"""The forms of an output: CSV, Parquet, JSON lines, SD; each is written in parts that are joined."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmgnn_dist.errors import UserError
from mmgnn_dist.files import atomic_path

if TYPE_CHECKING:
    import pyarrow as pa

SD_SUFFIX = ".sdf"
SUFFIXES = (".parquet", ".csv", ".jsonl", SD_SUFFIX)
FIELD_PREFIX = "mmgnn_"  # of the data fields of a record, which may have fields of the same names
BARE = "{}\n  mmgnn_dist\n\n  0  0  0  0  0  0  0  0  0  0999 V2000\nM  END\n"  # for a record that is lost


def check_suffix(out: Path) -> None:
    """Refuse an output of another form.

    Raises:
        UserError: it has none of `SUFFIXES`.
    """
    if out.suffix not in SUFFIXES:
        raise UserError(f"{out}: tables are written as {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")


def write_part(path: Path, suffix: str, table: pa.Table, raw: Sequence[bytes] | None) -> None:
    """Write one part of an output, complete or not at all.

    Args:
        path: file to write.
        suffix: suffix of the output.
        table: rows of the part.
        raw: the raw record of each row, for an SD file.
    """
    import pyarrow.csv
    import pyarrow.parquet as pq

    with atomic_path(path) as part:
        if suffix == ".parquet":
            pq.write_table(table, part)
        elif suffix == ".csv":
            pyarrow.csv.write_csv(table, part, pyarrow.csv.WriteOptions(include_header=False))
        elif suffix == ".jsonl":
            part.write_text("".join(map(_json_line, table.to_pylist())), encoding="utf-8")
        else:
            assert raw is not None
            part.write_bytes(b"".join(map(_sd_record, raw, table.to_pylist())))


def join_parts(out: Path, parts: Sequence[Path], schema: Callable[[], pa.Schema]) -> None:
    """Join all parts to the output, complete or not at all.

    Args:
        out: file to write.
        parts: the parts in order.
        schema: returns the columns of the output, which a part of a CSV file does not name.
    """
    import pyarrow.csv
    import pyarrow.parquet as pq

    with atomic_path(out) as whole:
        if out.suffix == ".parquet":
            with pq.ParquetWriter(whole, schema()) as writer:
                for path in parts:
                    writer.write_table(pq.read_table(path))
            return
        with open(whole, "wb") as to:
            if out.suffix == ".csv":
                pyarrow.csv.write_csv(schema().empty_table(), to)
            for path in parts:
                with open(path, "rb") as part:
                    shutil.copyfileobj(part, to)


def _json_line(row: dict[str, Any]) -> str:
    """A row as JSON, which has no number that is not finite."""
    plain = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }
    return json.dumps(plain) + "\n"


def _sd_record(raw: bytes, row: dict[str, Any]) -> bytes:
    """A record of an SD file with the values of a row as further data fields."""
    record = raw.rstrip() or BARE.format(row["id"]).encode().rstrip()
    if b"\nM  END" not in record:
        record += b"\nM  END"
    fields = [f">  <{FIELD_PREFIX}{name}>\n{value}\n" for name, value in row.items() if value is not None]
    end = b"\n" if record.endswith(b"M  END") else b"\n\n"  # a blank line ends a data field
    return record + end + ("\n".join(fields) + "\n$$$$\n").encode()
