from __future__ import annotations

from backbone_suite import BackboneSuite

from mmgnn_dist.config import FAENetConfig


class TestPaper(BackboneSuite):
    config = FAENetConfig(hidden=48, filters=32, interactions=2, gaussians=16, cutoff=5.0)
    published = FAENetConfig()
    smooth = False


class TestGroupsAndEnvelope(BackboneSuite):
    config = FAENetConfig(
        hidden=48,
        filters=32,
        gaussians=16,
        cutoff=5.0,
        properties=False,
        period_group=8,
        skip="none",
        update_layers=2,
        envelope="polynomial",
    )
    published = FAENetConfig()
