"""Control texts that say each token of the real text by another one.

    renamed         every token is another one, by one permutation of the vocabulary for all molecules and
                    runs: a text still tells its molecule from others, in words that mean something else
    numbers_masked  every token with a digit (locants, counts, values) is the mask, else the unknown token

Special tokens stay. Both keep the number of tokens of every text.
"""

from __future__ import annotations

import numpy as np

from mmgnn_dist.config import Control
from mmgnn_dist.data.text.token_cache import TokenSet
from mmgnn_dist.errors import UserError

RENAMING = 7_301  # seed of the permutation, the same for all runs

MAPPED = ("renamed", "numbers_masked")  # controls that map tokens


def token_map(tokens: TokenSet, control: Control) -> np.ndarray:
    """Which token stands for each token, int64 [vocab].

    Args:
        tokens: the texts, with their vocabulary.
        control: one of `MAPPED`.

    Raises:
        UserError: a mask is needed, and the tokenizer has neither mask nor unknown token.
    """
    result = np.arange(tokens.vocab)
    if control == "renamed":
        order = np.random.Generator(np.random.PCG64(RENAMING)).permutation(tokens.ordinary)
        result[order] = np.roll(order, 1)  # one cycle: no token stays
        return result
    if tokens.mask is None:
        raise UserError(
            f"text.control={control} puts a mask in the place of numbers, and the tokenizer of "
            f"{tokens.encoder} has neither a mask nor an unknown token: leave this control out"
        )
    result[tokens.numeric] = tokens.mask
    return result
