"""Reference values made with the authors' own code: loading, mapping of names, comparing.

A mapping says which of our parameters, one after another along the first axis, make up one of theirs; it
serves the weights going in and the gradients coming out. Ours may have more rows (elements) than theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mmgnn_dist.models.graph import Graph

Mapping = dict[str, list[str]]
BOUND = 1e-9  # relative


def linear(theirs: str, ours: str | list[str], bias: bool = True) -> Mapping:
    """The mapping of a linear layer."""
    names = [ours] if isinstance(ours, str) else ours
    return {f"{theirs}.{kind}": [f"{n}.{kind}" for n in names] for kind in ("weight", *["bias"] * bias)}


def put(model: nn.Module, weights: dict[str, Tensor], mapping: Mapping) -> None:
    """Put their weights into ours; every parameter of either side must be taken."""
    own = dict(model.named_parameters())
    assert set(weights) == set(mapping), set(weights) ^ set(mapping)
    for theirs, names in mapping.items():
        value, start = weights[theirs].detach(), 0
        for name in names:
            parameter = own.pop(name)
            rows = min(len(parameter), len(value) - start)
            with torch.no_grad():
                parameter[:rows] = value[start : start + rows]
            start += rows
        assert start == len(value), theirs
    assert not own, f"without reference weights: {sorted(own)}"


def compare(
    model: nn.Module, reference: nn.Module, mapping: Mapping, graph: Graph, expected: Callable[[], Tensor]
) -> None:
    """Give our model the reference's weights: the same outputs [B] and all the same gradients.

    Args:
        model: graph -> [B].
        reference: the module with the weights.
        mapping: its names -> ours.
        graph: with positions that need gradients.
        expected: what the reference gives for it, [B].
    """
    theirs, own = dict(reference.named_parameters()), dict(model.named_parameters())
    put(model, theirs, mapping)
    found, wanted = model(graph), expected()
    close(found, wanted, BOUND)
    ours = torch.autograd.grad(found.sum(), [graph.pos, *(own[n] for (n,) in mapping.values())])
    others = torch.autograd.grad(wanted.sum(), [graph.pos, *(theirs[n] for n in mapping)])
    for a, b in zip(ours, others, strict=True):
        close(a[: len(b)], b, BOUND)


class Golden:
    """One case: weights, inputs, expected outputs.

    Args:
        folder: of the reference values.
        name: of the case.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.weights = load_file(folder / f"{name}.safetensors")
        self.io = load_file(folder / f"{name}_io.safetensors")
        self.pos = self.io["pos"].clone().requires_grad_()
        self.graph = Graph.make(self.io["z"], self.pos, self.io["ptr"])

    def load(self, model: nn.Module, mapping: Mapping, ignored: tuple[str, ...] = ()) -> None:
        """Put the saved weights into ours, but for those with an ignored beginning."""
        weights = {name: value for name, value in self.weights.items() if not name.startswith(ignored)}
        put(model, weights, mapping)

    def check(self, y: Tensor, model: nn.Module, mapping: Mapping) -> None:
        """Outputs [B], position gradients and the given parameter gradients."""
        self.check_positions(y)
        self.check_parameters(y, model, mapping)

    def check_positions(self, y: Tensor, suffix: str = "") -> None:
        """Outputs [B] and position gradients."""
        close(y, self.io[f"y{suffix}"], BOUND)
        found = torch.autograd.grad(y.sum(), self.pos, retain_graph=True)[0]
        close(found, self.io[f"grad_pos{suffix}"], BOUND)

    def check_parameters(self, y: Tensor, model: nn.Module, mapping: Mapping) -> None:
        """The given parameter gradients."""
        own = dict(model.named_parameters())
        for name, expected in self.io.items():
            if name.startswith("grad_param."):
                ours = [own[n] for n in mapping[name.removeprefix("grad_param.")]]
                found = torch.cat(torch.autograd.grad(y.sum(), ours, retain_graph=True))
                close(found[: len(expected)], expected, BOUND)
                assert not found[len(expected) :].any()


def close(found: Tensor, expected: Tensor, bound: float) -> None:
    """The largest deviation is at most `bound` times the largest value."""
    deviation = float((found - expected).detach().abs().max() / expected.detach().abs().max())
    print(f"deviation {deviation:.1e}")
    assert deviation <= bound


ATOMWISE: Mapping = {
    **linear("output.outnet.0", "head.layers.0"),
    **linear("output.outnet.1", "head.layers.2"),
}


PYG_HEAD: Mapping = {**linear("lin1", "head.layers.0"), **linear("lin2", "head.layers.2")}


