"""Groups of molecules, for splits that keep groups whole and audits that look for overlaps.

identity   the first block of the InChIKey (one connectivity: stereoisomers, duplicates), else the SMILES as
           written, else the id; of conformers that have ids alone, `GROUP#NUMBER`, the group
scaffold   the Bemis-Murcko scaffold; molecules without rings or without a SMILES have none
text       all text fields together, as stored in the shards; molecules without text have none
formula    the atoms of each element, hydrogen included
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmgnn_dist.chem.descriptors import scaffolds
from mmgnn_dist.chem.elements import MAX_Z
from mmgnn_dist.chem.readers.table import prefixed
from mmgnn_dist.data.shardset.hashing import draw, hash_strings
from mmgnn_dist.data.shardset.manifest import IdentityCounts
from mmgnn_dist.data.shardset.shards import CONTEXT_FIELDS, ShardSet
from mmgnn_dist.errors import UserError

INCHIKEY_BLOCK = 14  # letters of an InChIKey that encode the connectivity
FORMULA = 0x466F  # stream of the hashes of elements
NONE = np.uint64(0)  # hash of a molecule without a group


def identities(shards: ShardSet) -> pa.Array:
    """The identity of each molecule, large_string [rows]."""
    ids = prefixed("id:", shards.column("id").combine_chunks())
    if shards.manifest.get("conformers"):
        ids = pc.replace_substring_regex(ids, r"#\d+$", "")
    return pc.coalesce(*_structures(shards), ids)


def structures(shards: ShardSet) -> pa.Array:
    """The identity of each molecule, large_string [rows]; null where only an id is known."""
    return pc.coalesce(*_structures(shards))


def count_identities(shards: ShardSet) -> IdentityCounts:
    """Count the molecules identified by `inchikey`, by `smiles` or by `id` only, and the `distinct` ones."""
    block, smiles = _structures(shards)
    by_key = len(block) - block.null_count
    with_structure = len(block) - pc.coalesce(block, smiles).null_count
    return {
        "inchikey": by_key,
        "smiles": with_structure - by_key,
        "id": len(block) - with_structure,
        "distinct": pc.count_distinct(identities(shards)).as_py(),
    }


def _structures(shards: ShardSet) -> tuple[pa.Array, pa.Array]:
    """(first block of the InChIKey, SMILES with a prefix) of each molecule, null where absent."""
    block = pc.utf8_slice_codeunits(shards.column("inchikey").combine_chunks(), 0, INCHIKEY_BLOCK)
    fits = pc.match_substring_regex(block, f"^[A-Z]{{{INCHIKEY_BLOCK}}}$").fill_null(False)
    return pc.if_else(fits, block, None), prefixed("smiles:", shards.column("smiles").combine_chunks())


def scaffold_names(shards: ShardSet) -> pa.Array:
    """The scaffold of each molecule as SMILES, large_string [rows], null without one."""
    names = pa.concat_arrays([scaffolds(chunk) for chunk in shards.column("smiles").chunks])
    return pc.if_else(pc.equal(names, ""), None, names)


def scaffold_groups(shards: ShardSet) -> pa.Array:
    """Groups that keep scaffolds and identities whole, dictionary of large_string [rows].

    Two molecules are in one group if they share a scaffold or an identity, directly or through other
    molecules: tautomers with one InChIKey may have different scaffolds. A molecule without a scaffold is
    linked by its identity only. The name of a group is the alphabetically first of its identities.

    Raises:
        UserError: no molecule has a scaffold.
    """
    names = identities(shards).dictionary_encode()
    scaffold = scaffold_names(shards).dictionary_encode()
    order = pc.array_sort_indices(names.dictionary)
    rank = np.empty(len(order), np.int64)
    rank[order.to_numpy()] = np.arange(len(order))
    group = rank[names.indices.to_numpy()]
    links = [names.indices.to_numpy().astype(np.int64)]
    has_scaffold = np.asarray(scaffold.indices.is_valid(), dtype=bool)
    if not has_scaffold.any():
        raise UserError(
            f"{shards.path} has no scaffold (no SMILES of a molecule with rings): take another kind of split"
        )
    codes = scaffold.indices.fill_null(0).to_numpy().astype(np.int64)
    singletons = len(scaffold.dictionary) + np.arange(len(codes))
    links.append(np.where(has_scaffold, codes, singletons))
    while True:  # the smallest rank spreads over links until nothing changes
        previous = group
        for link in links:
            least = np.full(int(link.max()) + 1, len(order), np.int64)
            np.minimum.at(least, link, group)
            group = least[link]
        if np.array_equal(group, previous):
            return pa.DictionaryArray.from_arrays(pa.array(group), names.dictionary.take(order))


def sizes(shards: ShardSet) -> np.ndarray:
    """Number of atoms of each molecule, int64 [rows]."""
    return np.concatenate([np.diff(shard.ptr) for shard in shards.shards])


def text_hashes(shards: ShardSet, fields: Sequence[str]) -> np.ndarray:
    """64-bit hash of the text of each molecule over some fields, uint64 [rows]; `NONE` without text."""
    result = np.zeros(shards.rows, np.uint64)
    present = np.zeros(shards.rows, bool)
    for index, field in enumerate(fields):
        if field in CONTEXT_FIELDS:
            column = np.concatenate(
                [shard.context[:, CONTEXT_FIELDS.index(field)] for shard in shards.shards]
            )
            has_field, bits = ~np.isnan(column), column.view(np.uint32)
        else:
            words = shards.column(field)
            if field == "synonyms":
                words = pc.binary_join(words, pa.scalar("\x1f", pa.large_string()))
            has_field, bits = np.asarray(words.is_valid(), dtype=bool), hash_strings(words)
        result ^= np.where(has_field, draw((index,), bits), NONE)
        present |= has_field
    return np.where(present, result, NONE)


def formula_hashes(shards: ShardSet) -> np.ndarray:
    """64-bit hash of the composition of each molecule, uint64 [rows]: the sum of a hash of its elements."""
    of_element = draw((FORMULA,), np.arange(MAX_Z + 1))
    return np.concatenate(
        [np.add.reduceat(of_element[shard.z], shard.ptr[:-1], dtype=np.uint64) for shard in shards.shards]
    )


def string_hashes(names: pa.Array) -> np.ndarray:
    """64-bit hash of each string, uint64 [n]; `NONE` for null."""
    return np.where(np.asarray(names.is_valid(), dtype=bool), hash_strings(names), NONE)
