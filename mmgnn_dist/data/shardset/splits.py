"""Stored splits: the part (train, val, test) of each molecule, by id and for every fold.

Molecules with one identity (the first block of the InChIKey, so stereoisomers and duplicates; see `groups`)
stay together; a scaffold split also keeps molecules with one scaffold together. A seeded hash of the identity
gives the order in which groups are dealt out, so a split does not depend on how the molecules are ordered or
sharded. A size split trains on the smaller molecules, validates on larger ones and tests on the largest; no
size is in two parts. Replicates have one test part and training parts that share nothing (`replicates`).
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmgnn_dist.data.shardset.groups import identities, scaffold_groups, sizes
from mmgnn_dist.data.shardset.hashing import hash_strings
from mmgnn_dist.data.shardset.replicates import ReplicateSizes, deal_replicates
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.errors import UserError, nearest
from mmgnn_dist.files import atomic_path

PARTS = ("train", "val", "test")
UNUSED = "unused"  # a molecule in no part, which only replicates have
KINDS = ("random", "kfold", "scaffold", "size", "replicates")
GROUPS = ("identity", "none")
TENTH = 0.1  # random: 80/10/10; kfold: of the molecules not tested, a tenth validates
METADATA = b"mmgnn.split"


class SplitInfo(TypedDict, total=False):
    """How a stored split was made: see `make_split`."""

    kind: str
    seed: int
    folds: int
    group: str
    train: int
    val: int
    test: int


def make_split(
    shards: ShardSet,
    kind: str = "random",
    folds: int = 1,
    seed: int = 42,
    group: str = "identity",
    name: str | None = None,
    parts: ReplicateSizes | None = None,
) -> tuple[Path, bool]:
    """Make a split and store it in the shard set.

    Args:
        shards: the molecules.
        kind: `random` (80/10/10, drawn anew for every fold), `kfold` (every molecule is tested once),
            `scaffold` (as random, by scaffold; molecules without rings go by identity), `size` (80/10/10
            by number of atoms, as near as whole sizes allow) or `replicates` (one test part, and training
            and validation parts without a common molecule).
        folds: number of folds; 1 for size.
        seed: seed of the order in which groups are dealt out; size ignores it.
        group: `identity` keeps molecules with the same InChIKey block together, `none` only those with equal
            ids (random and kfold only).
        name: name of the split; None: `kind`.
        parts: sizes of the parts of `replicates`; None for any other kind.

    Returns:
        The file of the split, and whether it was written: a file that has these folds is left as it is. More
        folds may be added to an existing split.

    Raises:
        UserError: unknown kind or group, wrong number of folds, seed or name, too few molecules, or a
            different split has this name: runs may have learned from it.
    """
    name = kind if name is None else name
    for what, given, known in (("kind of split", kind, KINDS), ("grouping", group, GROUPS)):
        if given not in known:
            raise UserError(f"unknown {what} '{given}'{nearest(given, known)}: use {', '.join(known)}")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UserError(f"'{name}' is no name for a split: use letters, digits, '.', '_' and '-'")
    least = 3 if kind == "kfold" else 1
    if folds < least:
        raise UserError(f"a {kind} split has {least} folds or more, not {folds}")
    if kind in ("scaffold", "size") and group != "identity":
        raise UserError(f"a {kind} split keeps identities together: leave --group {group} out")
    if (kind == "replicates") != (parts is not None):
        raise UserError(
            "sizes of parts (--train, --val, --test) belong to --kind replicates, which needs all three"
        )
    if kind == "size" and folds != 1:
        raise UserError(f"a size split has one fold, not {folds}")
    if not 0 <= seed < 2**63:
        raise UserError(f"the seed of a split is a whole number from 0 to 2^63 - 1, not {seed}")
    keys = _keys(shards, kind, group)
    names, codes = keys.dictionary, keys.indices.to_numpy()
    if len(names) < max(folds, len(PARTS)):
        raise UserError(
            f"{shards.path} has {len(names)} {'scaffolds' if kind == 'scaffold' else 'distinct molecules'}: "
            "too few to split"
        )
    if parts is not None:
        order = np.argsort(hash_strings(names, seed=seed), kind="stable")
        drawn = deal_replicates(codes, order, folds, parts, shards.path)
    else:
        drawn = [_drawn(shards, names, codes, kind, fold, folds, seed) for fold in range(folds)]
    path = shards.path / "splits" / f"{name}.parquet"
    if _stands(shards, name, drawn) == folds:
        return path, False
    settings: dict[str, str | int] = {"kind": kind, "seed": seed, "folds": folds, "group": group}
    settings |= asdict(parts) if parts else {}
    write_split(shards, name, drawn, settings)
    return path, True


def write_split(shards: ShardSet, name: str, drawn: list[np.ndarray], settings: dict[str, str | int]) -> None:
    """Store a split.

    Args:
        shards: the molecules.
        name: name of the split.
        drawn: index into PARTS of each molecule, or their number for an unused one, for each fold.
        settings: how it was made.
    """
    columns = {"id": shards.column("id").cast(pa.string())}
    for fold, parts in enumerate(drawn):
        columns[f"fold_{fold}"] = pa.array(np.array([*PARTS, UNUSED], dtype=object)[parts], pa.string())
    metadata = {METADATA: json.dumps(settings).encode()}
    with atomic_path(shards.path / "splits" / f"{name}.parquet") as part:
        pq.write_table(pa.table(columns).replace_schema_metadata(metadata), part)


def load_split(shards: ShardSet, name: str, fold: int = 0) -> dict[str, np.ndarray]:
    """Global rows of each part of a stored split.

    Returns:
        Sorted rows of `train`, `val` and `test`, int64.

    Raises:
        UserError: unknown split or fold, an empty part, or ids that differ from those of the shard set.
    """
    path = shards.path / "splits" / f"{name}.parquet"
    if not path.is_file():
        stored_names = split_names(shards)
        raise UserError(
            f"{shards.path} has no split '{name}'{nearest(name, stored_names)}: "
            f"it has {', '.join(stored_names) or 'none'}"
        )
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError):
        raise _unreadable(path) from None
    folds = sum(column.startswith("fold_") for column in table.column_names)
    column = f"fold_{fold}"
    if "id" not in table.column_names or not folds:
        raise UserError(f"{path} is not a split (columns id, fold_0, ...): make it with 'mmgnn data split'")
    if column not in table.column_names:
        raise UserError(f"split '{name}' has no fold {fold}: it has 0 to {folds - 1}")
    ids = shards.column("id").combine_chunks()
    listed = table["id"].combine_chunks().cast(pa.large_string())
    labels = table[column].combine_chunks()
    if not listed.equals(ids):  # made for the same molecules in another order, or by hand
        labels = labels.take(_places(ids, listed, path))
    rows = {part: np.flatnonzero(np.asarray(pc.equal(labels, part), dtype=bool)) for part in PARTS}
    unused = pc.sum(pc.equal(labels, UNUSED)).as_py() or 0
    if sum(len(part) for part in rows.values()) + unused != len(ids):
        raise UserError(f"{path}: {column} has values other than {', '.join(PARTS)} and {UNUSED}")
    for part, members in rows.items():
        if not len(members):
            raise UserError(f"empty split: part '{part}' of split '{name}', fold {fold}, has no molecule")
    return rows


def split_sha256(rows: dict[str, np.ndarray]) -> str:
    """SHA-256 of a split as `load_split` returns it, independent of the format of its file."""
    digest = hashlib.sha256()
    for part in PARTS:
        digest.update(f"{part} {len(rows[part])}\n".encode())
        digest.update(rows[part].astype("<i8").tobytes())
    return digest.hexdigest()


def nested(shards: ShardSet, rows: np.ndarray, count: int) -> np.ndarray:
    """Draw `count` global rows by a hash of their ids, sorted; a smaller draw is part of a larger one.

    Raises:
        UserError: `count` is larger than the number of rows.
    """
    if count > len(rows):
        raise UserError(
            f"data.train_size={count} is more than the {len(rows)} training molecules of {shards.path}"
        )
    ids = shards.column("id").take(pa.array(rows, pa.int64()))
    return np.sort(rows[np.argsort(hash_strings(ids), kind="stable")[:count]])


def split_names(shards: ShardSet) -> list[str]:
    """Names of the stored splits."""
    return sorted(file.stem for file in (shards.path / "splits").glob("*.parquet"))


def split_folds(shards: ShardSet, name: str) -> int:
    """Number of folds of a split; 1 for a split that does not exist (`load_split` reports it).

    Raises:
        UserError: its file cannot be read.
    """
    path = shards.path / "splits" / f"{name}.parquet"
    if not path.is_file():
        return 1
    return max(sum(column.startswith("fold_") for column in _schema(path).names), 1)


def split_info(shards: ShardSet, name: str) -> SplitInfo:
    """How a stored split was made; empty for a split made by hand.

    Raises:
        UserError: its file cannot be read.
    """
    metadata = _schema(shards.path / "splits" / f"{name}.parquet").metadata or {}
    info: SplitInfo = json.loads(metadata.get(METADATA, b"{}"))
    return info


def _stands(shards: ShardSet, name: str, drawn: list[np.ndarray]) -> int:
    """Number of folds of the stored split, all equal to those drawn now; 0 without a usable file.

    Raises:
        UserError: a stored fold differs.
    """
    try:
        folds = split_folds(shards, name)
        old = [load_split(shards, name, fold) for fold in range(folds)]
    except (UserError, pa.ArrowException, OSError):
        return 0  # absent, damaged, or for other molecules: no run could use it
    new = [{part: np.flatnonzero(codes == k) for k, part in enumerate(PARTS)} for codes in drawn]
    if [split_sha256(rows) for rows in old] != [split_sha256(rows) for rows in new[:folds]]:
        raise UserError(
            f"{shards.path} has another split '{name}', and runs may have learned from it: choose another "
            f"--name, or remove {shards.path / 'splits' / name}.parquet if no run needs it"
        )
    return folds


def _schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (pa.ArrowException, OSError):
        raise _unreadable(path) from None


def _unreadable(path: Path) -> UserError:
    return UserError(f"{path} cannot be read: make it again with 'mmgnn data split', or remove it")


def _keys(shards: ShardSet, kind: str, group: str) -> pa.DictionaryArray:
    """The group of each molecule; the dictionary has no unused names."""
    if kind == "scaffold":
        named = scaffold_groups(shards)
        keys = named.dictionary.take(named.indices)
    else:
        keys = identities(shards) if group == "identity" else shards.column("id").combine_chunks()
    return keys.dictionary_encode()


def _drawn(
    shards: ShardSet, names: pa.Array, codes: np.ndarray, kind: str, fold: int, folds: int, seed: int
) -> np.ndarray:
    """Index into PARTS of each molecule in one fold of any kind but replicates."""
    if kind == "size":
        return _deal_by_size(codes, sizes(shards), shards)
    draw = 0 if kind == "kfold" else fold
    return _deal(codes, np.argsort(hash_strings(names, seed=seed + draw), kind="stable"), kind, fold, folds)


def _deal_by_size(codes: np.ndarray, atoms: np.ndarray, shards: ShardSet) -> np.ndarray:
    """Index into PARTS of each molecule by size, cut between sizes as close to 80/10/10 as they allow.

    Args:
        codes: group of each molecule; the size of a group is that of its largest molecule.
        atoms: number of atoms of each molecule.
        shards: the shard set, named in the error.

    Raises:
        UserError: fewer than three sizes.
    """
    largest = np.zeros(int(codes.max()) + 1, np.int64)
    np.maximum.at(largest, codes, atoms)
    size = largest[codes]
    values, counts = np.unique(size, return_counts=True)
    if len(values) < len(PARTS):
        raise UserError(
            f"{shards.path} has molecules of {len(values)} sizes: a size split needs {len(PARTS)}"
        )
    below = np.cumsum(counts)[:-1]  # molecules up to each size except the largest
    total = len(size)
    first = int(np.argmin(np.abs(below[:-1] - (1 - 2 * TENTH) * total)))
    second = first + 1 + int(np.argmin(np.abs(below[first + 1 :] - (1 - TENTH) * total)))
    return np.searchsorted(values[[first, second]], size, side="left")


def _deal(codes: np.ndarray, order: np.ndarray, kind: str, fold: int, folds: int) -> np.ndarray:
    """Index into PARTS of each molecule.

    Args:
        codes: group of each molecule.
        order: groups in the order in which they are dealt out.
        kind: see `make_split`.
        fold: index of the fold.
        folds: number of folds.
    """
    counts = np.bincount(codes, minlength=len(order))[order]
    before = np.cumsum(counts) - counts  # molecules dealt out before each group
    total = int(counts.sum())
    part = np.zeros(len(order), np.int64)
    if kind == "kfold":
        tested = before * folds // total == fold
    else:
        tested = before >= round(total * (1 - TENTH))
        tested[-1] = True  # even if the last group is larger than a tenth
    part[tested] = 2
    rest = np.flatnonzero(~tested)
    share = TENTH * (counts[rest].sum() if kind == "kfold" else total)
    ends = np.cumsum(counts[rest][::-1])[::-1]  # molecules from each group to the last
    validates = rest[ends <= max(round(share), 1)]
    part[validates if len(validates) else rest[-1:]] = 1
    placed = np.empty_like(part)
    placed[order] = part
    return placed[codes]


def _places(ids: pa.Array, listed: pa.Array, path: Path) -> pa.Array:
    """Row of the split file for each molecule of the shard set."""
    places = pc.index_in(ids, value_set=listed)
    absent = places.null_count
    extra = len(listed) - pc.sum(pc.is_in(listed, value_set=ids)).as_py()
    repeated = len(listed) - pc.count_distinct(listed).as_py()
    if absent or extra or repeated:
        raise UserError(
            f"{path} is for other molecules: {absent} of the shard set are not in it, {extra} of it are not "
            f"in the shard set, {repeated} occur in it more than once: make it with 'mmgnn data split'"
        )
    return places
