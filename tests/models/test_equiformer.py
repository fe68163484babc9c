from __future__ import annotations

from backbone_suite import BackboneSuite

from mmgnn_dist.config import EquiformerConfig

SMALL = dict(
    hidden=(16, 8, 4),
    layers=2,
    heads=2,
    head=(8, 4, 2),
    mlp=(32, 16, 8),
    features=32,
    gaussians=16,
    radial=(16, 16),
)


class TestLinear(BackboneSuite):
    config = EquiformerConfig(**SMALL, messages="linear")
    published = EquiformerConfig()
    mirror = False
    smooth = False


class TestNonlinearWithEnvelope(BackboneSuite):
    config = EquiformerConfig(**SMALL, messages="nonlinear", envelope="polynomial")
    published = EquiformerConfig()
    mirror = False
