"""What every backbone must do. A backbone's test module inherits `BackboneSuite` and names its configuration.

Molecules are real ones, of the bundled sample. Weights are the fresh ones with noise on every bias, scale and
other vector of parameters, so that nothing hides behind a start at zero or one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from command_line import Started
from model_batches import real_molecules
from torch import Tensor

from mmgnn_dist.config import Backbone as BackboneConfig
from mmgnn_dist.models.backbones.base import Backbone
from mmgnn_dist.models.backbones.make import make_backbone
from mmgnn_dist.models.graph import Graph
from mmgnn_dist.models.readout import ReadOut

BOUNDS = {torch.float64: 1e-10, torch.float32: 1e-5}
BOTH = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["fp64", "fp32"])
BIG = 1000  # atoms of the large molecule
MEMORY = 8e9  # bytes that it may need


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Build and run in a type: constants are worked out while building."""
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def assert_near(found: Tensor, expected: Tensor, bound: float) -> None:
    """The largest deviation is below `bound`, relative where values are larger than 1."""
    deviation = float((found - expected).detach().abs().max())
    assert deviation <= bound * max(1.0, float(expected.detach().abs().max())), deviation


def turn(dtype: torch.dtype, mirror: bool = False) -> Tensor:
    """A rotation matrix, or one that mirrors too."""
    q = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    flip = (torch.linalg.det(q) > 0) == mirror
    return (-q if flip else q).to(dtype)


