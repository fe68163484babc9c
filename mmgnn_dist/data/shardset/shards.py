"""The shard set on disk: Arrow IPC files that are memory-mapped, and a manifest with their checksums.

Every shard is one record batch without nulls in its numeric columns, so a reader gets numpy views of the
file itself and never a Python object per molecule. The manifest lists every shard with its row count, size
and SHA-256: a missing, truncated or altered shard is detected when the set is opened. Shards never change
once the manifest is written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa

from mmgnn_dist.chem.targets import CLASS, Target
from mmgnn_dist.config import TEXT_FIELDS
from mmgnn_dist.data.shardset.manifest import ShardEntry, ShardManifest, TargetEntry
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import atomic_path, read_json, sha256

KIND = "mmgnn-shards"
SCHEMA_VERSION = 2  # the newest that this program reads; a set without new kinds of columns has the first
FIRST_SCHEMA = 1
ESSENTIAL = ("shards", "rows", "targets")  # entries that every manifest has
MANIFEST = "manifest.json"
CONTEXT_FIELDS = (
    "molecular_weight",
    "xlogp",
    "h_bond_donor_count",
    "h_bond_acceptor_count",
    "rotatable_bond_count",
    "tpsa",
)
STRING_FIELDS = ("iupac_name", "title", "molecular_formula")  # text fields stored as they are written
STATE_FIELDS = ("charge", "multiplicity")  # in shards with a molecule that is not a neutral singlet
SELECTED = "selected_fields"  # which fields a molecule reads, where a source says so
REDO = "prepare the molecules again with 'mmgnn data prepare'"


def schema_version(targets: Iterable[Target], *, more: bool = False) -> int:
    """The schema of a set: the oldest one that has all of its kinds of columns and targets.

    Args:
        targets: the targets of the set.
        more: whether it has charges and multiplicities, or text fields of the user.
    """
    classes = any(target.kind == CLASS for target in targets)
    return SCHEMA_VERSION if classes or more else FIRST_SCHEMA


def shard_schema(
    n_targets: int, own_text: Sequence[str] = (), selected: bool = False, *, states: bool = False
) -> pa.Schema:
    """The Arrow schema of every shard of a set.

    Args:
        n_targets: number of targets.
        own_text: text fields beside the built-in ones.
        selected: whether the set says for each molecule which fields it reads.
        states: whether a molecule of the shard is no neutral singlet; the shard then has `STATE_FIELDS`.
    """
    text = pa.large_string()
    return pa.schema(
        [
            pa.field("id", text, nullable=False),
            pa.field("smiles", text),
            pa.field("inchikey", text),
            pa.field("z", pa.large_list(pa.uint8()), nullable=False),
            pa.field("pos", pa.large_list(pa.float32()), nullable=False),
            pa.field("y", pa.list_(pa.float64(), n_targets), nullable=False),
            pa.field("context", pa.list_(pa.float32(), len(CONTEXT_FIELDS)), nullable=False),
            *(pa.field(name, text) for name in STRING_FIELDS),
            pa.field("synonyms", pa.large_list(text)),
            pa.field("field_sources", text),
            *(pa.field(name, text) for name in own_text),
            *([pa.field(SELECTED, pa.large_list(text))] if selected else []),
            *(pa.field(name, pa.int8(), nullable=False) for name in STATE_FIELDS if states),
        ]
    )


def without_plain_states(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Drop charges and multiplicities from the batch of a shard if all molecules are neutral singlets."""
    if STATE_FIELDS[0] not in batch.schema.names:
        return batch
    charge, multiplicity = (batch.column(name).to_numpy() for name in STATE_FIELDS)
    if (charge != 0).any() or (multiplicity != 1).any():
        return batch
    return batch.select([name for name in batch.schema.names if name not in STATE_FIELDS])


def write_shard(path: Path, batch: pa.RecordBatch) -> ShardEntry:
    """Write one shard, completely or not at all.

    Args:
        path: file to write.
        batch: rows in the form of `shard_schema`.

    Returns:
        Its entry in the manifest: name, rows, atoms, bytes, sha256.
    """
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    content = sink.getvalue()
    with atomic_path(path) as part:
        part.write_bytes(content)
    return {
        "name": path.name,
        "rows": batch.num_rows,
        "atoms": len(batch.column("z").flatten()),
        "bytes": content.size,
        "sha256": hashlib.sha256(content).hexdigest(),
    }


