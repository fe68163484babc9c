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


def linear(theirs: str, ours: str | list[str], bias: bool = True) -> Mapping:
    """The mapping of a linear layer."""
    names = [ours] if isinstance(ours, str) else ours
    return {f"{theirs}.{kind}": [f"{n}.{kind}" for n in names] for kind in ("weight", *["bias"] * bias)}


class Golden:
    """One case: weights, inputs, expected outputs.

    Args:
        folder: of the reference values. name: of the case.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.weights = load_file(folder / f"{name}.safetensors")
        self.io = load_file(folder / f"{name}_io.safetensors")
        self.pos = self.io["pos"].clone().requires_grad_()
        self.graph = Graph.make(self.io["z"], self.pos, self.io["ptr"])

    def load(self, model: nn.Module, mapping: Mapping, ignored: tuple[str, ...] = ()) -> None:
        """Put their weights into ours; every parameter of either side must be taken."""
        own = dict(model.named_parameters())
        for theirs, names in mapping.items():
            value, start = self.weights[theirs], 0
            for name in names:
                parameter = own.pop(name)
                rows = min(len(parameter), len(value) - start)
                with torch.no_grad():
                    parameter[:rows] = value[start : start + rows]
                start += rows
            assert start == len(value), theirs
        assert not own, f"without reference weights: {sorted(own)}"
        left = [n for n in self.weights if n not in mapping and not n.startswith(ignored)]
        assert not left, f"reference weights not taken: {left}"

    def check(
        self, y: Tensor, model: nn.Module, mapping: Mapping, suffix: str = "", parameters: float = 1e-9
    ) -> None:
        """Outputs [B] and position gradients to 1e-9, the given parameter gradients to `parameters`."""
        close(y, self.io[f"y{suffix}"], 1e-9)
        own = dict(model.named_parameters())
        grads = {
            name.removeprefix("grad_param."): value
            for name, value in self.io.items()
            if name.startswith("grad_param.")
        }
        names = [mapping[theirs] for theirs in grads]
        found = torch.autograd.grad(y.sum(), [self.pos, *(own[n] for group in names for n in group)])
        close(found[0], self.io[f"grad_pos{suffix}"], 1e-9)
        rest = iter(found[1:])
        for expected, group in zip(grads.values(), names, strict=True):
            joined = torch.cat([next(rest) for _ in group])
            close(joined[: len(expected)], expected, parameters)
            assert not joined[len(expected) :].any()


def close(found: Tensor, expected: Tensor, bound: float) -> None:
    """The largest deviation is at most `bound` times the largest value."""
    deviation = float((found - expected).detach().abs().max() / expected.detach().abs().max())
    assert deviation <= bound, deviation


class Atomwise(nn.Module):
    """The head of schnetpack: Lin silu Lin on every atom, summed over the molecule."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, width // 2), nn.SiLU(), nn.Linear(width // 2, 1))

    mapping: Mapping = {
        **linear("output.outnet.0", "head.layers.0"),
        **linear("output.outnet.1", "head.layers.2"),
    }

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
