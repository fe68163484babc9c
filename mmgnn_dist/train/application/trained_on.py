"""Which molecules a model was trained on: kept with its export, so that any test can tell its leaks.

`export/trained_on.safetensors` has the 64-bit hash of the identity of each training molecule (see
`data.shardset.groups`), sorted, each once: 8 bytes a molecule, and no structure can be read from it.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch

from mmgnn_dist.data.shardset.groups import identities
from mmgnn_dist.data.shardset.hashing import hash_strings
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.files import atomic_path
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.train.checkpoint.host_copies import save_safetensors

NAME = "identities"


def identity_hashes(shards: ShardSet, rows: np.ndarray) -> np.ndarray:
    """Hash of the identity of each molecule, int64 [R]; equal for stereoisomers and conformers of one.

    Args:
        shards: the shard set.
        rows: global rows [R].
    """
    return hash_strings(identities(shards).take(pa.array(rows, pa.int64()))).view(np.int64)


def write_trained_on(run: RunDir, hashes: np.ndarray) -> None:
    """Write the hashes of the training molecules beside the exported weights."""
    with atomic_path(run.export_trained_on) as part:
        save_safetensors({NAME: torch.from_numpy(np.unique(hashes))}, part)


def trained_on(run: RunDir, shards: ShardSet, rows: np.ndarray) -> np.ndarray | None:
    """Whether the model of a run was trained on each molecule, bool [R]; None if its export does not say.

    Args:
        run: run directory, or a folder made by `mmgnn export`.
        shards: the shard set of the molecules.
        rows: global rows [R].
    """
    from safetensors.torch import load_file

    if not run.export_trained_on.is_file():
        return None
    return np.isin(identity_hashes(shards, rows), load_file(run.export_trained_on)[NAME].numpy())


def trained_on_note(known: int | None, molecules: int) -> list[str]:
    """Say how many of some molecules the model was trained on, if any, or that it is not known."""
    if known is None:
        return ["the model was exported by an older version: it does not say which molecules it has learned"]
    if not known:
        return []
    return [
        f"the model was trained on {known} of these {molecules} molecules (same first block of the "
        "InChIKey, SMILES or id): what it says of them is no test"
    ]
