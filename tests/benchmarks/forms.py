"""Time a training step of each backbone in its fast forms and in plain tensor operations, in turns.

    python tests/benchmarks/forms.py [RECIPE ...]

One thread, 64 molecules, fp32, Adam, processor time of this thread; prints a table. Fast forms are tabulated
filters, compiled loops, and edges that FAENet computes once for two frames. Recipes are those of
`launch/backbones/`, by name.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from model_batches import real_molecules

from mmgnn_dist.config import load_recipe
from mmgnn_dist.models.backbones.faenet import FAENet
from mmgnn_dist.models.backbones.make import make_backbone
from mmgnn_dist.models.backbones.pairs import pair_loop
from mmgnn_dist.models.graph import Graph
from mmgnn_dist.models.readout import ReadOut

RECIPES = Path(__file__).parents[2] / "launch" / "backbones"
MOLECULES, UNTIMED, PAIRS = 64, 2, 9


def plain_forms() -> ExitStack:
    """While it is open backbones are plain tensor operations on all edges."""
    layers = FAENet.layers

    def of_all_edges(self: FAENet, graph: Graph, pos: Tensor, opposite: bool = False) -> list[Tensor]:
        return layers(self, graph, pos)

    stack = ExitStack()
    stack.enter_context(mock.patch.object(pair_loop, "_numba", lambda: False))
    stack.enter_context(mock.patch.object(FAENet, "layers", of_all_edges))
    return stack


def training_step(recipe: str, fast: bool) -> Callable[[], float]:
    """Return what trains a backbone by one step and gives the seconds that it took."""
    graph, gap = real_molecules(MOLECULES, torch.float32, target="gap")
    torch.manual_seed(0)
    backbone = make_backbone(load_recipe(RECIPES / f"{recipe}.yaml", []).model.backbone)
    if hasattr(backbone, "tabulated"):
        backbone.tabulated = fast
    readout = ReadOut(backbone.width, ["mean"], 0.0)
    optimizer = torch.optim.Adam([*backbone.parameters(), *readout.parameters()], lr=1e-4, fused=True)

    def step() -> float:
        with ExitStack() if fast else plain_forms():
            began = time.thread_time()
            loss = (readout(backbone(graph), graph) - gap.unsqueeze(-1)).abs().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return time.thread_time() - began

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipes", nargs="*", default=sorted(path.stem for path in RECIPES.glob("*.yaml")))
    torch.set_num_threads(1)
    print("| recipe | plain, ms | fast, ms | ratio |\n|---|---|---|---|")
    for recipe in parser.parse_args().recipes:
        plain, fast = training_step(recipe, False), training_step(recipe, True)
        pairs = [(plain(), fast()) for _ in range(UNTIMED + PAIRS)][UNTIMED:]
        medians = [1000 * statistics.median(times) for times in zip(*pairs, strict=True)]
        ratio = statistics.median(slow / quick for slow, quick in pairs)
        print(f"| {recipe} | {medians[0]:.0f} | {medians[1]:.0f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
