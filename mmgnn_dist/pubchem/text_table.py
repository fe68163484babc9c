"""The table of PubChem's text that an enrichment writes, and the InChIKeys that it starts from.

One row per InChIKey, with the text fields by PubChem's names and the origin of each field.
`mmgnn data prepare --text` joins this table. Its metadata say how it was made.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NotRequired, TypedDict

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmgnn_dist.chem.identity import INCHIKEY
from mmgnn_dist.chem.readers.parquet import open_parquet
from mmgnn_dist.chem.readers.source import one_line
from mmgnn_dist.chem.readers.table import strings
from mmgnn_dist.config import TEXT_FIELDS
from mmgnn_dist.data.shardset.shards import CONTEXT_FIELDS, MANIFEST, ShardSet
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import atomic_path

TEXT_ABOUT = b"mmgnn.pubchem"  # metadata key under which a table says how it was made
ROWS = 65_536  # rows of the source and of the output held at a time
TEXT_SCHEMA = pa.schema(
    [
        ("inchikey", pa.string()),
        ("cid", pa.int64()),
        *((name, pa.float64() if name in CONTEXT_FIELDS else pa.string()) for name in TEXT_FIELDS[:-1]),
        ("synonyms", pa.list_(pa.string())),
        ("smiles", pa.string()),
        ("field_sources", pa.string()),
    ]
)


class KeyCounts(TypedDict):
    """Molecules, those without a valid InChIKey, and distinct InChIKeys of a source."""

    molecules: int
    without_key: int
    keys: int


class FoundCounts(KeyCounts):
    """Also the keys that PubChem has, those with more than one CID, and requests (none with bulk files)."""

    found: int
    several: int
    requests: NotRequired[int]


class EnrichCounts(FoundCounts):
    """Also the number of rows with each text field."""

    coverage: dict[str, int]


@dataclass
class EnrichResult:
    """The result of an enrichment.

    Attributes:
        path: the table of text.
        counts: what was looked up and found.
        seconds: wall time.
        lines: the result for the terminal.
    """

    path: Path
    counts: EnrichCounts
    seconds: float
    lines: list[str] = field(default_factory=list)


def source_keys(source: Path) -> Iterator[pa.Array]:
    """Yield the InChIKeys of a shard set or Parquet file, about 65,000 at a time, as large_string with nulls.

    Raises:
        UserError: the source is missing or unreadable, or has no column `inchikey`.
    """
    if not source.exists():
        raise UserError(f"no file {source}: name a shard set, or a Parquet file with a column 'inchikey'")
    if source.is_dir():
        if not (source / MANIFEST).is_file():
            raise UserError(f"{source} is a folder but no shard set (it has no {MANIFEST})")
        yield from ShardSet.open(source, verify=False).column("inchikey").chunks
        return
    schema, _ = open_parquet(source)
    if "inchikey" not in schema.names:
        raise UserError(f"{source} has no column 'inchikey': the look-up in PubChem needs it")
    kind = schema.field("inchikey").type
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(plain) or pa.types.is_large_string(plain)):
        raise UserError(f"{source}: column 'inchikey' is {kind}, not strings")
    try:
        with pq.ParquetFile(source) as file:
            for batch in file.iter_batches(ROWS, columns=["inchikey"]):
                yield strings(batch.column(0))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{source} is damaged ({one_line(error)}): get it anew") from None


def valid_keys(keys: pa.Array) -> pa.Array:
    """Return the keys that have the form of an InChIKey."""
    fits = pc.match_substring_regex(keys, f"^{INCHIKEY.pattern}$").fill_null(False)
    return keys.filter(fits)


def check_output(to: Path) -> None:
    """Refuse to overwrite a file that no enrichment made."""
    if to.is_dir():
        raise UserError(f"--to {to} is a folder: name a file, for example {to / 'text.parquet'}")
    if to.exists() and TEXT_ABOUT not in (open_parquet(to)[0].metadata or {}):
        raise UserError(f"{to} exists and was not made by 'mmgnn data enrich': choose another --to")


def write_text_table(to: Path, tables: Iterator[pa.Table], about: Mapping[str, object]) -> dict[str, int]:
    """Write tables of `TEXT_SCHEMA` with metadata `about`; return the number of rows with each text field."""
    coverage = dict.fromkeys(TEXT_FIELDS, 0)
    schema = TEXT_SCHEMA.with_metadata({TEXT_ABOUT: json.dumps(about)})
    try:
        with atomic_path(to) as part, pq.ParquetWriter(part, schema, compression="zstd") as writer:
            for table in tables:
                writer.write_table(table.replace_schema_metadata(schema.metadata))
                for name in TEXT_FIELDS:
                    coverage[name] += table.num_rows - table[name].null_count
    except OSError as error:
        raise UserError(f"cannot write {to}: {error.strerror or error}") from None
    return coverage


def result_lines(to: Path, counts: EnrichCounts) -> list[str]:
    """Describe what was found, for the terminal."""
    found_count, key_count = counts["found"], counts["keys"]
    share = f" ({found_count / key_count:.1%})" if key_count else ""
    lines = [f"{to}: PubChem has {found_count:,} of {key_count:,} InChIKeys{share}"]
    covered = ", ".join(f"{name} {number:,}" for name, number in counts["coverage"].items() if number)
    if covered:
        lines.append(f"fields: {covered}")
    if counts["several"]:
        lines.append(f"{counts['several']:,} InChIKeys have several CIDs: the lowest with a name was taken")
    if counts["without_key"]:
        lines.append(f"{counts['without_key']:,} molecules have no valid InChIKey: not looked up")
    return lines
