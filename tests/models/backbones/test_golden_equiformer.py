"""Equiformer with the authors' weights against what the authors' own code gives, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from golden import Golden, close
from torch import Tensor

from mmgnn_dist.config import EquiformerConfig
from mmgnn_dist.models.backbones.equiformer import Equiformer
from mmgnn_dist.models.backbones.equivariant import SILU, paths
from mmgnn_dist.models.graph import sum_molecules

TYPES = {1: 0, 6: 1, 7: 2, 8: 3, 9: 4}  # the authors' atom types
MEAN_ATOMS = 18.03065905448718
SHORT_PI = math.sqrt(math.pi / 3.14159)  # the authors' truncated pi: their Gaussians are larger by this


def golden_config(messages: str) -> EquiformerConfig:
    return EquiformerConfig(
        hidden=(16, 8, 4),
        layers=2,
        heads=4,
        head=(8, 4, 2),
        mlp=(48, 24, 12),
        features=32,
        messages=messages,
        gaussians=16,
        radial=(20, 24),
        cutoff=5.0,
        attention_dropout=0.2,
    )


def columns(channels: tuple[int, ...], top: int, scalars_only: bool = False) -> Tensor:
    """Places of our paths' weights among the authors' weights of all paths."""
    place, keep = 0, []
    ours = set(paths(1 if scalars_only else len(channels), top))
    for path in paths(len(channels), 2):
        width = channels[path[0]]
        if path in ours:
            keep += range(place, place + width)
        place += width
    return torch.tensor(keep)


def from_authors(model: Equiformer, weights: dict[str, Tensor]) -> Equiformer:
    """Put the authors' weights into our backbone."""
    config = model.config
    hidden, own = config.hidden, {}

    def linear(ours: str, theirs: str, inputs, outputs, used_in=None, used_out=None) -> None:
        """Flat [in, out] per degree; `used_*` cut away what never reaches an output."""
        flat, place = weights[f"{theirs}.tp.weight"], 0
        for degree, (c, d) in enumerate(zip(inputs, outputs, strict=False)):
            block = flat[place : place + c * d].view(c, d)
            place += c * d
            if f"{ours}.weight.{degree}" in model.state_dict():
                rows = slice(None) if used_in is None else used_in[degree]
                cols = slice(None) if used_out is None else used_out[degree]
                own[f"{ours}.weight.{degree}"] = block[rows][:, cols]
        assert place == len(flat)
        if f"{theirs}.bias.0" in weights:
            cols = slice(None) if used_out is None else used_out[0]
            own[f"{ours}.bias"] = weights[f"{theirs}.bias.0"][cols]

    def radial(ours: str, theirs: str, keep: Tensor, factor: Tensor | float = 1.0) -> None:
        for kind in ("weight", "bias"):
            for k in (0, 1, 3, 4):
                own[f"{ours}.net.{k}.{kind}"] = weights[f"{theirs}.net.{k}.{kind}"]
        own[f"{ours}.net.0.weight"] = own[f"{ours}.net.0.weight"] * SHORT_PI
        own[f"{ours}.net.6.weight"] = (weights[f"{theirs}.net.6.weight"].T * factor).T[keep]
        own[f"{ours}.net.6.bias"] = (weights[f"{theirs}.offset"] * factor)[keep]

    def norm(ours: str, theirs: str, degrees: int) -> None:
        parts = weights[f"{theirs}.affine_weight"].split(hidden)
        own.update({f"{ours}.weight.{k}": parts[k] for k in range(degrees)})
        own[f"{ours}.bias"] = weights[f"{theirs}.affine_bias"]

    embedding = torch.zeros_like(model.embedding.weight)
    table = (
        weights["atom_embed.atom_type_lin.tp.weight"].view(5, -1) + weights["atom_embed.atom_type_lin.bias.0"]
    )
    for z, row in TYPES.items():
        embedding[z] = table[row]
    own["embedding.weight"] = embedding
    for ours, theirs in {"mean": "mean", "std": "std", "scale": "weight", "shift": "bias"}.items():
        own[f"basis.{ours}"] = weights[f"rbf.{theirs}"].flatten()

    # the degree embedding starts from one constant vector of scalars: a factor of the path weights
    keep = columns(hidden, 2, scalars_only=True)
    start = weights["edge_deg_embed.exp.tp.weight"] + weights["edge_deg_embed.exp.bias.0"]
    factor = torch.ones(len(weights["edge_deg_embed.rad.offset"]))
    factor[keep] = start.repeat(3)
    radial("degree_embedding.radial", "edge_deg_embed.rad", keep, factor)
    all_paths = [sum(hidden[a] for a, _, c in paths(3, 2) if c == degree) for degree in range(3)]
    linear(
        "degree_embedding.project", "edge_deg_embed.proj", all_paths, hidden, used_in=[slice(hidden[0])] * 3
    )

    for k in range(config.layers):
        last = k == config.layers - 1
        degrees = 1 if last else 3
        ours, theirs = f"blocks.{k}", f"blocks.{k}"
        attention, ga = f"{ours}.attention", f"{theirs}.ga"
        norm(f"{ours}.norm_attention", f"{theirs}.norm_1", 3)
        norm(f"{ours}.norm_forward", f"{theirs}.norm_2", degrees)
        linear(f"{attention}.source", f"{ga}.merge_src", hidden, hidden)
        linear(f"{attention}.receiver", f"{ga}.merge_dst", hidden, hidden)
        own[f"{attention}.direction"] = weights[f"{ga}.alpha_dot"][0]
        values = [config.heads * c for c in config.head]
        scores = config.heads * config.head[0]
        if config.messages == "nonlinear":
            radial(f"{attention}.radial", f"{ga}.sep_act.dtp_rad", columns(hidden, 2))
            linear(f"{attention}.score", f"{ga}.sep_alpha", all_paths, [scores])
            linear(f"{attention}.message", f"{ga}.sep_act.lin", all_paths, [sum(hidden), *hidden[1:]])
            own[f"{attention}.second_weight"] = weights[f"{ga}.sep_value.dtp.tp.weight"][None][
                :, columns(hidden, degrees - 1)
            ]
            linear(f"{attention}.value", f"{ga}.sep_value.lin", all_paths, values)
        else:
            radial(f"{attention}.radial", f"{ga}.sep.dtp_rad", columns(hidden, degrees - 1))
            head = config.head[0]
            place = torch.arange(2 * scores).view(config.heads, 2, head)  # per head: scores, then values
            both = [2 * scores, *values[1:]]
            everything = [slice(None)] * 3
            linear(
                f"{attention}.score", f"{ga}.sep.lin", all_paths, both, used_out=[place[:, 0].flatten()] * 3
            )
            linear(
                f"{attention}.value",
                f"{ga}.sep.lin",
                all_paths,
                both,
                used_out=[place[:, 1].flatten(), *everything[1:]],
            )
        linear(f"{attention}.project", f"{ga}.proj", values, hidden)
        mid = config.mlp
        outputs = (config.features,) if last else hidden
        inner = slice(mid[0]) if last else slice(None)
        linear(
            f"{ours}.feed_forward.first",
            f"{theirs}.ffn.fctp_1",
            hidden,
            [sum(mid), *mid[1:]],
            used_out=[inner, slice(None), slice(None)],
        )
        linear(f"{ours}.feed_forward.second", f"{theirs}.ffn.fctp_2", mid, outputs)
        if last:
            linear(f"{ours}.shortcut", f"{theirs}.ffn_shortcut", hidden, outputs)
    own["norm.weight"], own["norm.bias"] = weights["norm.affine_weight"], weights["norm.affine_bias"]
    model.load_state_dict(own)
    return model.eval()


