"""The tokenizer of an encoder: loading, special tokens around a text, token ids of texts, cuts between words.

A text is text: the name of a special token within it ([SEP], <s>, [MASK]) is split like any other word, so no
text can end an input, mask a part of it, or pass for padding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from mmgnn_dist.data.shardset.ragged import ragged_index
from mmgnn_dist.data.text.encoder_files import EncoderFiles
from mmgnn_dist.data.text.sentences import NAME_END
from mmgnn_dist.errors import UserError, need

PROBE = "water"
FEWEST = 0.5  # smallest share of the rows of a model's embedding that have a token; some are padding
BLOCK = 256  # long texts that are tokenised at a time with the places of their tokens


def load_tokenizer(encoder: EncoderFiles) -> Any:
    """Load the fast tokenizer of an encoder from its folder, without running code from that folder."""
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise need("transformers", "train") from None
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            encoder.folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UserError(
            f"{encoder.folder} has no readable tokenizer: {' '.join(str(error).split())[:160]}"
        ) from None
    if not tokenizer.is_fast:
        raise UserError(
            f"the tokenizer of {encoder.name} has no fast form (tokenizer.json): take another encoder"
        )
    _check_vocabulary(encoder, len(tokenizer))
    return tokenizer


def _check_vocabulary(encoder: EncoderFiles, words: int) -> None:
    """Refuse a tokenizer with far fewer tokens than its model: a vocabulary that was cut, or another's."""
    rows = encoder.vocabulary
    if rows is not None and words < FEWEST * rows:
        raise UserError(
            f"the tokenizer in {encoder.folder} knows {words} tokens, its model {rows}: they do not belong "
            "together, or a file is cut; copy or fetch the whole model again"
        )


def special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Ids that the tokenizer puts before and after a text, from a probe with and without them."""
    bare = tokenizer(PROBE, add_special_tokens=False)["input_ids"]
    whole = tokenizer(PROBE, add_special_tokens=True)["input_ids"]
    for first in range(len(whole) - len(bare) + 1):
        if whole[first : first + len(bare)] == bare:
            return whole[:first], whole[first + len(bare) :]
    raise UserError(
        f"the special tokens of {tokenizer.name_or_path} do not enclose the text: take another encoder"
    )


def encode(texts: Iterable[str | None], tokenizer: Any) -> tuple[np.ndarray, np.ndarray]:
    """Tokenise texts without special tokens: values int64 [tokens], ptr int64 [texts + 1]; None gives none.

    Equal sentences are tokenised once (counts and formulas repeat). With the leading space, byte-level
    tokenizers read each run as the continuation of the run before; other tokenizers ignore it.
    """
    column = pa.array(texts, pa.large_string()).dictionary_encode()
    if len(column.dictionary) == 0:
        return np.empty(0, np.int64), np.zeros(len(column) + 1, np.int64)
    words = [" " + text for text in column.dictionary.to_pylist()]
    ids = _tokenise(words, tokenizer)["input_ids"]
    bounds = np.cumsum([0, *map(len, ids)], dtype=np.int64)
    flat = np.fromiter(chain.from_iterable(ids), np.int64, count=int(bounds[-1]))
    present = column.is_valid().to_numpy(zero_copy_only=False)
    codes = column.indices.fill_null(0).to_numpy()
    index, ptr = ragged_index(bounds[codes], np.where(present, np.diff(bounds)[codes], 0))
    return flat[index], ptr


def whole_words(texts: Sequence[str], tokenizer: Any, budget: int, least: int) -> np.ndarray:
    """How many tokens of long texts to keep so that no word is cut, int64 [texts].

    Args:
        texts: texts of more than `budget` tokens.
        tokenizer: the tokenizer.
        budget: most tokens to keep.
        least: tokens to keep where the first word alone has more.
    """
    kept = []
    for text, spans in _places(texts, tokenizer):
        ends = (k for k in range(budget, 0, -1) if _between_words(text, spans[k - 1], spans[k]))
        kept.append(next(ends, least))
    return np.array(kept, np.int64)


def whole_names(texts: Sequence[str], tokenizer: Any, budget: int) -> list[str | None]:
    """Long lists of names without their last names, so that they fit; None where no name fits.

    Args:
        texts: lists of more than `budget` tokens, with `NAME_END` behind each name but the last.
        tokenizer: the tokenizer.
        budget: most tokens that a list may have.
    """
    shorter: list[str | None] = []
    for text, spans in _places(texts, tokenizer):
        ends = (place for place in range(spans[budget][0], 0, -1) if text[place] == NAME_END)
        # a name at the end of a text may have more tokens than within it
        fits = (text[1:end] for end in ends if len(encode([text[1:end]], tokenizer)[0]) <= budget)
        shorter.append(next(fits, None))
    return shorter


def _places(texts: Sequence[str], tokenizer: Any) -> Iterator[tuple[str, list[tuple[int, int]]]]:
    """Yield each text as `encode` gives it to the tokenizer, with first character and end of its tokens."""
    for first in range(0, len(texts), BLOCK):
        words = [" " + text for text in texts[first : first + BLOCK]]
        yield from zip(
            words, _tokenise(words, tokenizer, return_offsets_mapping=True)["offset_mapping"], strict=True
        )


def _between_words(text: str, before: tuple[int, int], after: tuple[int, int]) -> bool:
    """Whether there is a blank between two neighbouring tokens, given their first characters and ends."""
    return text[before[1] : after[0] + 1][:1].isspace()


def _tokenise(words: list[str], tokenizer: Any, **options: Any) -> Any:
    """Call the tokenizer without special tokens, neither around the texts nor within them."""
    return tokenizer(
        words,
        add_special_tokens=False,
        split_special_tokens=True,
        return_attention_mask=False,
        verbose=False,
        **options,
    )
