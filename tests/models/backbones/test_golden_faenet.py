"""FAENet with the authors' weights against what the authors' own code gives, in float64."""

from __future__ import annotations

import pytest
import torch
from golden import Golden, close
from safetensors.torch import load_file
from torch import Tensor

from mmgnn_dist.config import FAENetConfig
from mmgnn_dist.models.backbones.faenet import FAENet
from mmgnn_dist.models.graph import Graph


def golden_config(case: str) -> FAENetConfig:
    concat = case == "faenet_concat"
    return FAENetConfig(
        hidden=32,
        filters=40,
        interactions=2,
        gaussians=25,
        cutoff=5.0,
        frames="full",
        properties=concat,
        period_group=4 if concat else 6,
        skip="concat" if concat else "none",
        update_layers=1 if concat else 2,
    )


def from_authors(model: FAENet, weights: dict[str, Tensor]) -> FAENet:
    """Put the authors' weights into our backbone; ours has rows for more elements, periods and groups."""
    own = dict(model.state_dict())
    tables = {"own": "emb", "period": "period_embedding", "group": "group_embedding"}
    for ours, theirs in tables.items():
        table = torch.zeros_like(own[f"embedding.{ours}.weight"])
        rows = weights[f"embed_block.{theirs}.weight"]
        table[: len(rows)] = rows[: len(table)]
        own[f"embedding.{ours}.weight"] = table
    names = {
        "embedding.layers.0": "embed_block.lin",
        "embedding.layers.2": "embed_block.lin_2",
        "from_vector": "embed_block.lin_e1",
        "from_distance": "embed_block.lin_e12",
        "edge": "embed_block.lin_e2",
    }
    inner = {
        "filter": "lin_geom",
        "down": "lin_down",
        "norm": "graph_norm",
        "up": "lin_up",
        "update": "other_mlp",
    }
    for k in range(model.config.interactions):
        names |= {f"interactions.{k}.{a}": f"interaction_blocks.{k}.{b}" for a, b in inner.items()}
    for ours, theirs in names.items():
        for kind in ("weight", "bias", "mean_scale"):
            if f"{theirs}.{kind}" in weights:
                own[f"{ours}.{kind}"] = weights[f"{theirs}.{kind}"]
    own["smearing.offset"] = weights["distance_expansion.offset"]
    model.load_state_dict(own)
    if model.config.properties:  # theirs passed through float32
        table = weights["embed_block.phys_emb.properties"]
        assert (model.embedding.properties[: len(table)] - table).abs().max() < 1e-6
        model.embedding.properties[: len(table)] = table
    return model.eval()


def head(weights: dict[str, Tensor], layers: list[Tensor]) -> Tensor:
    """The authors' head on one molecule: each layer's [F, N, H] or the last -> the mean over frames [1]."""

    def output(h: Tensor) -> Tensor:
        inner = h @ weights["output_block.lin1.weight"].T + weights["output_block.lin1.bias"]
        atom = torch.nn.functional.silu(inner) @ weights["output_block.lin2.weight"].T
        return (atom + weights["output_block.lin2.bias"]).sum(1)

    if "mlp_skip_co.weight" not in weights:
        return output(layers[-1]).mean(0)
    mixed = torch.cat([output(h) for h in layers], -1) @ weights["mlp_skip_co.weight"].T
    return (mixed + weights["mlp_skip_co.bias"]).mean(0)


def atoms(golden: Golden, b: int) -> slice:
    """Atoms of molecule b."""
    return slice(int(golden.graph.ptr[b]), int(golden.graph.ptr[b + 1]))


def alone(golden: Golden, b: int) -> Graph:
    """Molecule b by itself; its positions are part of all."""
    at = atoms(golden, b)
    return Graph.make(golden.graph.z[at], golden.pos[at], torch.tensor([0, at.stop - at.start]))


PARAMETERS = {
    "embed_block.emb.weight": "embedding.own.weight",
    "embed_block.lin_e1.weight": "from_vector.weight",
    "interaction_blocks.0.lin_geom.weight": "interactions.0.filter.weight",
}


