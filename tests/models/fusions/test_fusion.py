"""Each fusion against its formula, written out one molecule and one atom at a time in float64."""

from __future__ import annotations

import pytest
import torch
from model_batches import random_molecules

from mmgnn_dist.config import load_recipe
from mmgnn_dist.errors import UserError
from mmgnn_dist.models.fusions.base import TextSide
from mmgnn_dist.models.fusions.make import make_fusion
from mmgnn_dist.models.fusions.paper_gate import PaperReadOut, paper_projection
from mmgnn_dist.models.graph import Graph

WIDTH = 12
SIZES, TOKENS = [3, 1, 6, 2], [4, 0, 9, 1]


def fusion_of(name: str, *overrides: str, width: int = WIDTH):
    torch.manual_seed(3)
    return make_fusion(load_recipe(None, [f"model.fusion={name}", *overrides]).model, width, 0.0).eval()


def inputs(dtype: torch.dtype = torch.float64):
    """Atom vectors, text side with tokens, and the graph that they belong to."""
    make = torch.Generator().manual_seed(1)
    z, pos, ptr = random_molecules(SIZES, dtype=dtype)
    graph = Graph.make(z, pos, ptr)
    atoms, vector, tokens = (
        torch.randn(n, WIDTH, generator=make, dtype=torch.float64).to(dtype).requires_grad_()
        for n in (len(z), len(SIZES), sum(TOKENS))
    )
    return atoms, TextSide(vector, tokens, torch.tensor([0, *TOKENS]).cumsum(0)), graph


def normal(x: torch.Tensor) -> torch.Tensor:
    """Layer norm as its definition has it, with the weights that a fresh one has."""
    return (x - x.mean()) / (x.var(unbiased=False) + 1e-5).sqrt()


