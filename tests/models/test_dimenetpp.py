from __future__ import annotations
from backbone_suite import BackboneSuite
from mmgnn_dist.config import DimeNetPPConfig


class TestDimeNetPP(BackboneSuite):
    config = DimeNetPPConfig(hidden=32, triplet=16, output=32, blocks=2)
    published = DimeNetPPConfig()
