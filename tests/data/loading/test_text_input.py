"""Text as a choice at loading time: dropout, sampled synonyms, controls; the same for any world size."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from small_set import TARGETS, make_set

from mmgnn_dist.data.loading.borrowed_text import partners
from mmgnn_dist.data.loading.loader import Loader
from mmgnn_dist.data.loading.text_input import TextChoice
from mmgnn_dist.data.shardset.hashing import uniform
from mmgnn_dist.data.text.sentences import render, render_synonyms
from mmgnn_dist.data.text.token_cache import TokenSet
from mmgnn_dist.data.text.tokenizer import load_tokenizer
from mmgnn_dist.errors import UserError

FIELDS = ["molecular_formula", "iupac_name", "synonyms", "xlogp"]
EVERYTHING = TextChoice(seed=3, control="shuffled", dropout=0.4, sample=True)


@pytest.fixture(scope="module")
def single(shards, minilm):
    """A run for each synonym."""
    return TokenSet.ensure(shards, FIELDS, minilm, 64, sample_synonyms=True)


@pytest.fixture(scope="module")
def joined(shards, minilm):
    """A run for all synonyms of a molecule."""
    return TokenSet.ensure(shards, FIELDS, minilm, 64)


def texts(shards, tokens, choice, epoch=0, start=0, **options):
    """Tokens of each row, read in epoch `epoch`."""
    options = {"rows": np.arange(shards.rows), "batch": 12, "seed": 7} | options
    rows = options.pop("rows")
    found = {}
    for step in Loader(shards, rows, TARGETS, tokens, choice=choice, **options).epoch(epoch, start):
        for batch in step.micro:
            runs = batch.tokens.split(batch.token_ptr.diff().tolist())
            found |= {row: run.tolist() for row, run in zip(batch.rows.tolist(), runs, strict=True)}
    return found


def test_draws_are_uniform_and_independent():
    rows = np.arange(100_000)
    a, b = uniform((1, 2, 3), rows), uniform((1, 2, 4), rows)
    assert (
        (np.histogram(a, 10, (0, 1))[0] / 1e4 == pytest.approx(1, abs=0.05)) and a.min() >= 0 and a.max() < 1
    )
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.02 and abs(np.corrcoef(a[1:], a[:-1])[0, 1]) < 0.02


@pytest.mark.parametrize("control", ["none", "zero", "shuffled", "random"])
def test_any_world_size_window_and_start_read_the_same(shards, single, control):
    choice = TextChoice(seed=3, control=control, dropout=0.4, sample=True)
    alone = texts(shards, single, choice, epoch=2)
    assert len(alone) == shards.rows
    for world in (2, 3):
        ranks = [texts(shards, single, choice, 2, rank=r, world=world, micro=3) for r in range(world)]
        assert {row: run for rank in ranks for row, run in rank.items()} == alone
    later = texts(shards, single, choice, epoch=2, start=4, window=1)
    assert 0 < len(later) < len(alone) and later.items() <= alone.items()
    assert (
        texts(shards, single, choice, epoch=2, shuffle=False) == alone
    )  # a matter of the row, not its place


def test_field_dropout_leaves_whole_fields_out(shards, joined, minilm):
    tokenizer = load_tokenizer(minilm)
    sentences = [[t for s in shards.shards for t in render(s.table, field)] for field in FIELDS]
    kept = np.zeros(len(FIELDS))
    seen = set()
    for epoch in range(20):
        for row, run in texts(shards, joined, TextChoice(dropout=0.4), epoch).items():
            mine = [field[row] for field in sentences]
            for mask in range(2 ** len(FIELDS)):  # which subset of the fields is it?
                words = [t for place, t in enumerate(mine) if t and mask >> place & 1]
                if run == (tokenizer(" ".join(words))["input_ids"] if words else []):
                    break
            else:
                raise AssertionError(f"row {row}: not a subset of its fields")
            kept += [bool(t) and mask >> place & 1 for place, t in enumerate(mine)]
            seen.add((row, tuple(run)))
    present = np.array([sum(map(bool, field)) for field in sentences]) * 20
    assert kept / present == pytest.approx(0.6, abs=0.06)
    assert len(seen) > 4 * shards.rows  # it is drawn anew in every epoch
    assert texts(shards, joined, TextChoice(seed=1, dropout=0.4)) != texts(
        shards, joined, TextChoice(dropout=0.4)
    )


def test_one_synonym_an_epoch(tmp_path, minilm):
    import pyarrow as pa

    from mmgnn_dist.data.shardset import shards as module

    shards = make_set(tmp_path / "plain", (60,))
    names = [[f"name {'abcdefghij'[i]} of {'xyz'[k % 3]}" for i in range(k % 5)] for k in range(60)]
    batch = shards.shards[0].table.to_batches()[0]
    place = batch.schema.get_field_index("synonyms")
    batch = batch.set_column(
        place, batch.schema.field(place), pa.array(names, batch.schema.field(place).type)
    )
    entry = module.write_shard(tmp_path / "plain" / "shard-00000.arrow", batch)
    shards = module.ShardSet(shards.path, {**shards.manifest, "shards": [entry]})
    tokens = TokenSet.ensure(shards, ["synonyms"], minilm, 64, sample_synonyms=True)
    tokenizer = load_tokenizer(minilm)
    expected = [[tokenizer(f"Synonyms: {name}.")["input_ids"] for name in row] for row in names]
    seen: list[list] = [[] for _ in names]
    for epoch in range(60):
        for row, run in texts(shards, tokens, TextChoice(sample=True), epoch).items():
            assert run in expected[row] if expected[row] else run == []
            seen[row].append(run)
    for row, runs in enumerate(seen):  # all names come up, about equally often
        counts = [runs.count(name) for name in expected[row]]
        assert not counts or min(counts) > 60 / len(counts) / 4
    first = texts(shards, tokens, TextChoice(), epoch=5)
    assert first == {row: (runs[0] if runs else []) for row, runs in enumerate(expected)}
    count = tokens.counts["synonyms"]
    assert count["present"] == sum(map(bool, names)) and tokens.longest == max(
        len(r) for e in expected for r in e
    )
    assert count["tokens"] == sum(len(run) - 2 for runs in expected for run in runs)


def test_synonyms_are_single_and_clean(shards):
    sentences, entries = render_synonyms(shards.shards[0].table)
    assert len(entries) == shards.shards[0].rows and sum(entries) == len(sentences)
    assert set(sentences) == {None, "Synonyms: acetone."}


def test_zero_keeps_presence_and_says_nothing(shards, joined):
    real, zero = texts(shards, joined, None), texts(shards, joined, TextChoice(control="zero"))
    assert zero == {row: [101, 102] if run else [] for row, run in real.items()}
    assert any(real.values()) and not all(real.values())


def test_shuffled_is_a_derangement_of_the_texts(shards, joined):
    real = texts(shards, joined, None)
    choice = TextChoice(seed=5, control="shuffled")
    shuffled = texts(shards, joined, choice)
    whose = partners(joined.lengths(FIELDS) > 0, 5)
    assert shuffled == {row: real[whose[row]] for row in real} and shuffled == texts(
        shards, joined, choice, 9
    )
    rows = np.array([row for row, run in sorted(real.items()) if run])
    assert (whose[rows] != rows).all() and sorted(whose[rows]) == rows.tolist()
    assert [whose[row] for row, run in real.items() if not run] == [
        row for row, run in real.items() if not run
    ]
    assert not np.array_equal(whose, partners(joined.lengths(FIELDS) > 0, 6))


def test_random_has_the_lengths_and_nothing_else(shards, joined):
    real = texts(shards, joined, None)
    drawn = texts(shards, joined, TextChoice(control="random"))
    assert {row: len(run) for row, run in drawn.items()} == {row: len(run) for row, run in real.items()}
    inner = [token for run in drawn.values() for token in run[1:-1]]
    assert all(run[0] == 101 and run[-1] == 102 for run in drawn.values() if run)
    assert not set(inner) & {0, 100, 101, 102, 103} and len(set(inner)) > 0.9 * len(inner)
    assert drawn == texts(shards, joined, TextChoice(control="random"), epoch=4)
    assert drawn != texts(shards, joined, TextChoice(seed=1, control="random"))


def test_shuffled_needs_two_texts(tmp_path, minilm):
    shards = make_set(tmp_path, (30,))
    tokens = TokenSet.ensure(shards, ["title"], minilm, 64)
    with pytest.raises(UserError, match="needs two molecules with text, not 0"):
        partners(tokens.lengths(["title"]) > 0, 0)


def test_wording_is_part_of_the_sidecar(shards, minilm, joined):
    tokenizer = load_tokenizer(minilm)
    sentence = "It is called {value}!"
    other = TokenSet.ensure(
        shards, FIELDS, minilm, 64, budgets={"xlogp": 3}, template={"iupac_name": sentence}
    )
    assert [joined.places[f] == other.places[f] for f in FIELDS] == [True, False, True, False]
    assert other.key != joined.key and other.budgets["xlogp"] == 3 and other.budgets["iupac_name"] == 64
    names = shards.column("iupac_name").to_pylist()
    run = other.runs["iupac_name"][0]
    for row, name in enumerate(names[: len(run.ptr) - 1]):
        said = tokenizer(sentence.format(value=name), add_special_tokens=False)["input_ids"] if name else []
        assert run.values[run.ptr[row] : run.ptr[row + 1]].tolist() == said
    assert max(len(r) for r in np.split(other.runs["xlogp"][0].values, other.runs["xlogp"][0].ptr[1:-1])) == 3
    assert other.counts["xlogp"]["cut_tokens"] > 0 and "cut from" in other.summary()


def test_selected_fields_are_read_alone(shards, joined):
    """The choice goes with the text: where texts are shuffled, it is that of the other molecule."""
    rng = np.random.default_rng(5)
    selected = {field: rng.random(shards.rows) < 0.6 for field in FIELDS}
    joined.reads = selected
    try:
        plain = texts(shards, joined, TextChoice(seed=3), shuffle=False)
        lengths = joined.lengths()
        shuffled = texts(shards, joined, TextChoice(seed=3, control="shuffled"), shuffle=False)
        other = partners(joined.lengths(FIELDS) > 0, 3)
    finally:
        joined.reads = None
    runs = {
        f: [run.values[a:b].tolist() for run in joined.runs[f] for a, b in pairwise(run.ptr)] for f in FIELDS
    }
    for row in range(shards.rows):
        chosen = [token for f in FIELDS if selected[f][row] for token in runs[f][row]]
        assert plain[row] == ([*joined.prefix, *chosen, *joined.suffix] if chosen else [])
        assert lengths[row] == len(plain[row]) and shuffled[row] == plain[other[row]]