class Shard:
    """One memory-mapped shard; its arrays are read-only views of the file.

    Attributes:
        rows: number of molecules.
        z: atomic numbers, uint8 [atoms].
        pos: positions in Å, float32 [atoms, 3].
        ptr: first atom of each molecule and the end, int64 [rows + 1].
        y: targets in canonical units, float64 [rows, T], NaN where missing.
        context: numeric text fields, float32 [rows, 6], NaN where missing.
        charge: total charge in e, int8 [rows].
        multiplicity: spin multiplicity 2S + 1, int8 [rows].
        table: all columns as a pyarrow Table.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(path)))
            batch = reader.get_batch(0)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{path} is not a readable shard ({_brief(error)}): {REDO}") from None
        self.table = pa.Table.from_batches([batch])
        self.rows: int = batch.num_rows
        self.z: np.ndarray = _view(batch.column("z").values)
        self.pos: np.ndarray = _view(batch.column("pos").values).reshape(-1, 3)
        self.ptr: np.ndarray = _view(batch.column("z").offsets)
        y, context = batch.column("y"), batch.column("context")
        self.y: np.ndarray = _view(y.values).reshape(self.rows, y.type.list_size)
        self.context: np.ndarray = _view(context.values).reshape(self.rows, context.type.list_size)
        self.charge: np.ndarray = np.zeros(self.rows, np.int8)
        self.multiplicity: np.ndarray = np.ones(self.rows, np.int8)
        if STATE_FIELDS[0] in batch.schema.names:
            self.charge, self.multiplicity = (_view(batch.column(name)) for name in STATE_FIELDS)

    def __reduce__(self) -> tuple[Any, ...]:
        return Shard, (self.path,)


def _view(array: pa.Array) -> np.ndarray:
    return array.to_numpy(zero_copy_only=True)


@dataclass(frozen=True)
class ShardSet:
    """An opened shard set. It can be pickled and used after a fork: the other process maps the same files.

    Attributes:
        path: its folder.
        manifest: its manifest.
        cache: folder for sidecars of sets that cannot be written; None: they go into the set itself.
    """

    path: Path
    manifest: ShardManifest
    cache: Path | None = None

    @classmethod
    def open(cls, path: Path, verify: bool = True, digest: Callable[[Path], str] = sha256) -> ShardSet:
        """Open the shard set in folder `path`.

        Args:
            path: the folder that `mmgnn data prepare` made.
            verify: compare size and SHA-256 of every shard with the manifest.
            digest: function that computes the SHA-256 of a file.

        Raises:
            UserError: no such folder, not a shard set, a newer schema, a missing, truncated or altered shard.
        """
        path = Path(path)
        manifest = read_manifest(path)
        for entry in manifest["shards"]:
            _check_shard(path / entry["name"], entry, digest if verify else None)
        return cls(path, manifest)

    def __reduce__(self) -> tuple[Any, ...]:
        return ShardSet, (self.path, self.manifest, self.cache)

    def with_targets(self, more: Sequence[TargetEntry]) -> ShardSet:
        """Return a view of this set with more targets, of which no molecule has a label."""
        targets = [*self.manifest["targets"], *more]
        return ShardSet(self.path, {**self.manifest, "targets": targets}, self.cache)

    @property
    def sidecars(self) -> Path:
        """Folder in which new sidecars (`tokens/`, `embeddings/`) are written."""
        return self.path if self.cache is None else self.cache / self.sha256[:16]

    @cached_property
    def shards(self) -> list[Shard]:
        """The memory-mapped shards, in order; targets that the files lack (`with_targets`) are NaN."""
        shards = [Shard(self.path / entry["name"]) for entry in self.manifest["shards"]]
        for shard in shards:
            if more := len(self.targets) - shard.y.shape[1]:
                shard.y = np.hstack([shard.y, np.full((shard.rows, more), np.nan)])
        return shards

    @cached_property
    def starts(self) -> np.ndarray:
        """First global row of each shard, and the end, int64 [S + 1]."""
        return np.cumsum([0, *(entry["rows"] for entry in self.manifest["shards"])], dtype=np.int64)

    @property
    def rows(self) -> int:
        """Number of molecules."""
        return int(self.manifest["rows"])

    @property
    def targets(self) -> list[str]:
        """Names of the targets, in the order of `Shard.y`."""
        return [target["name"] for target in self.manifest["targets"]]

    @property
    def units(self) -> dict[str, str]:
        """Unit of each target."""
        return {target["name"]: target["unit"] for target in self.manifest["targets"]}

    @property
    def kinds(self) -> dict[str, str]:
        """Kind of each target (see `chem.targets`)."""
        return {target["name"]: target["kind"] for target in self.manifest["targets"]}

    @property
    def text_columns(self) -> dict[str, str]:
        """The own text fields, beside the built-in ones, and the column that each was read from."""
        return self.manifest.get("text_columns", {})

    @property
    def text_fields(self) -> list[str]:
        """Names of all text fields, the built-in ones first."""
        return [*TEXT_FIELDS, *self.text_columns]

    @property
    def has_states(self) -> bool:
        """Whether any molecule is no neutral singlet."""
        return "states" in self.manifest

    @property
    def classes(self) -> dict[str, list[str]]:
        """Names of the classes of each target of kind class; `Shard.y` holds their numbers."""
        return {t["name"]: t["classes"] for t in self.manifest["targets"] if t["kind"] == CLASS}

    @property
    def sha256(self) -> str:
        """SHA-256 of the content of the shards, independent of the time and versions of their preparation."""
        content = {
            "shards": [entry["sha256"] for entry in self.manifest["shards"]],
            "targets": self.manifest["targets"],
            **({"text_columns": self.text_columns} if self.text_columns else {}),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def column(self, name: str) -> pa.ChunkedArray:
        """One column of all shards, one chunk per shard, still memory-mapped."""
        return pa.chunked_array([shard.table.column(name).chunk(0) for shard in self.shards])

    def ids(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Ids of the given global rows (None: of all), an object array of str [R]."""
        column = self.column("id")
        if rows is not None:
            column = column.take(pa.array(rows, pa.int64()))
        return column.to_numpy()


