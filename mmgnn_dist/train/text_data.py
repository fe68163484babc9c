"""Text data of a run: token sidecars, and the vectors of a frozen encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mmgnn_dist.data.loading.borrowed_text import LENT, text_sources, told
from mmgnn_dist.data.text.token_cache import TokenSet
from mmgnn_dist.models.fused import TextSource
from mmgnn_dist.models.text_encoder.frozen_cache import Embeddings, ensure_embeddings, open_embeddings
from mmgnn_dist.progress import Progress
from mmgnn_dist.train.inputs import Inputs
from mmgnn_dist.train.ranks import Ranks


@dataclass
class TextData:
    """Text data of a run; all attributes are None if it reads only graphs.

    Attributes:
        tokens: token sidecars.
        source: encoder files and the width of frozen vectors, for the model.
        embeddings: vectors of a frozen encoder.
    """

    tokens: TokenSet | None = None
    source: TextSource | None = None
    embeddings: Embeddings | None = None


def open_text_data(inputs: Inputs, ranks: Ranks, progress: Progress, record: Path | None = None) -> TextData:
    """Open the sidecars; the first rank makes missing ones while the others wait.

    Args:
        inputs: inputs of the recipe.
        ranks: the ranks; all of them call this function.
        progress: progress on the terminal.
        record: file where the first rank lists the files it has verified, for the others to load; None: each
            rank verifies all files.

    Raises:
        Stopped: a stop signal came meanwhile; finished sidecars stay.
    """
    config, files = inputs.recipe.text, inputs.files
    if files is None:
        return TextData()
    frozen, seed = config.mode == "frozen", inputs.recipe.train.seed

    def make(moved: Callable[[], None]) -> TokenSet | None:
        def report(done: int, total: int, note: str = "") -> None:
            progress(done, total, note)
            moved()

        tokens = inputs.tokens(report)
        if frozen and tokens:
            ensure_embeddings(inputs.shards, tokens, files, config, ranks.device, report, seed)
        if record:
            _ = files.model_fingerprint  # reads the weights, on this rank only
            inputs.verified.save(record)
        return tokens

    tokens = ranks.run_on_rank0("making missing text data", make)
    if tokens is None:
        if record:
            inputs.verified.load(record)
        tokens = inputs.tokens(progress)
    assert tokens is not None
    progress.say(tokens.summary())
    if config.control in LENT:
        has_text = tokens.lengths(config.fields) > 0
        sources = text_sources(inputs.shards, has_text, config.control, seed)
        progress.say(told(sources, has_text, config.control))
    if config.control == "fingerprint" and (count := inputs.shards.column("smiles").null_count):
        progress.say(
            f"text.control=fingerprint: {count:,} molecules have no SMILES, their fingerprint is zero"
        )
    embeddings = None
    if frozen:
        embeddings = open_embeddings(inputs.shards, tokens, files, config, seed)
    return TextData(
        tokens, TextSource(files, tokens.blank, embeddings.width if embeddings else None), embeddings
    )
