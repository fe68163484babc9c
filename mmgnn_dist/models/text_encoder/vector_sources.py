"""What stored vectors are made of: the texts of a frozen encoder, or fingerprints in their place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch

from mmgnn_dist.chem.fingerprints import BITS, RADIUS, fingerprints
from mmgnn_dist.config import TextConfig
from mmgnn_dist.data.loading.loader import Loader
from mmgnn_dist.data.loading.text_input import TextChoice
from mmgnn_dist.data.loading.token_maps import MAPPED
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.data.text.encoder_files import EncoderFiles
from mmgnn_dist.data.text.token_cache import TokenSet
from mmgnn_dist.models.text_encoder.encoder import TextEncoder

CHUNK = 256  # molecules per forward pass
WEIGHTS = 7_302  # seed of the weights of an encoder that was never trained, the same for all runs
# control texts with other words, or other weights to read them
OWN_WORDS = ("random", *MAPPED, "random_weights")


class VectorSource(Protocol):
    """Makes the vectors of a shard.

    Attributes:
        width: D, the width of a vector.
        about: what the vectors are, for their manifest.
    """

    width: int
    about: dict[str, object]

    def of_shard(self, number: int, progress: Callable[[int], None]) -> np.ndarray:
        """Vectors [rows, D] of a shard; `progress` is called with the molecules done."""


class EncodedTexts:
    """The pooled vectors that a frozen encoder gives for the texts of the molecules, float32.

    Args:
        shards: the molecules.
        tokens: their texts.
        files: the encoder.
        config: fields, pooling and control text.
        device: where the encoder computes.
        seed: seed of random texts.
    """

    def __init__(
        self,
        shards: ShardSet,
        tokens: TokenSet,
        files: EncoderFiles,
        config: TextConfig,
        device: torch.device,
        seed: int,
    ) -> None:
        self._shards, self._tokens, self._fields, self._device = shards, tokens, config.fields, device
        reads_own = config.control in ("random", *MAPPED)
        self._choice = TextChoice(seed, config.control if reads_own else "none")
        frozen = config.model_copy(update={"mode": "frozen"})
        if config.control == "random_weights":
            files = replace(files, random={})
        with torch.random.fork_rng():
            torch.manual_seed(WEIGHTS)
            self._encoder = TextEncoder(files, frozen, blank=tokens.blank).eval().to(device)
        self.width = self._encoder.width
        self.about: dict[str, object] = {
            "encoder": files.name,
            "revision": files.revision,
            "weights_sha256": files.model_fingerprint,
            "tokens": tokens.key,
            "fields": list(config.fields),
            "pooling": config.pooling,
            "control": config.control if config.control in OWN_WORDS else "none",
        }

    def of_shard(self, number: int, progress: Callable[[int], None]) -> np.ndarray:
        """Encode the texts of a shard: see `VectorSource`."""
        starts = self._shards.starts
        loader = Loader(
            self._shards,
            np.arange(starts[number], starts[number + 1]),
            [],
            self._tokens,
            self._fields,
            batch=CHUNK,
            shuffle=False,
            choice=self._choice,
        )
        vectors = np.empty((self._shards.shards[number].rows, self.width), np.float32)
        filled = 0
        for batch in (batch for step in loader.epoch(0) for batch in step.micro):
            with torch.no_grad():
                pooled, _ = self._encoder(batch.tokens.to(self._device), batch.token_ptr.to(self._device))
            vectors[filled : filled + batch.size] = pooled.cpu().numpy()
            filled += batch.size
            progress(filled)
        return vectors


class Fingerprints:
    """The ECFP4 bits of the molecules, uint8; those of a molecule without a readable SMILES are zero."""

    def __init__(self, shards: ShardSet) -> None:
        self._shards = shards
        self.width = BITS
        self.about: dict[str, object] = {"fingerprint": "ecfp4", "radius": RADIUS, "bits": BITS}

    def of_shard(self, number: int, progress: Callable[[int], None]) -> np.ndarray:
        """Compute the fingerprints of a shard: see `VectorSource`."""
        bits = fingerprints(self._shards.shards[number].table.column("smiles").chunk(0))
        progress(len(bits))
        return bits