class BackboneSuite:
    """Attributes to set.

    config: the backbone at a test width.
    published: the published setting, for the large molecule and `torch.compile`.
    mirror: atom vectors are the same in the mirror, and vectors are mirrored.
    smooth: nothing jumps where a pair crosses the cutoff.
    """

    config: BackboneConfig
    published: BackboneConfig
    mirror = True
    smooth = True

    def make(self, dtype: torch.dtype = torch.float64) -> Backbone:
        """The backbone in a type, with weights from a fixed seed."""
        torch.manual_seed(0)
        with default_dtype(dtype):
            model = make_backbone(self.config).eval()
        noise = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() < 2:
                    parameter.add_(torch.randn(parameter.shape, generator=noise, dtype=dtype), alpha=0.1)
        return model

    def graph(self, count: int = 6, dtype: torch.dtype = torch.float64) -> Graph:
        """Real molecules, the first of five atoms or more."""
        return real_molecules(count, dtype)

    @BOTH
    def test_rotation_and_translation(self, dtype):
        model, graph = self.make(dtype), self.graph(dtype=dtype)
        moved = graph.pos @ turn(dtype).T + torch.tensor([1.0, -2.0, 0.5], dtype=dtype)
        found = model(Graph.make(graph.z, moved, graph.ptr))
        assert_near(found, model(graph), BOUNDS[dtype])

    @BOTH
    def test_reflection(self, dtype):
        if not self.mirror:
            pytest.skip("this backbone tells a molecule from its mirror image")
        model, graph = self.make(dtype), self.graph(dtype=dtype)
        mirrored = Graph.make(graph.z, graph.pos @ turn(dtype, mirror=True).T, graph.ptr)
        assert_near(model(mirrored), model(graph), BOUNDS[dtype])

    @BOTH
    def test_order_of_atoms(self, dtype):
        model, graph = self.make(dtype), self.graph(dtype=dtype)
        order = torch.cat([a + torch.randperm(b - a) for a, b in graph.ptr.unfold(0, 2, 1).tolist()])
        found = model(Graph.make(graph.z[order], graph.pos[order], graph.ptr))
        assert_near(found, model(graph)[order], BOUNDS[dtype])

    @BOTH
    def test_companions_in_the_batch(self, dtype):
        model, graph = self.make(dtype), self.graph(dtype=dtype)
        together = model(graph)
        for a, b in graph.ptr.unfold(0, 2, 1).tolist():
            alone = Graph.make(graph.z[a:b], graph.pos[a:b], torch.tensor([0, b - a]))
            assert_near(model(alone), together[a:b], BOUNDS[dtype])

    @BOTH
    def test_vectors_turn_with_the_molecule(self, dtype):
        model, graph = self.make(dtype), self.graph(dtype=dtype)
        vectors = model.features(graph).vectors
        if not model.vector_width:
            assert vectors is None
            pytest.skip("this backbone has no vectors")
        assert vectors.shape == (len(graph.z), 3, model.vector_width)
        for mirror in (False, True) if self.mirror else (False,):
            matrix = turn(dtype, mirror)
            moved = Graph.make(graph.z, graph.pos @ matrix.T + 1.0, graph.ptr)
            expected = torch.einsum("ab,nbv->nav", matrix, vectors)
            assert_near(model.features(moved).vectors, expected, BOUNDS[dtype])
        assert float(vectors.detach().abs().max()) > 1e-3

    def test_gradients_equal_finite_differences(self):
        model, graph = self.make(), self.graph(3)
        weight = torch.randn(model.width, dtype=torch.float64)
        pos = graph.pos

        def value(shift: Tensor) -> Tensor:
            return (model(Graph.make(graph.z, pos + shift, graph.ptr)) @ weight).sum()

        shift = torch.zeros_like(pos, requires_grad=True)
        gradient = torch.autograd.grad(value(shift), shift)[0]
        parameters = list(model.parameters())
        slopes = torch.autograd.grad(value(shift), parameters)
        with torch.no_grad():
            for _ in range(4):
                direction = torch.randn_like(pos)
                step = 1e-5 * direction
                found = (value(step) - value(-step)) / 2e-5
                torch.testing.assert_close(found, (gradient * direction).sum(), rtol=1e-6, atol=1e-7)
            directions = [torch.randn_like(p) for p in parameters]
            ends = []
            for sign in (1.0, -2.0):
                for parameter, direction in zip(parameters, directions, strict=True):
                    parameter.add_(direction, alpha=sign * 1e-6)
                ends.append(value(shift))
            expected = sum((s * d).sum() for s, d in zip(slopes, directions, strict=True))
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter.add_(direction, alpha=1e-6)
            torch.testing.assert_close((ends[0] - ends[1]) / 2e-6, expected, rtol=1e-6, atol=1e-7)

    @pytest.mark.parametrize("sizes", [[1], [2], [1, 2, 1]])
    def test_one_and_two_atoms(self, sizes):
        model = self.make()
        z, ptr = torch.tensor([8, 1, 6, 7])[: sum(sizes)], torch.tensor([0, *sizes]).cumsum(0)
        pos = torch.tensor([[0.0, 0, 0], [0, 0, 0.9], [0.3, 0.1, 1.9], [5, 5, 5]]).double()[: sum(sizes)]
        pos.requires_grad_()
        h = model(Graph.make(z, pos, ptr))
        assert h.shape == (sum(sizes), model.width) and h.isfinite().all()
        h.square().sum().backward()
        assert pos.grad is not None and pos.grad.isfinite().all()
        assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
        moved = model(Graph.make(z, pos.detach() @ turn(torch.float64).T - 3.0, ptr))
        assert_near(moved, h, 1e-10)

    def test_charge_and_multiplicity(self):
        """Ions of one geometry start alike and are told apart after some steps; the symmetries hold."""
        one = self.graph(1)
        atoms = len(one.z)
        z, pos, ptr = one.z.repeat(3), one.pos.repeat(3, 1), atoms * torch.arange(4)
        charge, multiplicity = torch.tensor([0, 1, -1]), torch.tensor([1, 2, 2])
        plain = self.make()
        with default_dtype(torch.float64):
            model = make_backbone(self.config, states=True).eval()
        model.load_state_dict({**model.state_dict(), **plain.state_dict()})
        ions = Graph.make(z, pos, ptr, charge, multiplicity)
        for part in model(ions).split(atoms):
            assert_near(part, plain(one), 1e-10)
        weight = torch.randn(model.width, dtype=torch.float64) / model.width
        wanted = torch.tensor([0.0, 1.0, -1.0]).double()
        optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
        for _ in range(25):
            energy = torch.stack([part.sum(0) @ weight for part in model(ions).split(atoms)])
            error = (energy - energy.mean() - wanted).square().mean()
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
        assert float(error.detach()) < 0.5 * float(wanted.square().mean())
        found = model(ions)
        moved = pos @ turn(torch.float64).T + 1.0
        assert_near(model(Graph.make(z, moved, ptr, charge, multiplicity)), found, 1e-9)
        order = torch.cat([k * atoms + torch.randperm(atoms) for k in range(3)])
        shuffled = Graph.make(z[order], pos[order], ptr, charge, multiplicity)
        assert_near(model(shuffled), found[order], 1e-9)
        # a neutral singlet is read as if nothing were said of charges
        neutral = Graph.make(one.z, one.pos, one.ptr, torch.zeros(1).long(), torch.ones(1).long())
        assert torch.equal(model(neutral), model(one))

    def test_straight_and_flat_molecules(self):
        """Acetylene on the axis and at an angle, and a flat ring: nothing divides by a vanishing sine."""
        model = self.make()
        straight = torch.tensor([[0.0, 0, -1.66], [0, 0, -0.6], [0, 0, 0.6], [0, 0, 1.66]]).double()
        angle = torch.arange(6).double() * torch.pi / 3
        flat = 1.39 * torch.stack([angle.cos(), angle.sin(), torch.zeros(6).double()], -1)
        pos = torch.cat([straight, straight @ turn(torch.float64).T, flat]).requires_grad_()
        z = torch.tensor([1, 6, 6, 1] * 2 + [6] * 6)
        h = model(Graph.make(z, pos, torch.tensor([0, 4, 8, 14])))
        assert_near(h[:4], h[4:8], 1e-10)
        assert torch.autograd.grad(h.sum(), pos)[0].isfinite().all()

    def test_nothing_jumps_at_the_cutoff(self):
        if not self.smooth:
            pytest.skip("the published form of this backbone has no envelope")
        model, cutoff = self.make(), self.config.cutoff
        z, ptr = torch.tensor([6, 8, 7]), torch.tensor([0, 3])
        values = []
        for distance in (cutoff - 1e-6, cutoff + 1e-6):
            pos = torch.tensor([[0.0, 0, 0], [0, 0, distance], [0, 1.2, 0.4]]).double()
            values.append(model(Graph.make(z, pos, ptr)))
        assert_near(values[0], values[1], 1e-5)

    @BOTH
    def test_type_and_width(self, dtype):
        model, graph = self.make(dtype), self.graph(2, dtype)
        graph.pos.requires_grad_()
        h = model(graph)
        assert h.dtype == dtype and h.shape == (len(graph.z), model.width)
        assert torch.autograd.grad(h.sum(), graph.pos)[0].dtype == dtype

    def test_same_bits_twice(self):
        results = []
        for _ in range(2):
            model, graph = self.make(torch.float32), self.graph(dtype=torch.float32)
            graph.pos.requires_grad_()
            h = model(graph)
            h.square().sum().backward()
            results.append([h, graph.pos.grad, *(p.grad for p in model.parameters())])
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))

    @pytest.mark.slow
    def test_compiled_equals_eager(self):
        torch.manual_seed(0)
        model, graph = make_backbone(self.published).eval(), self.graph(8, torch.float32)
        graph.pos.requires_grad_()
        eager, compiled = model(graph), torch.compile(model)(graph)
        assert_near(compiled, eager, 1e-5)
        gradients = [torch.autograd.grad(h.sum(), graph.pos)[0] for h in (compiled, eager)]
        assert_near(gradients[0], gradients[1], 1e-4)

    def test_a_thousand_atoms(self):
        process = Started("big_molecule", (json.dumps(self.published.model_dump()),))
        assert process.wait() == 0, process.output()
        finite, shape, edges, peak = json.loads(process.texts()[0].splitlines()[-1])
        print(f"{self.published.name}: {edges} edges, {peak / 1e9:.2f} GB")
        assert finite and shape[0] == BIG and peak < MEMORY

    def test_overfits_sixteen_molecules(self):
        """The gap of 16 molecules, to 2 % of its deviation, in 1,000 steps at most."""
        graph, gap = real_molecules(16, torch.float32, target="gap")
        target = (gap - gap.mean()) / gap.std()
        torch.manual_seed(0)
        model = make_backbone(self.config)
        readout = ReadOut(model.width, ["mean"], 0.0)
        parameters = [*model.parameters(), *readout.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=2e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1000, 1e-5)
        for step in range(1000):
            error = (readout(model(graph), graph).squeeze(-1) - target).abs()
            if float(error.detach().mean()) < 0.02:
                print(f"{self.config.name}: {float(error.detach().mean()):.3f} after {step} steps")
                return
            optimizer.zero_grad()
            error.square().mean().backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
        pytest.fail(f"{float(error.detach().mean()):.3f} of the deviation is left")
