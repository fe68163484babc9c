"""Vectors of a frozen text encoder: computed once for a shard set, memory-mapped ever after.

    SHARDS/embeddings/KEY/shard-00000.npy   float32 [rows, D]
    SHARDS/embeddings/KEY/manifest.json     written last

KEY stands for encoder and its weights, tokens, fields and pooling. A molecule without text has zeros; the
model puts its learned absent vector there. Of the control texts only `random` has vectors of its own:
`shuffled` reads those of another molecule, and `zero` reads zeros.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from mmgnn_dist.config import TextConfig
from mmgnn_dist.data.encoder_files import EncoderFiles
from mmgnn_dist.data.loader import Loader
from mmgnn_dist.data.shards import ShardSet
from mmgnn_dist.data.textinput import TextChoice, partners
from mmgnn_dist.data.tokens import TokenSet
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import atomic_path, read_json, sha256, write_json
from mmgnn_dist.models.text import TextEncoder

CHUNK = 256  # molecules a pass


class Embeddings:
    """The vectors of all molecules of a shard set.

    Args:
        folder: made by `ensure_embeddings`.
        shards: the shard set.
        partners: whose vector each molecule reads instead of its own, int64 [rows].
        zero: read zeros instead.
    """

    def __init__(
        self, folder: Path, shards: ShardSet, partners: np.ndarray | None = None, zero: bool = False
    ) -> None:
        self._partners, self._zero = partners, zero
        about = read_json(folder / "manifest.json")
        self.width: int = about["width"]
        self._starts = shards.starts
        self._parts = []
        for name, digest in about["files"].items():
            if sha256(folder / name) != digest:
                raise UserError(f"{folder / name} is truncated or altered: remove {folder}, it is made again")
            self._parts.append(np.load(folder / name, mmap_mode="r"))

    def of(self, rows: torch.Tensor) -> torch.Tensor:
        """Vectors of global rows: int64 [B] -> float32 [B, D]."""
        if self._zero:
            return torch.zeros(len(rows), self.width)
        wanted = rows.numpy() if self._partners is None else self._partners[rows.numpy()]
        out = np.empty((len(wanted), self.width), np.float32)
        shard = np.searchsorted(self._starts, wanted, side="right") - 1
        for number in np.unique(shard):
            here = shard == number
            out[here] = self._parts[number][wanted[here] - self._starts[number]]
        return torch.from_numpy(out)


def open_embeddings(
    shards: ShardSet, tokens: TokenSet, files: EncoderFiles, config: TextConfig, seed: int
) -> Embeddings:
    """The vectors that a recipe reads, those of its control text if it has one."""
    chosen = partners(tokens, config.fields, seed) if config.control == "shuffled" else None
    folder = embeddings_folder(shards, tokens, files, config, seed)
    return Embeddings(folder, shards, chosen, zero=config.control == "zero")


def embeddings_folder(
    shards: ShardSet, tokens: TokenSet, files: EncoderFiles, config: TextConfig, seed: int
) -> Path:
    """Where the vectors of this encoder and text are kept; `seed` is that of random texts."""
    what: list[object] = [files.model_fingerprint, tokens.key, list(config.fields), config.pooling]
    if config.control == "random":
        what += [config.control, seed]
    key = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]
    return shards.path / "embeddings" / key


def ensure_embeddings(
    shards: ShardSet,
    tokens: TokenSet,
    files: EncoderFiles,
    config: TextConfig,
    device: torch.device,
    progress: Callable[[int, int], None],
    seed: int = 0,
) -> None:
    """Write the vectors of every molecule if they are not there yet; one process calls it."""
    folder = embeddings_folder(shards, tokens, files, config, seed)
    choice = TextChoice(seed, "random" if config.control == "random" else "none")
    if (folder / "manifest.json").is_file():
        return
    encoder = (
        TextEncoder(files, config.model_copy(update={"mode": "frozen"}), blank=tokens.blank).eval().to(device)
    )
    done, digests = 0, {}
    for number, shard in enumerate(shards.shards):
        rows = np.arange(shards.starts[number], shards.starts[number + 1])
        loader = Loader(shards, rows, [], tokens, config.fields, batch=CHUNK, shuffle=False, choice=choice)
        parts = []
        for step in loader.epoch(0):
            for batch in step.micro:
                with torch.no_grad():
                    vectors, _ = encoder(batch.tokens.to(device), batch.token_ptr.to(device))
                parts.append(vectors.cpu().numpy())
                done += batch.size
                progress(done, shards.rows)
        name = f"shard-{number:05d}.npy"
        with atomic_path(folder / name) as part, open(part, "wb") as out:
            np.save(out, np.concatenate(parts) if shard.rows else np.empty((0, encoder.width), np.float32))
        digests[name] = sha256(folder / name)
    about = {
        "encoder": files.name,
        "revision": files.revision,
        "fields": config.fields,
        "pooling": config.pooling,
    }
    write_json(folder / "manifest.json", {**about, "width": encoder.width, "files": digests})
