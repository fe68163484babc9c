"""The check that tells on which interfaces jobs listen."""

from __future__ import annotations

import pytest

from mmgnn_dist.cluster.doctor import network

ALL = {"lo": "127.0.0.1", "ib0": "192.0.2.7", "eth0": "198.51.100.7"}


@pytest.mark.parametrize(
    ("nodes", "own", "addresses", "level"),
    [
        ("1", "192.0.2.7", ALL, "OK"),
        ("2", "192.0.2.7", ALL, "WARN"),
        ("2", "192.0.2.7", {name: ALL[name] for name in ("lo", "ib0")}, "OK"),
        ("2", "127.0.0.1", ALL, "WARN"),
    ],
)
def test_other_interfaces_are_told_if_ray_listens_there(monkeypatch, nodes, own, addresses, level):
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", nodes)
    monkeypatch.setattr(network, "own_address", lambda: own)
    monkeypatch.setattr(network, "addresses", lambda: addresses)
    (line,) = network.listeners()
    assert line.level == level and f"store on {own} alone" in line.found
    assert ("eth0 198.51.100.7" in line.found and "token" in line.found) == (level == "WARN")


def test_an_address_that_is_not_known_is_left_to_the_other_checks(monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "ib7")
    assert network.listeners() == []
