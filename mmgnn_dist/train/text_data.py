"""The text side of a run: token sidecars, and the vectors of a frozen encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mmgnn_dist.data.text.token_cache import TokenSet
from mmgnn_dist.models.fused import TextSource
from mmgnn_dist.models.text_encoder.frozen_cache import Embeddings, ensure_embeddings, open_embeddings
from mmgnn_dist.progress import Progress
from mmgnn_dist.train.inputs import Inputs
from mmgnn_dist.train.ranks import Ranks


@dataclass
class TextData:
    """What a run reads of text; everything is None in a run of graphs alone."""

    tokens: TokenSet | None = None
    source: TextSource | None = None
    embeddings: Embeddings | None = None


def open_text_data(inputs: Inputs, ranks: Ranks, progress: Progress, record: Path | None = None) -> TextData:
    """Open the sidecars; what is missing is made by the first rank while the others wait.

    Args:
        inputs: of the recipe.
        ranks: all call it.
        progress: what people are told.
        record: where the first rank writes which files it has verified, for the others to read; none: each
            rank verifies all.

    Raises:
        Stopped: if a stop signal came meanwhile; what is made stays.
    """
    config, files = inputs.recipe.text, inputs.files
    if files is None:
        return TextData()
    frozen, seed = config.mode == "frozen", inputs.recipe.train.seed

    def make(moved: Callable[[], None]) -> TokenSet | None:
        def told(done: int, total: int, note: str = "") -> None:
            progress(done, total, note)
            moved()

        tokens = inputs.tokens(told)
        if frozen and tokens:
            ensure_embeddings(inputs.shards, tokens, files, config, ranks.device, told, seed)
        if record:
            _ = files.model_fingerprint  # reads the weights, here and on no other rank
            inputs.verified.save(record)
        return tokens

    tokens = ranks.run_on_rank0("making what is missing of the text", make)
    if tokens is None:
        if record:
            inputs.verified.load(record)
        tokens = inputs.tokens(progress)
    assert tokens is not None
    progress.say(tokens.summary())
    embeddings = None
    if frozen:
        embeddings = open_embeddings(inputs.shards, tokens, files, config, seed)
    return TextData(
        tokens, TextSource(files, tokens.blank, embeddings.width if embeddings else None), embeddings
    )