@pytest.mark.shared
@pytest.mark.parametrize("case", ["faenet", "faenet_concat"])
class TestAuthorsValues:
    """The saved frames, each molecule alone: the authors' GraphNorm runs over the whole batch."""

    @pytest.fixture
    def golden(self, double, shared, case) -> Golden:
        return Golden(shared / "data" / "golden", case)

    @pytest.fixture
    def model(self, golden, case) -> FAENet:
        return from_authors(FAENet(golden_config(case)), golden.weights)

    @pytest.fixture
    def frames(self, shared) -> dict[str, Tensor]:
        return load_file(shared / "data" / "golden" / "faenet_frames.safetensors")

    def test_frames_held_fixed(self, golden, model, frames):
        y = []
        for b in range(golden.graph.size):
            graph = alone(golden, b)
            centred = graph.pos - graph.pos.mean(0)
            y.append(head(golden.weights, model.layers(graph, centred @ frames["fa_rot_all"][:, b])))
        y = torch.cat(y)
        close(y, golden.io["y_single"], 1e-12)
        (gradient,) = torch.autograd.grad(y.sum(), golden.pos)
        close(gradient, golden.io["grad_pos_single"], 1e-9)

    def test_own_frames_and_their_derivative(self, golden, model, frames):
        apart = frames["nondegenerate"]
        y = torch.cat(
            [
                head(
                    golden.weights,
                    model.layers(alone(golden, b), model.positions(alone(golden, b)), opposite=True),
                )
                for b in range(golden.graph.size)
            ]
        )
        close(y[apart], golden.io["y_single"][apart], 1e-10)
        (gradient,) = torch.autograd.grad(y[apart].sum(), golden.pos)
        close(gradient, golden.io["grad_pos_single_through_frames"], 1e-9)
        # the batch gives what each molecule gives alone
        layers = model.layers(golden.graph, model.positions(golden.graph), opposite=True)
        together = [
            head(golden.weights, [h[:, atoms(golden, b)] for h in layers]) for b in range(golden.graph.size)
        ]
        close(torch.cat(together), y, 1e-12)

    def test_no_frames(self, golden, model):
        y = [
            head(golden.weights, model.layers(alone(golden, b), alone(golden, b).pos[None]))
            for b in range(golden.graph.size)
        ]
        close(torch.cat(y), golden.io["y_none_single"], 1e-12)

    def test_batch_with_the_authors_norm(self, golden, model, frames):
        """Their norm over all atoms of the batch in place of ours: values and gradients of parameters."""
        io, graph = golden.io, golden.graph
        for interaction in model.interactions:
            interaction.norm = BatchNorm(interaction.norm)
        centred = torch.cat(
            [alone(golden, b).pos - alone(golden, b).pos.mean(0) for b in range(golden.graph.size)]
        )

        def run(pos: Tensor) -> tuple[Tensor, Tensor]:
            layers = model.layers(graph, pos)
            heads = [
                head(golden.weights, [h[:, atoms(golden, b)] for h in layers])
                for b in range(golden.graph.size)
            ]
            return torch.cat(heads), layers[-1]

        def turned(rotations: Tensor) -> Tensor:
            return torch.einsum("ni,fnij->fnj", centred, rotations[:, graph.molecule])

        parameters = dict(model.named_parameters())
        for suffix, pos in {"": turned(frames["fa_rot_all"]), "_none": golden.pos[None]}.items():
            y, h = run(pos)
            close(y, io[f"y{suffix}"], 1e-12)
            if suffix:
                close(h[0], io["h_atom_none"], 1e-12)
            found = torch.autograd.grad(
                y.sum(), [golden.pos, *(parameters[ours] for ours in PARAMETERS.values())]
            )
            close(found[0], io[f"grad_pos{suffix}"], 1e-9)
            for name, gradient in zip(PARAMETERS, found[1:], strict=True):
                expected = io[f"grad_param{suffix}.{name}"]
                close(gradient[: len(expected)], expected, 1e-9)
        with torch.no_grad():
            close(run(turned(frames["fa_rot_se3"]))[0], io["y_se3"], 1e-12)
            close(run(turned(frames["fa_rot_det"]))[0], io["y_det"], 1e-12)

    def test_without_norm(self, golden, model, frames):
        for interaction in model.interactions:
            interaction.norm = NoNorm()
        y = []
        for b in range(golden.graph.size):
            graph = alone(golden, b)
            centred = graph.pos - graph.pos.mean(0)
            y.append(head(golden.weights, model.layers(graph, centred @ frames["fa_rot_all"][:, b])))
        close(torch.cat(y), golden.io["y_no_graph_norm"], 1e-12)


class BatchNorm(torch.nn.Module):
    """The norm over all atoms, as if they were one molecule."""

    def __init__(self, norm: torch.nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        return self.norm(x, Graph.make(graph.z, graph.pos, torch.tensor([0, len(graph.z)])))


class NoNorm(torch.nn.Module):
    """Neither norm nor the activation behind it."""

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        return x
