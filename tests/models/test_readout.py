"""Read-outs: invariances, each form against its equation written naively, starts, gradients."""

from __future__ import annotations

import ase.build
import ase.data
import numpy as np
import pytest
import torch
from backbone_suite import assert_near, default_dtype, turn
from model_batches import batch_of, real_molecules

from mmgnn_dist.chem.elements import MASSES, SYMBOLS
from mmgnn_dist.config import load_recipe
from mmgnn_dist.models.fused import FusedModel, TextSource
from mmgnn_dist.models.graph import Graph
from mmgnn_dist.models.readout import EXTENT, ReadOut

FORMS = ["sum", "mean", "attention", "dipole", "r2", "attention", "dipole_vectors", "dipole_norm"]
WIDTH, VECTORS = 8, 3
BACKBONES = ("schnet", "painn", "dimenetpp", "equiformer", "faenet")


def fresh(forms: list[str] = FORMS) -> ReadOut:
    """A read-out in float64 as training starts it."""
    torch.manual_seed(0)
    with default_dtype(torch.float64):
        return ReadOut(WIDTH, forms, 0.0, VECTORS)


def make(forms: list[str] = FORMS) -> ReadOut:
    """A read-out in float64 with weights everywhere, also where training starts from zero."""
    noise, readout = torch.Generator().manual_seed(3), fresh(forms)
    with torch.no_grad():
        for parameter in readout.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=noise, dtype=torch.float64))
    return readout


def molecules(count: int = 6) -> tuple[torch.Tensor, Graph, torch.Tensor]:
    """Atom vectors [N, H], real molecules, and what stands for the vectors of a backbone [N, 3, V]."""
    graph, noise = real_molecules(count, torch.float64), torch.Generator().manual_seed(4)
    shapes = (len(graph.z), WIDTH), (len(graph.z), 3, VECTORS)
    atoms, vectors = (torch.randn(shape, generator=noise, dtype=torch.float64) for shape in shapes)
    return atoms, graph, vectors


def parts(graph: Graph) -> list[slice]:
    return [slice(a, b) for a, b in graph.ptr.unfold(0, 2, 1).tolist()]


@pytest.mark.parametrize("form", sorted(set(FORMS)))
class TestInvariance:
    def test_rotation_reflection_and_translation(self, form):
        readout, (atoms, graph, vectors) = make([form]), molecules()
        for mirror in (False, True):
            matrix = turn(torch.float64, mirror)
            pos = graph.pos @ matrix.T + torch.tensor([3.0, -40.0, 7.0]).double()
            found = readout(atoms, Graph.make(graph.z, pos, graph.ptr), matrix @ vectors)
            assert_near(found, readout(atoms, graph, vectors), 1e-10)

    def test_order_of_atoms(self, form):
        readout, (atoms, graph, vectors) = make([form]), molecules()
        order = torch.cat([p.start + torch.randperm(p.stop - p.start) for p in parts(graph)])
        moved = Graph.make(graph.z[order], graph.pos[order], graph.ptr)
        assert_near(readout(atoms[order], moved, vectors[order]), readout(atoms, graph, vectors), 1e-10)

    def test_companions_in_the_batch(self, form):
        readout, (atoms, graph, vectors) = make([form]), molecules()
        together = readout(atoms, graph, vectors)
        for number, p in enumerate(parts(graph)):
            alone = Graph.make(graph.z[p], graph.pos[p], torch.tensor([0, p.stop - p.start]))
            assert_near(readout(atoms[p], alone, vectors[p])[0], together[number], 1e-10)

    def test_gradients_equal_finite_differences(self, form):
        readout, (atoms, graph, vectors) = make([form]), molecules(2)
        names = [name for name, _ in readout.named_parameters()]

        def value(atoms, pos, vectors, *parameters):
            moved = Graph.make(graph.z, pos, graph.ptr)
            given = dict(zip(names, parameters, strict=True))
            return torch.func.functional_call(readout, given, (atoms, moved, vectors))

        inputs = [atoms, graph.pos, vectors, *(p.detach() for p in readout.parameters())]
        inputs = [x.clone().requires_grad_() for x in inputs]
        assert torch.autograd.gradcheck(value, inputs, atol=1e-6, rtol=1e-5, fast_mode=True)

    def test_one_atom(self, form):
        readout = make([form])
        pos = torch.full((1, 3), 7.0, dtype=torch.float64, requires_grad=True)
        graph = Graph.make(torch.tensor([6]), pos, torch.tensor([0, 1]))
        out = readout(torch.ones(1, WIDTH).double(), graph) + 0.0 * pos.sum()
        assert out.isfinite().all() and torch.autograd.grad(out.sum(), pos)[0].isfinite().all()


