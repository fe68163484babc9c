"""Physical context against numpy, with gaps, absent and constant fields."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmgnn_dist.data.loading.context import ContextScaler, fit_context
from mmgnn_dist.data.loading.loader import Loader


def test_the_training_part_is_standardised(shards):
    rows = np.sort(np.random.default_rng(0).permutation(shards.rows)[:60])
    raw = np.concatenate([shard.context for shard in shards.shards]).astype(np.float64)
    scaler = fit_context(shards, rows)
    assert scaler.mean.numpy() == pytest.approx(np.nanmean(raw[rows], axis=0), rel=1e-6)
    assert scaler.std.numpy() == pytest.approx(np.nanstd(raw[rows], axis=0), rel=1e-6)
    assert scaler.count.tolist() == (~np.isnan(raw[rows])).sum(axis=0).tolist()
    (batch,) = next(Loader(shards, rows, [], batch=60, shuffle=False).epoch()).micro
    scaled, known = scaler(batch.context, batch.context_mask)
    assert torch.equal(known, batch.context_mask) and not scaled[~known].any()
    for field in range(6):
        values = scaled[:, field][known[:, field]].double()
        assert values.mean() == pytest.approx(0, abs=1e-5)
        assert values.std(unbiased=False) == pytest.approx(1, abs=1e-5)
    assert not torch.equal(scaler.mean, fit_context(shards, np.arange(40)).mean)


def test_absent_and_constant_fields(shards):
    raw = torch.tensor([[50.0, 2.0], [60.0, 3.0]])
    scaler = ContextScaler(torch.tensor([50.0, 0.0]), torch.ones(2), torch.tensor([9, 0]))
    scaled, known = scaler(raw, torch.tensor([[True, True], [False, True]]))
    assert scaled.tolist() == [[0, 0], [0, 0]] and known.tolist() == [[True, False], [False, False]]
    nothing = fit_context(shards, np.arange(0))
    assert nothing.std.tolist() == [1] * 6 and nothing.count.tolist() == [0] * 6
    one = fit_context(shards, np.arange(1))
    assert one.std.tolist() == [1] * 6 and scaler.to("cpu").std.tolist() == [1, 1]