def affine(layer: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
    out = layer.weight @ x
    return out if layer.bias is None else out + layer.bias


def gate(f, m, t):
    g = torch.sigmoid(affine(f.gate_graph, m) + affine(f.gate_text, t))
    return g * affine(f.value_graph, m) + (1 - g) * affine(f.value_text, t), g.mean()


def concat(f, m, t):
    both = torch.cat([f.value_graph.weight, f.value_text.weight], dim=1)
    return both @ torch.cat([m, t]) + f.value_graph.bias + f.value_text.bias, None


def film(f, m, t):
    return (1 + affine(f.scale, t)) * affine(f.value_graph, m) + affine(f.value_text, t), None


@pytest.mark.parametrize("formula", [gate, concat, film], ids=lambda f: f.__name__)
def test_vector_fusions_equal_their_formula(double, formula):
    fusion = fusion_of(formula.__name__)
    atoms, text, graph = inputs()
    fused, found = fusion(atoms, text, graph)
    assert (found is None) is (formula is not gate)
    for i, molecule in enumerate(graph.molecule.tolist()):
        expected, value = formula(fusion, normal(atoms[i]), normal(text.vector[molecule]))
        torch.testing.assert_close(fused[i], expected, rtol=1e-12, atol=1e-12)
        if value is not None:
            torch.testing.assert_close(found[i], value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["fp64", "fp32"])
@pytest.mark.parametrize("heads", [1, 3, 4])
def test_cross_attention_equals_torch_one_molecule_at_a_time(heads, dtype):
    """Values and gradients; of the molecules one has no token and one a single one."""
    fusion = fusion_of("cross_attention", f"model.heads={heads}").to(dtype)
    reference = torch.nn.MultiheadAttention(WIDTH, heads, batch_first=True).to(dtype)
    with torch.no_grad():
        layers = (fusion.query, fusion.key, fusion.value)
        reference.in_proj_weight.copy_(torch.cat([layer.weight for layer in layers]))
        reference.in_proj_bias.copy_(torch.cat([layer.bias for layer in layers]))
        reference.out_proj.weight.copy_(fusion.output.weight)
        reference.out_proj.bias.copy_(fusion.output.bias)
    atoms, text, graph = inputs(dtype)
    fused, found = fusion(atoms, text, graph)
    assert found is None
    expected = []
    for b in range(graph.size):
        m = fusion.norm_graph(atoms[graph.ptr[b] : graph.ptr[b + 1]])
        words = torch.cat([text.vector[b : b + 1], text.tokens[text.ptr[b] : text.ptr[b + 1]]])
        t = fusion.norm_text(words)
        expected.append(fusion.value_graph(m) + reference(m, t, t, need_weights=False)[0])
    torch.testing.assert_close(fused, torch.cat(expected), rtol=0, atol=1e-6)
    weight = torch.randn(fused.shape, generator=torch.Generator().manual_seed(2)).to(dtype)
    wanted = [atoms, text.vector, text.tokens, fusion.query.weight, fusion.norm_text.weight]
    ours = torch.autograd.grad((fused * weight).sum(), wanted, retain_graph=True)
    theirs = torch.autograd.grad((torch.cat(expected) * weight).sum(), wanted[:3], retain_graph=True)
    for a, b in zip(ours, theirs, strict=False):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert all(float(g.abs().sum()) > 0 for g in ours)


def test_cross_attention_takes_widths_that_its_heads_do_not_divide():
    fusion = fusion_of("cross_attention", "model.heads=4", width=10)
    assert fusion.query.out_features == 8 and fusion.output.in_features == 8
    assert fusion_of("cross_attention", "model.heads=16", width=10).query.out_features == 16


def test_cross_attention_without_tokens_reads_the_vector_alone(double):
    fusion = fusion_of("cross_attention")
    atoms, text, graph = inputs()
    alone, _ = fusion(atoms, TextSide(text.vector), graph)
    t = fusion.norm_text(text.vector)
    expected = fusion.value_graph(fusion.norm_graph(atoms)) + fusion.output(fusion.value(t))[graph.molecule]
    torch.testing.assert_close(alone, expected, rtol=1e-12, atol=1e-12)
    with_tokens, _ = fusion(atoms, text, graph)
    lone = graph.ptr[1]  # the atom of the molecule without tokens
    torch.testing.assert_close(with_tokens[lone], alone[lone], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["gate", "concat", "film", "cross_attention", "none"])
def test_inputs_are_normalised(double, name):
    """A hundred times larger vectors on either side change nothing."""
    fusion = fusion_of(name, "model.modality=graph")
    atoms, text, graph = inputs()
    large = TextSide(1e2 * text.vector, 1e2 * text.tokens, text.ptr)
    torch.testing.assert_close(
        fusion(1e4 * atoms, large, graph)[0], fusion(1e2 * atoms, large, graph)[0], rtol=1e-6, atol=1e-6
    )
    small = fusion(1e2 * atoms, text, graph)[0]
    torch.testing.assert_close(fusion(1e2 * atoms, large, graph)[0], small, rtol=1e-3, atol=1e-3)


def test_paper_gate_equals_its_formula(double):
    fusion = fusion_of("gate_paper", "model.paper_width=5")
    make = torch.Generator().manual_seed(4)
    m, t = (torch.randn(3, n, generator=make, dtype=torch.float64) for n in (WIDTH, 5))
    graph = Graph.make(torch.ones(3), torch.zeros(3, 3), torch.arange(4))
    fused, found = fusion(m, TextSide(t), graph)
    for b in range(3):
        g = torch.sigmoid(affine(fusion.gate, torch.cat([m[b], t[b]])))
        expected = g * affine(fusion.value_graph, m[b]) + (1 - g) * affine(fusion.value_text, t[b])
        torch.testing.assert_close(fused[b], expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(found[b], g.mean(), rtol=1e-12, atol=1e-12)


def test_paper_gate_has_the_published_number_of_parameters():
    """SchNet with text has 582,281 parameters and without 455,809, of which 8,321 are the head that goes."""
    parts = [
        fusion_of("gate_paper", "model.paper_width=8", width=128),
        paper_projection(768, 128, 8),
        PaperReadOut(128, 1),
    ]
    assert sum(p.numel() for part in parts for p in part.parameters()) == 582_281 - (455_809 - 8_321)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["model.fusion=cross_attention", "text.mode=frozen"], "text.mode=lora or full"),
        (["model.fusion=none"], "use it with model.modality=graph"),
        (["model.fusion=none", "model.modality=graph", "twins=[width_matched]"], "never reads text"),
        (["model.fusion=none", "model.modality=graph", "model.context=true"], "model.context=true"),
        (["model.fusion=gate_paper", "model.readout={gap: attention}"], "as published"),
        (["model.fusion=fillm"], "'film'"),
        (["model.heads=0"], "model.heads=0"),
        (["model.modality=width_matched", "twins=[width_matched]"], "model.modality=width_matched"),
        (["twins=[wide]"], "'width_matched'"),
    ],
)
def test_impossible_recipes_are_refused(words, says):
    with pytest.raises(UserError) as caught:
        load_recipe(None, words)
    assert says in str(caught.value) and "\n" not in str(caught.value)
