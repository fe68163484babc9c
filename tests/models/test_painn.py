from __future__ import annotations
from backbone_suite import BackboneSuite
from mmgnn_dist.config import PaiNNConfig


class TestPaiNN(BackboneSuite):
    config = PaiNNConfig(hidden=32, interactions=2)
    published = PaiNNConfig()
