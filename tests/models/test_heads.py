"""Regression and classes in one loss and one scaler, against float64 formulas."""

import math

import pytest
import torch

from mmgnn_dist.models.graph import Graph
from mmgnn_dist.models.heads import Heads
from mmgnn_dist.models.readout import Scaler
from mmgnn_dist.train.loss import scaled_loss

HEADS = Heads(((), ("no", "yes"), ()))


def test_outputs_of_each_target():
    assert [HEADS.outputs(place) for place in range(3)] == [slice(0, 1), slice(1, 3), slice(3, 4)]
    assert (HEADS.numbers, HEADS.classed, HEADS.number_outputs) == ([0, 2], [1], [0, 3])


def test_the_loss_of_classes_weighs_each_class_alike():
    scaled = torch.tensor([[0.5, 0.2, -0.3, 1.0], [0.0, -1.0, 1.0, 2.0]], dtype=torch.float64)
    target = torch.tensor([[0.0, 1.0, 3.0], [1.0, 0.0, 2.5]], dtype=torch.float64)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    prior = torch.log(torch.tensor([9.0, 0.8, 0.2, 9.0], dtype=torch.float64))
    weights = torch.tensor([1.0, 2.0, 1.0])
    found = scaled_loss("l1", scaled, target, mask, mask.sum(0), weights, HEADS, prior)

    def entropy(logits, k):
        return math.log(sum(math.exp(x) for x in logits)) - logits[k]

    of_class = (entropy([0.2, -0.3], 1) / (2 * 0.2) + entropy([-1.0, 1.0], 0) / (2 * 0.8)) / 2
    wanted = (1.0 * (0.5 + 1.0) / 2 + 2.0 * of_class + 1.0 * 0.5) / 4
    assert float(found) == pytest.approx(wanted, rel=1e-6)


def test_the_scaler_leaves_labels_of_classes_as_they_are():
    reference = torch.zeros(119, 4, dtype=torch.float64)
    reference[1, 3] = 2.0
    scaler = Scaler(
        std=torch.tensor([2.0, 1.0, 1.0, 4.0]).double(),
        mean=torch.tensor([1.0, -0.2, -1.6, 0.0]).double(),
        reference=reference,
        extent=torch.zeros(119, 4, dtype=torch.float64),
    )
    graph = Graph.make(torch.tensor([1, 1]), torch.zeros(2, 3), torch.tensor([0, 2]))
    y = torch.tensor([[5.0, 1.0, 12.0]], dtype=torch.float64)
    assert scaler.of_targets(HEADS).scaled(y, graph).tolist() == [[2.0, 1.0, 2.0]]