def test_forms_are_those_of_their_equations():
    """A loop over molecules in numpy; masses are those of ASE."""
    readout, (atoms, graph, vectors) = make(), molecules()
    found = readout(atoms, graph, vectors).detach().numpy()
    hidden = readout.hidden(atoms)
    s, scores = readout.contribution(hidden).detach().numpy(), readout.score(hidden).detach()
    layers = (readout.charge, readout.density, readout.vector_charge, readout.norm_charge)
    charges, density, others, bare = (layer(hidden).detach().numpy()[:, 0] for layer in layers)
    moments, added = (layer(hidden).detach().numpy() for layer in (readout.moment, readout.norm_moment))
    for number, p in enumerate(parts(graph)):
        pos, mass = graph.pos[p].numpy(), ase.data.atomic_masses[graph.z[p].numpy()]
        centre = (mass[:, None] * pos).sum(0) / mass.sum()
        dipole = ((charges[p] - charges[p].mean())[:, None] * pos).sum(0)
        other = ((others[p] - others[p].mean())[:, None] * pos).sum(0)
        for weight, vector in zip(moments[p], vectors[p].numpy(), strict=True):
            other += vector @ weight
        norm = ((bare[p] - bare[p].mean())[:, None] * pos).sum(0)
        for weight, vector in zip(added[p], vectors[p].numpy(), strict=True):
            norm += vector @ weight
        weights = torch.softmax(scores[p], 0).numpy()
        extent = (density[p] / EXTENT * np.square(pos - centre).sum(1)).sum()
        expected = [
            s[p, 0].sum(),
            s[p, 1].mean(),
            (weights[:, 0] * s[p, 2]).sum(),
            s[p, 3].mean() + np.linalg.norm(dipole),
            s[p, 4].sum() + extent,
            (weights[:, 1] * s[p, 5]).sum(),
            s[p, 6].mean() + np.linalg.norm(other),
            np.hypot(np.linalg.norm(norm), 1e-4) - 1e-4,
        ]
        np.testing.assert_allclose(found[number], expected, rtol=1e-7)


def test_attention_stands_large_scores():
    readout, (atoms, graph, _) = make(["attention"]), molecules()
    with torch.no_grad():
        readout.score.bias.fill_(1e6)
    assert readout(atoms, graph).isfinite().all()


def test_training_starts_from_what_mean_and_references_predict():
    """Scaled zero for every form but the dipoles, whose charges cannot start at zero."""
    readout, (atoms, graph, vectors) = fresh(), molecules()
    start = readout(atoms, graph, vectors)
    assert torch.equal(start[:, [0, 1, 2, 4, 5]], torch.zeros_like(start[:, :5]))
    with torch.no_grad():  # attention with fresh scores is the mean
        readout.contribution.weight.normal_()
        readout.contribution.weight[2] = readout.contribution.weight[1]
    out = readout(atoms, graph, vectors)
    torch.testing.assert_close(out[:, 2], out[:, 1], rtol=1e-12, atol=1e-12)


