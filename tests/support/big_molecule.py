"""Runs a backbone on a molecule of a thousand atoms; started with its configuration as JSON."""

from __future__ import annotations

import json
import sys

import torch
from pydantic import TypeAdapter

from mmgnn_dist.config import Backbone
from mmgnn_dist.models.backbones.make import make_backbone
from mmgnn_dist.models.graph import Graph, edges_within


def main() -> int:
    """Print whether all is finite, the shape, the number of edges and the peak of memory in bytes."""
    config = TypeAdapter(Backbone).validate_python(json.loads(sys.argv[1]))
    torch.manual_seed(0)
    model = make_backbone(config).eval()
    grid = torch.cartesian_prod(*[torch.arange(10.0)] * 3)
    pos = 2.15 * grid + 0.2 * torch.randn(1000, 3)  # 0.1 atoms per cubic Å, as in an organic solid
    z = torch.tensor([1, 6, 7, 8])[torch.randint(4, (1000,))]
    graph = Graph.make(z, pos, torch.tensor([0, 1000]))
    with torch.no_grad():
        h = model(graph)
    edges = len(edges_within(graph, config.cutoff)[0])
    with open("/proc/self/status") as status:  # getrusage counts the memory of a parent too
        peak = next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    print(json.dumps([bool(h.isfinite().all()), list(h.shape), edges, peak]))
    return 0