def head(weights: dict[str, Tensor], h: Tensor) -> Tensor:
    """The authors' read-out of an atom: Lin, SiLU, Lin."""
    width = h.shape[1]
    inner = h @ weights["head.0.tp.weight"].view(width, width) + weights["head.0.bias.0"]
    return SILU * torch.nn.functional.silu(inner) @ weights["head.2.tp.weight"] + weights["head.2.bias.0"]


@pytest.mark.shared
@pytest.mark.parametrize("case", ["equiformer", "equiformer_linear"])
def test_equals_authors_values(double, shared, case):
    golden = Golden(shared / "data" / "golden", case)
    io, weights, graph = golden.io, golden.weights, golden.graph
    messages = "linear" if case.endswith("linear") else "nonlinear"
    model = from_authors(Equiformer(golden_config(messages)), weights)
    inner, _ = model.degrees(graph)
    flat = torch.cat([x.transpose(1, 2).flatten(1) for x in inner], 1)  # channels before components
    close(flat, io["block0_out"], 1e-10)
    h = model(graph)
    close(h, io["final_norm"], 1e-10)
    atom = head(weights, h)
    close(atom, io["y_atom"], 1e-10)
    y = sum_molecules(atom[:, None], graph).squeeze(1) / math.sqrt(MEAN_ATOMS)
    close(y, io["y"], 1e-10)
    theirs = "sep_act" if messages == "nonlinear" else "sep"
    first = model.blocks[1].attention.radial.net[0].weight
    parameters = {
        "rbf.mean": (model.basis.mean, 1.0),
        "blocks.0.ga.alpha_dot": (model.blocks[0].attention.direction, 1.0),
        f"blocks.1.ga.{theirs}.dtp_rad.net.0.weight": (first, SHORT_PI),
    }
    gradient, *found = torch.autograd.grad(y.sum(), [golden.pos, *(p for p, _ in parameters.values())])
    for a, b in graph.ptr.unfold(0, 2, 1).tolist():  # by molecule: the gradients of one are large
        close(gradient[a:b], io["grad_pos"][a:b], 1e-9)
    for (name, (_, factor)), value in zip(parameters.items(), found, strict=True):
        expected = io[f"grad_param.{name}"]
        close(value.view_as(expected) * factor, expected, 1e-9)
