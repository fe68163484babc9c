"""Vectors of a frozen text encoder: computed once per shard set, then memory-mapped.

    SHARDS/embeddings/KEY/shard-00000.npy   float32 [rows, D]; bits of a fingerprint are uint8
    SHARDS/embeddings/KEY/manifest.json     written last
    SHARDS/embeddings/KEY.lock              held by the one process that writes

KEY is a hash of the weights, the tokens (tokenizer, sentences, budgets), fields, pooling and molecules. Runs
with the same KEY share the vectors: the first run writes them while others wait, and an interrupted write is
continued at its shard. A molecule without text has zeros, which the model replaces by its learned absent
vector. Control texts with words of their own have their own vectors, and `fingerprint` has fingerprints
instead of vectors of a text; `shuffled` and the like read the vectors of other molecules, `zero` reads zeros.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from mmgnn_dist.chem.fingerprints import BITS, RADIUS
from mmgnn_dist.config import TextConfig
from mmgnn_dist.data.loading.borrowed_text import LENT, NOBODY, text_sources
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.data.text.encoder_files import EncoderFiles
from mmgnn_dist.data.text.token_cache import TokenSet
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import atomic_path, read_json, sha256, write_json
from mmgnn_dist.models.text_encoder.vector_sources import OWN_WORDS, EncodedTexts, Fingerprints, VectorSource

MANIFEST = "manifest.json"


class Embeddings:
    """The stored vectors of all molecules of a shard set.

    Args:
        folder: folder written by `ensure_embeddings`.
        shards: the shard set.
        partners: row whose vector each molecule reads instead of its own, int64 [rows].
        zero: whether to read zeros instead.
        digest: function that returns the SHA-256 of a file.
    """

    def __init__(
        self,
        folder: Path,
        shards: ShardSet,
        partners: np.ndarray | None = None,
        zero: bool = False,
        digest: Callable[[Path], str] = sha256,
    ) -> None:
        self._partners, self._zero = partners, zero
        about = read_json(folder / MANIFEST)
        self.width: int = about["width"]
        self._starts = shards.starts
        self._parts = []
        for name, expected in about["files"].items():
            if digest(folder / name) != expected:
                raise UserError(
                    f"{folder / name} is truncated or altered: remove {folder}, the next run writes it again"
                )
            self._parts.append(np.load(folder / name, mmap_mode="r"))

    def of(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the vectors of global rows: int64 [B] -> float32 [B, D]."""
        if self._zero:
            return torch.zeros(len(rows), self.width)
        wanted = rows.numpy() if self._partners is None else self._partners[rows.numpy()]
        out = np.empty((len(wanted), self.width), np.float32)
        shard = np.searchsorted(self._starts, wanted, side="right") - 1
        for number in np.unique(shard):
            in_shard = shard == number
            out[in_shard] = self._parts[number][wanted[in_shard] - self._starts[number]]
        return torch.from_numpy(out)


def open_embeddings(
    shards: ShardSet,
    tokens: TokenSet,
    files: EncoderFiles,
    config: TextConfig,
    seed: int,
) -> Embeddings:
    """Open the vectors of a recipe, or those of its control text if it has one."""
    chosen = None
    if config.control in LENT:
        sources = text_sources(shards, tokens.lengths(config.fields) > 0, config.control, seed)
        chosen = np.where(sources == NOBODY, np.arange(shards.rows), sources)  # the model reads no such text
    folder = embeddings_folder(shards, tokens, files, config, seed)
    return Embeddings(folder, shards, chosen, config.control == "zero", files.digest)


def embeddings_folder(
    shards: ShardSet, tokens: TokenSet, files: EncoderFiles, config: TextConfig, seed: int
) -> Path:
    """Folder of the vectors of an encoder and its text; `seed` is the seed of random texts."""
    molecules = [entry["sha256"] for entry in shards.manifest["shards"]]
    if config.control == "fingerprint":
        return _folder(shards, ["ecfp4", RADIUS, BITS, molecules])
    key_parts: list[object] = [
        files.model_fingerprint,
        tokens.key,
        list(config.fields),
        config.pooling,
        molecules,
    ]
    if tokens.selected is not None:
        key_parts.append("selected_fields")
    if tokens.total_tokens is not None:
        key_parts.append(f"total_tokens={tokens.total_tokens}")
    if config.projection:
        key_parts.append("projection")
    if config.control in OWN_WORDS:
        key_parts.append(config.control)
    if config.frozen_precision != "fp32":
        key_parts.append(f"frozen_precision={config.frozen_precision}")
    if config.control == "random":
        key_parts.append(seed)
    return _folder(shards, key_parts)


def _folder(shards: ShardSet, key_parts: list[object]) -> Path:
    """Folder of the vectors that `key_parts` identify."""
    key = hashlib.sha256(json.dumps(key_parts).encode()).hexdigest()[:16]
    own, new = (base / "embeddings" / key for base in (shards.path, shards.sidecars))
    return own if (own / MANIFEST).is_file() else new


def ensure_embeddings(
    shards: ShardSet,
    tokens: TokenSet,
    files: EncoderFiles,
    config: TextConfig,
    device: torch.device,
    progress: Callable[[int, int], None],
    seed: int = 0,
) -> None:
    """Write the vectors of all molecules unless they exist; one rank of a run calls this.

    Raises:
        UserError: if the folder of the shard set cannot be written.
    """
    folder = embeddings_folder(shards, tokens, files, config, seed)
    if (folder / MANIFEST).is_file():
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # held until the file is closed or the process ends
            if not (folder / MANIFEST).is_file():
                fingerprint = config.control == "fingerprint"
                source: VectorSource = (
                    Fingerprints(shards)
                    if fingerprint
                    else EncodedTexts(shards, tokens, files, config, device, seed)
                )
                _write(folder, shards, source, files.digest, progress)
    except OSError as error:
        raise UserError(
            f"cannot write embeddings to {folder}: {error.strerror or error}; give data.cache=DIR"
        ) from None


def _write(
    folder: Path,
    shards: ShardSet,
    source: VectorSource,
    digest: Callable[[Path], str],
    progress: Callable[[int, int], None],
) -> None:
    """Write the missing shards and then the manifest; the caller holds the lock."""
    for leftover in folder.glob(".*.part"):
        leftover.unlink()
    digests = {}
    for number in range(len(shards.shards)):
        path = folder / f"shard-{number:05d}.npy"
        if not path.is_file():
            done = int(shards.starts[number])

            def tell(filled: int, done: int = done) -> None:
                progress(done + filled, shards.rows)

            vectors = source.of_shard(number, tell)
            with atomic_path(path) as part, open(part, "wb") as out:
                np.save(out, vectors)
        digests[path.name] = digest(path)
    write_json(folder / MANIFEST, {**source.about, "width": source.width, "files": digests})
