"""The loader: order, sharing, content, resuming; each against a naive reading of the shards."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch
from small_set import TARGETS

from mmgnn_dist.data.loading.batch import Batch
from mmgnn_dist.data.loading.loader import Loader, batch_bounds
from mmgnn_dist.data.text.sentences import render
from mmgnn_dist.data.text.token_cache import TokenSet
from mmgnn_dist.data.text.tokenizer import load_tokenizer
from mmgnn_dist.errors import UserError

FIELDS = ["molecular_formula", "iupac_name", "xlogp"]


@pytest.fixture(scope="module")
def tokens(shards, minilm):
    return TokenSet.ensure(shards, FIELDS, minilm, 64)


def make(shards, tokens=None, rows=None, targets=TARGETS, **options):
    rows = np.arange(shards.rows) if rows is None else rows
    return Loader(shards, rows, targets, tokens, **{"batch": 10, "seed": 7} | options)


def same(one: Batch, two: Batch) -> bool:
    pairs = [(getattr(one, f.name), getattr(two, f.name)) for f in fields(Batch)]
    return all(a is b if a is None or b is None else torch.equal(a, b) for a, b in pairs)


def assert_same_steps(one, two):
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert (a.index, a.counted, a.cost) == (b.index, b.counted, b.cost)
        assert torch.equal(a.label_count, b.label_count)
        assert len(a.micro) == len(b.micro) and all(map(same, a.micro, b.micro))


def rows_of(loader, epoch):
    """The rows of an epoch, global batch after global batch."""
    return np.concatenate([loader.sampling.batch(epoch, step) for step in range(loader.steps_per_epoch)])


def test_order_is_a_function_of_seed_and_epoch(shards):
    order = rows_of(make(shards), 3)
    assert np.array_equal(np.sort(order), np.arange(shards.rows))
    assert np.array_equal(order, rows_of(make(shards, world=2, rank=1, micro=5), 3))
    assert not np.array_equal(order, rows_of(make(shards), 4))
    assert not np.array_equal(order, rows_of(make(shards, seed=8), 3))
    # the order of all earlier versions, from numpy's documented generator
    expected = np.random.Generator(np.random.PCG64(np.random.SeedSequence([7, 3]))).permutation(shards.rows)
    assert np.array_equal(order, expected)


def test_batches_cover_the_order(shards):
    loader = make(shards)
    steps = list(loader.epoch(1))
    sizes = [step.micro[0].size for step in steps]
    seen = np.concatenate([step.micro[0].rows for step in steps])
    assert len(steps) == loader.steps_per_epoch == 11
    assert np.array_equal(seen, rows_of(loader, 1)) and max(sizes) - min(sizes) <= 1
    assert [loader.seen(n) for n in range(23)] == [0, *np.cumsum(sizes + sizes)]


@pytest.mark.parametrize("stratified", [False, True])
@pytest.mark.parametrize("micro", [None, 2, 3])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_world_size_sees_the_same_molecules(shards, world, micro, stratified):
    alone = list(make(shards, batch=12, stratified=stratified).epoch(2))
    options = {"batch": 12, "micro": micro, "stratified": stratified}
    loaders = [make(shards, rank=rank, world=world, **options) for rank in range(world)]
    seen = []
    for step, *ranks in zip(alone, *(loader.epoch(2) for loader in loaders), strict=True):
        (batch,) = step.micro
        assert {len(other.micro) for other in ranks} == {loaders[0].passes}
        for other in ranks:
            assert all(0 < own.size <= (micro or 12) for own in other.micro)
            assert np.array_equal(loaders[0].sampling.batch(2, step.index), batch.rows)
        counts = [other.label_count for other in ranks]
        assert torch.equal(counts[0] if ranks[0].counted else sum(counts), batch.y_mask.sum(0))
        rows = torch.cat([own.rows for other in ranks for own in other.micro]).numpy()
        assert np.array_equal(np.sort(rows), np.sort(batch.rows))
        seen.append(rows)
    assert np.array_equal(np.sort(np.concatenate(seen)), np.arange(shards.rows))


@pytest.mark.parametrize("batch", [7, 10, 103])
def test_strata_have_molecules_of_like_size(shards, batch):
    """Each step has one molecule of every stratum: its sizes are those of any other step."""
    atoms = np.concatenate([np.diff(shard.ptr) for shard in shards.shards])
    loader = make(shards, batch=batch, stratified=True)
    ranked = -np.sort(-atoms)
    strata = np.array_split(ranked, np.arange(loader.steps_per_epoch, len(ranked), loader.steps_per_epoch))
    for epoch in (0, 1):
        for step in loader.epoch(epoch):
            found = np.diff(step.micro[0].ptr)
            pairs = zip(found, strata, strict=False)  # the last stratum has too few for some of the steps
            assert all(low[-1] <= size <= low[0] for size, low in pairs)
    if batch < shards.rows:
        assert not np.array_equal(rows_of(loader, 0), rows_of(loader, 1))


@pytest.mark.parametrize("options", [{}, {"world": 2, "rank": 1, "micro": 3}, {"shuffle": False}])
def test_content_equals_a_naive_reading(shards, tokens, minilm, options):
    tokenizer = load_tokenizer(minilm)
    texts = [[t for shard in shards.shards for t in render(shard.table, field)] for field in FIELDS]
    z, pos, y, context = (shards.column(name) for name in ("z", "pos", "y", "context"))
    targets = ["energy", "mu"]
    absent = 0
    for step in make(shards, tokens, targets=targets, **options).epoch(0):
        truth = np.array([y[int(row)].as_py() for batch in step.micro for row in batch.rows])[:, [2, 0]]
        assert step.label_count.tolist() == (~np.isnan(truth)).sum(0).tolist()
        for batch in step.micro:
            assert batch.ptr[0] == batch.token_ptr[0] == 0
            assert (len(batch.z), len(batch.tokens)) == (batch.ptr[-1], batch.token_ptr[-1])
            for i, row in enumerate(batch.rows.tolist()):
                atoms = slice(int(batch.ptr[i]), int(batch.ptr[i + 1]))
                assert batch.z[atoms].tolist() == z[row].as_py()
                assert batch.pos[atoms].ravel().tolist() == pos[row].as_py()
                value = np.array(y[row].as_py())[[2, 0]]
                assert np.array_equal(batch.y_mask[i].numpy(), ~np.isnan(value))
                assert np.array_equal(batch.y[i].numpy(), np.nan_to_num(value))
                value = np.array(context[row].as_py(), np.float32)
                assert np.array_equal(batch.context_mask[i].numpy(), ~np.isnan(value))
                assert np.array_equal(batch.context[i].numpy(), np.nan_to_num(value))
                joined = " ".join(field[row] for field in texts if field[row])
                ids = batch.tokens[batch.token_ptr[i] : batch.token_ptr[i + 1]].tolist()
                assert ids == (tokenizer(joined)["input_ids"] if joined else [])
                absent += not joined
    assert absent  # molecules without any text were among them
    assert (batch.z.dtype, batch.tokens.dtype, batch.y.dtype) == (torch.int64, torch.int64, torch.float64)


def test_fields_are_a_choice_at_loading(shards, tokens, minilm):
    tokenizer = load_tokenizer(minilm)
    names = [t for shard in shards.shards for t in render(shard.table, "iupac_name")]
    for step in make(shards, tokens, fields=["iupac_name"]).epoch(0):
        (batch,) = step.micro
        for row, ids in zip(
            batch.rows.tolist(), batch.tokens.split(batch.token_ptr.diff().tolist()), strict=True
        ):
            assert ids.tolist() == (tokenizer(names[row])["input_ids"] if names[row] else [])


@pytest.mark.parametrize("options", [{}, {"world": 3, "rank": 2, "micro": 2}, {"stratified": True}])
def test_resuming_equals_skipping_and_the_window_changes_nothing(shards, tokens, options):
    whole = list(make(shards, tokens, **options).epoch(5))
    for window in (1, 25, 10_000):
        loader = make(shards, tokens, window=window, **options)
        for start in (0, 1, 4, len(whole) - 1, len(whole)):
            assert_same_steps(list(loader.epoch(5, start)), whole[start:])


def test_evaluation_covers_each_row_once_in_order(shards):
    rows = np.arange(3, 100, 2)
    alone = [step.micro[0].rows for step in make(shards, rows=rows, shuffle=False).epoch(0)]
    assert np.array_equal(torch.cat(alone), rows)
    for world in (2, 3, 8):  # the same batches, dealt in turn; eight processes have more than there are
        ranks = [make(shards, rows=rows, shuffle=False, rank=rank, world=world) for rank in range(world)]
        steps = zip(*(loader.epoch(0) for loader in ranks), strict=True)
        seen = [batch.rows for step in steps for own in step for batch in own.micro]
        assert len(seen) == len(alone) and all(map(torch.equal, seen, alone))
    assert list(make(shards, rows=rows[:0], shuffle=False).epoch(0)) == []


def test_without_text_and_without_targets(shards):
    for step in make(shards, targets=[]).epoch(0):
        (batch,) = step.micro
        assert len(batch.tokens) == 0 and not batch.token_ptr.any() and len(batch.token_ptr) == batch.size + 1
        assert batch.y.shape == batch.y_mask.shape == (batch.size, 0) and step.label_count.shape == (0,)
        assert batch.to("cpu").size == batch.size


def test_bounds():
    assert batch_bounds(1001, 100).tolist() == [1001 * i // 11 for i in range(12)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": ["gapp"]}, "did you mean 'gap'"),
        ({"fields": ["title"], "text": True}, "unknown text field 'title'"),
        ({"rows": np.arange(0)}, "empty split"),
        ({"rows": np.arange(5), "world": 6}, "without molecules"),
        ({"batch": 10, "world": 4, "micro": 1}, "train.micro_batch=1"),
    ],
)
def test_wrong_input_is_told(shards, tokens, options, message):
    with pytest.raises(UserError, match=message):
        make(shards, tokens if options.pop("text", False) else None, **options)