class Atomwise(nn.Module):
    """The head of schnetpack (SiLU) and of PyG's SchNet (shifted softplus): two layers on every atom."""

    def __init__(self, width: int, activation: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, width // 2), activation, nn.Linear(width // 2, 1))

    def forward(self, h: Tensor) -> Tensor:
        """[N, H] -> [N]."""
        return self.layers(h).squeeze(-1)


class WithHead(nn.Module):
    """A backbone and its authors' head: graph -> one value a molecule [B]."""

    def __init__(self, body: nn.Module, head: nn.Module, vectors: Callable[[Graph], object]) -> None:
        super().__init__()
        self.body, self.head, self.vectors = body, head, vectors

    def forward(self, graph: Graph) -> Tensor:
        """Sum of the head's atom values over each molecule."""
        atoms = self.head(self.vectors(graph))
        return atoms.new_zeros(graph.size).index_add(0, graph.molecule, atoms)


def schnet_mapping(blocks: int, prefix: str, names: dict[str, str]) -> Mapping:
    """The mapping of SchNet without its head.

    Args:
        blocks: number of interactions.
        prefix: of their names.
        names: of our layers, in theirs.
    """
    mapping: Mapping = {f"{prefix}embedding.weight": ["body.embedding.weight"]}
    for k in range(blocks):
        for ours, theirs in names.items():
            there, here = f"{prefix}interactions.{k}.{theirs}", f"body.interactions.{k}.{ours}"
            mapping |= linear(there, here, bias=ours != "inward")
    return mapping


PYG_SCHNET = {
    "filter.0": "mlp.0",
    "filter.2": "mlp.2",
    "inward": "conv.lin1",
    "outward.0": "conv.lin2",
    "outward.2": "lin",
}
SPK_SCHNET = {
    "filter.0": "filter_network.0",
    "filter.2": "filter_network.1",
    "inward": "in2f",
    "outward.0": "f2out.0",
    "outward.2": "f2out.1",
}


class BlockHeads(nn.Module):
    """The last linear layer of every output block of DimeNet++, added up."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.last = nn.ModuleList(nn.Linear(width, 1, bias=False) for _ in range(blocks))

    def forward(self, blocks: list[Tensor]) -> Tensor:
        """[N, O] of every block -> [N]."""
        return sum(last(h) for last, h in zip(self.last, blocks, strict=True)).squeeze(-1)


def dimenet_mapping(blocks: int) -> Mapping:
    """Names of PyTorch Geometric's DimeNet++ -> those of `WithHead(DimeNetPP, BlockHeads)`."""
    mapping: Mapping = {
        "rbf.freq": ["body.rbf.frequency"],
        "emb.emb.weight": ["body.embedding.element.weight"],
        **linear("emb.lin_rbf", "body.embedding.radial"),
        **linear("emb.lin", "body.embedding.join"),
    }
    for k in range(blocks):
        our, their = f"body.interactions.{k}", f"interaction_blocks.{k}"
        for plain in ("rbf", "sbf"):
            name = {"rbf": "radial", "sbf": "spherical"}[plain]
            mapping |= linear(f"{their}.lin_{plain}1", f"{our}.{name}.0", bias=False)
            mapping |= linear(f"{their}.lin_{plain}2", f"{our}.{name}.1", bias=False)
        mapping |= linear(f"{their}.lin_down", f"{our}.down", bias=False)
        mapping |= linear(f"{their}.lin_up", f"{our}.up", bias=False)
        mapping |= linear(f"{their}.lin_kj", f"{our}.other") | linear(f"{their}.lin_ji", f"{our}.own")
        mapping |= linear(f"{their}.lin", f"{our}.skip")
        residuals = {
            "layers_before_skip.0": "before",
            "layers_after_skip.0": "after.0",
            "layers_after_skip.1": "after.1",
        }
        for theirs, name in residuals.items():
            mapping |= linear(f"{their}.{theirs}.lin1", f"{our}.{name}.first")
            mapping |= linear(f"{their}.{theirs}.lin2", f"{our}.{name}.second")
    for k in range(blocks + 1):
        our, their = f"body.outputs.{k}", f"output_blocks.{k}"
        mapping |= linear(f"{their}.lin_rbf", f"{our}.radial", bias=False)
        mapping |= linear(f"{their}.lin_up", f"{our}.up", bias=False)
        for layer in range(3):
            mapping |= linear(f"{their}.lins.{layer}", f"{our}.layers.{layer}")
        mapping |= linear(f"{their}.lin", f"head.last.{k}", bias=False)
    return mapping
