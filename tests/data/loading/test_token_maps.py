"""Controls that map tokens: a permuted vocabulary, and texts without digits."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from mmgnn_dist.data.loading.loader import Loader
from mmgnn_dist.data.loading.text_input import TextChoice
from mmgnn_dist.data.loading.token_maps import token_map
from mmgnn_dist.data.text.token_cache import TokenSet
from mmgnn_dist.data.text.tokenizer import load_tokenizer
from mmgnn_dist.errors import UserError


@pytest.fixture(scope="module")
def texts(few_shards, minilm):
    """Tokens of each molecule by control, the set of tokens, and the tokenizer."""
    tokens, found = TokenSet.ensure(few_shards, ["iupac_name"], minilm, 64), {}
    for control in ("none", "renamed", "numbers_masked"):
        choice = TextChoice(3, control)
        loader = Loader(few_shards, np.arange(99), [], tokens, batch=99, shuffle=False, choice=choice)
        (batch,) = next(loader.epoch()).micro
        found[control] = [run.tolist() for run in batch.tokens.split(batch.token_ptr.diff().tolist())]
    return found, tokens, load_tokenizer(minilm)


def test_renamed_is_one_permutation_of_the_vocabulary(texts):
    found, tokens, _ = texts
    special = {0, 100, 101, 102, 103}
    pairs = {
        pair
        for real, other in zip(found["none"], found["renamed"], strict=True)
        for pair in zip(real, other, strict=True)
    }
    assert len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs) > 50  # one to one
    assert all((a == b) == (a in special) for a, b in pairs)
    assert sorted(token_map(tokens, "renamed")) == list(range(tokens.vocab))


def test_numbers_masked_has_no_digit_and_the_other_words(texts):
    found, _, tokenizer = texts
    masked = 0
    for real, other in zip(found["none"], found["numbers_masked"], strict=True):
        words = tokenizer.convert_ids_to_tokens(real)
        for word, a, b in zip(words, real, other, strict=True):
            has_digit = any(letter in "0123456789" for letter in word)
            assert b == (tokenizer.mask_token_id if has_digit else a)
            masked += has_digit
    assert masked > 100
    bare = SimpleNamespace(vocab=9, mask=None, encoder="bare")
    with pytest.raises(UserError, match="bare has neither a mask nor an unknown token"):
        token_map(bare, "numbers_masked")
