"""A package of others that adds to mmgnn_dist, as small as each thing can be."""

from __future__ import annotations

BACKBONE = {
    "settings.py": """
from typing import ClassVar, Literal

from pydantic import Field

from mmgnn_dist.config import BackboneConfig


class SumConfig(BackboneConfig):
    module: ClassVar[str] = "elsewhere.network:SumBackbone"
    cost_rate: ClassVar[float] = 0.5
    widths: ClassVar[tuple[str, ...]] = ("hidden",)

    name: Literal["sum_of_near"] = "sum_of_near"
    hidden: int = Field(8, ge=1)
    cutoff: float = Field(4.0, gt=0)
""",
    "network.py": """
import torch
from torch import nn

from mmgnn_dist.models.backbones.base import ELEMENTS, AtomFeatures, Backbone
from mmgnn_dist.models.graph import edges_within


class SumBackbone(Backbone):
    def __init__(self, config):
        super().__init__()
        self.width, self.cutoff = config.hidden, config.cutoff
        self.embedding = nn.Embedding(ELEMENTS, config.hidden)
        self.mix = nn.Linear(config.hidden, config.hidden)

    def features(self, graph):
        own = self.embedding(graph.z)
        atom, neighbour = edges_within(graph, self.cutoff)
        near = torch.zeros_like(own).index_add(0, atom, own[neighbour])
        return AtomFeatures(own + torch.tanh(self.mix(near)))
""",
}
FUSION = {
    "fusion.py": """
from mmgnn_dist.models.fusions.base import VectorFusion


class SumFusion(VectorFusion):
    def fuse(self, m, t, molecule):
        return self.value_graph(m) + self.value_text(t)[molecule].tanh(), None
""",
}
OPTIMIZER = {
    "optimizer.py": """
import torch

from mmgnn_dist.train.optim.optimizers import Optimizer


class Momentum(Optimizer):
    state_bytes = 4

    @staticmethod
    def build(groups):
        return torch.optim.SGD(groups, momentum=0.9)
""",
}
METRIC = {
    "metric.py": """
from mmgnn_dist.train.metrics import Metric


class MeanSquaredError(Metric):
    name = "mse"

    def terms(self, true, predicted):
        return (predicted - true) ** 2

    def unit(self, unit):
        return f"{unit}2"
""",
}
# files of the package and names of what it adds, by group
PARTS = {
    "backbones": (BACKBONE, {"sum_of_near": "elsewhere.settings:SumConfig"}),
    "optimizers": (OPTIMIZER, {"momentum": "elsewhere.optimizer:Momentum"}),
    "metrics": (METRIC, {"mse": "elsewhere.metric:MeanSquaredError"}),
    "fusions": (FUSION, {"sum": "elsewhere.fusion:SumFusion"}),
}
