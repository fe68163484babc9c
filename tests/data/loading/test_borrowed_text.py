"""Texts of other molecules of one group: a derangement within groups, never of the own identity."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from small_set import make_set

from mmgnn_dist.data.loading.borrowed_text import NOBODY, lent, text_sources, told
from mmgnn_dist.data.loading.loader import Loader
from mmgnn_dist.data.loading.text_input import TextChoice
from mmgnn_dist.data.shardset.groups import formula_hashes
from mmgnn_dist.data.text.token_cache import TokenSet
from mmgnn_dist.errors import UserError


def test_every_text_of_a_group_is_lent_once_to_another_identity():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 60, 400).astype(np.uint64)  # group 0 is that of molecules without one
    identity = groups * np.uint64(1000) + rng.integers(0, 9, 400).astype(np.uint64)
    has_text = rng.random(400) < 0.8
    sources = lent(groups, identity, has_text, 3)
    assert (sources[~has_text] == np.flatnonzero(~has_text)).all()
    reads = np.flatnonzero(has_text & (sources != NOBODY))
    assert (groups[sources[reads]] == groups[reads]).all() and has_text[sources[reads]].all()
    assert (identity[sources[reads]] != identity[reads]).all()
    assert len(np.unique(sources[reads])) == len(reads) > 250
    for row in np.flatnonzero(has_text & (sources == NOBODY)):  # for want of other identities alone
        mates = identity[has_text & (groups == groups[row])]
        assert groups[row] == 0 or max(Counter(mates.tolist()).values()) > len(mates) / 2
    assert not np.array_equal(sources, lent(groups, identity, has_text, 4))
    assert np.array_equal(sources, lent(groups, identity, has_text, 3))


def test_formulas_are_counts_of_elements(few_shards):
    formulas = [
        tuple(sorted(Counter(shard.z[a:b].tolist()).items()))
        for shard in few_shards.shards
        for a, b in zip(shard.ptr[:-1], shard.ptr[1:], strict=True)
    ]
    pairs = set(zip(formulas, formula_hashes(few_shards).tolist(), strict=True))
    assert len(pairs) == len(set(formulas)) == len({found for _, found in pairs})


def test_the_loader_reads_the_text_of_equal_formula(few_shards, minilm):
    tokens = TokenSet.ensure(few_shards, ["iupac_name"], minilm, 64)
    has_text = tokens.lengths() > 0
    sources = text_sources(few_shards, has_text, "same_formula", 5)
    read = []
    for control in ("none", "same_formula"):
        choice = TextChoice(5, control)
        rows = np.arange(few_shards.rows)
        loader = Loader(few_shards, rows, [], tokens, batch=50, shuffle=False, choice=choice)
        runs = {}
        for batch in (batch for step in loader.epoch() for batch in step.micro):
            split = batch.tokens.split(batch.token_ptr.diff().tolist())
            runs |= {row: run.tolist() for row, run in zip(batch.rows.tolist(), split, strict=True)}
        read.append(runs)
    real, borrowed = read
    alone = np.flatnonzero(has_text & (sources == NOBODY))
    for row in range(few_shards.rows):
        assert borrowed[row] == ([] if row in alone else real[sources[row]])
    assert len(alone) > 0
    assert told(sources, has_text, "same_formula") == (
        f"text.control=same_formula: {has_text.sum() - len(alone)} molecules read the text of another one, "
        f"{len(alone)} with text have no other of their group and read none"
    )


def test_a_set_without_equal_formulas_is_refused(tmp_path):
    shards = make_set(tmp_path / "set", (6,))
    with pytest.raises(UserError, match=r"text.control=same_formula needs .* of equal formula"):
        text_sources(shards, np.ones(6, bool), "same_formula", 0)