def test_every_weight_of_a_fresh_read_out_learns_within_two_steps():
    """Layers that start at zero pass no gradient on to those before: it comes with the second step."""
    readout, (atoms, graph, vectors) = fresh(), molecules()
    optimizer = torch.optim.SGD(readout.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (readout(atoms, graph, vectors) - 1.0).square().sum().backward()
        optimizer.step()
    # a shift of all charges, or of all scores, changes nothing
    still = {name for name, p in readout.named_parameters() if not float(p.grad.abs().max()) > 1e-10}
    assert still == {"charge.bias", "vector_charge.bias", "score.bias", "norm_charge.bias"}


def test_modalities_share_a_read_out_of_every_form():
    """Names, shapes and start values."""
    small = "model.backbone={name: painn, hidden: 8, interactions: 1, radial: 4}"
    text = TextSource(files=None, blank=(), width=5)
    models = [
        FusedModel(load_recipe(None, [small, "text.mode=frozen", f"model.modality={m}"]), FORMS, text)
        for m in ("graph", "text", "both")
    ]
    first, *others = [dict(model.readout.named_parameters()) for model in models]
    for other in others:
        assert other.keys() == first.keys()
        assert all(torch.equal(p, other[name]) for name, p in first.items())


@pytest.mark.parametrize("form", ["extensive", "dipole_vectors"])
def test_a_form_that_cannot_be_built_is_refused(form):
    with pytest.raises(ValueError, match=form.split("_")[0]):
        ReadOut(WIDTH, [form], 0.0)


@pytest.mark.parametrize("name", ["painn", "equiformer"])
def test_dipole_of_a_backbone_with_vectors(name, double):
    """Through the fused model: unchanged by rotation, and moved by the vectors."""
    hidden = {"painn": 8, "equiformer": [8, 4, 2]}[name]
    backbone = f"model.backbone={{name: {name}, hidden: {hidden}}}"
    model = FusedModel(load_recipe(None, [backbone, "model.modality=graph"]), ["dipole_vectors"], None).eval()
    batch = batch_of([4, 5, 1], [[]] * 3, targets=1)
    batch.pos = batch.pos.double()
    before, _ = model(batch)
    with torch.no_grad():
        model.readout.moment.weight.normal_(generator=torch.Generator().manual_seed(0))
    after, _ = model(batch)
    assert (before - after)[:2].abs().min() > 1e-6 and torch.equal(
        before[2], after[2]
    )  # a lone atom has none
    batch.pos = batch.pos @ turn(torch.float64).T + 2.0
    assert_near(model(batch)[0], after, 1e-10)
    after.sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_masses_are_those_of_ase():
    assert len(MASSES) == len(SYMBOLS)
    np.testing.assert_allclose(MASSES[1:], ase.data.atomic_masses[1:119], rtol=1e-8)


@pytest.mark.parametrize("name", BACKBONES)
def test_a_dipole_norm_is_zero_by_symmetry_and_never_negative(name, double):
    """Carbon dioxide and methane have no dipole, by symmetry; water has one."""
    sizes = {"painn": ", hidden: 8, interactions: 1", "equiformer": ", layers: 1"}.get(name, "")
    backbone = f"model.backbone={{name: {name}{sizes}}}"
    model = FusedModel(load_recipe(None, [backbone, "model.modality=graph"]), ["dipole_norm"], None).eval()
    noise = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.readout.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=noise, dtype=torch.float64))
    batch = batch_of([3, 5, 3], [[]] * 3, targets=1)
    found = [ase.build.molecule(formula) for formula in ("CO2", "CH4", "H2O")]
    batch.z = torch.tensor(np.concatenate([molecule.numbers for molecule in found]))
    batch.pos = torch.tensor(np.concatenate([molecule.positions for molecule in found]))
    norms, _ = model(batch)
    assert norms.min() >= 0 and norms[:2].max() < 1e-6 and norms[2] > 1e-3