def read_manifest(path: Path) -> ShardManifest:
    """The manifest of the shard set in folder `path`.

    Raises:
        UserError: no such folder, not a shard set, a newer schema, an incomplete manifest.
    """
    if not path.is_dir():
        raise UserError(f"no shard set at {path}: make one with 'mmgnn data prepare SOURCE --to {path}'")
    file = path / MANIFEST
    if not file.is_file():
        raise UserError(f"{path} is not a shard set (it has no {MANIFEST}): name the folder given to --to")
    try:
        manifest = read_json(file)
    except (ValueError, OSError) as error:
        raise UserError(f"{file} cannot be read ({_brief(error)}): {REDO}") from None
    if not isinstance(manifest, dict) or manifest.get("kind") != KIND:
        raise UserError(f"{path} is not a shard set ({MANIFEST} is of another kind)")
    if manifest.get("schema", 0) > SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema {manifest['schema']}, this program knows up to {SCHEMA_VERSION}: "
            "update mmgnn_dist"
        )
    if absent := [name for name in ESSENTIAL if name not in manifest]:
        raise UserError(f"{file} lacks {', '.join(absent)}: {REDO}")
    return cast(ShardManifest, manifest)


def _check_shard(path: Path, entry: ShardEntry, digest: Callable[[Path], str] | None) -> None:
    if not path.is_file():
        raise UserError(f"{path} is missing although the manifest names it: {REDO}")
    size = path.stat().st_size
    if size != entry["bytes"]:
        raise UserError(f"{path} is truncated or altered ({size} bytes, not {entry['bytes']}): {REDO}")
    if digest and digest(path) != entry["sha256"]:
        raise UserError(f"{path} is altered (its SHA-256 is not the one in the manifest): {REDO}")


def _brief(error: Exception) -> str:
    """The first line of an error's text."""
    return str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
