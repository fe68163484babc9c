"""The hash of the weights: its formula in whole numbers, and that no bit changes unnoticed."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
from torch import nn

from mmgnn_dist.train.ranks import Ranks
from mmgnn_dist.train.tracking.weights_hash import COLUMNS, WeightsHash

ONE = Ranks(0, 1, torch.device("cpu"))


@pytest.fixture
def model():
    torch.manual_seed(0)
    shapes = {"b": (301, 467), "a": (7,), "c": (512, 301)}  # half a word, few, whole words
    return nn.ParameterDict({name: nn.Parameter(torch.randn(shape)) for name, shape in shapes.items()})


def found(model):
    hashed = WeightsHash(model, ONE)
    return hashed.finish(hashed.begin())


def splitmix(number):
    """The number-th output of SplitMix64 with seed 0, in whole numbers."""
    z = (number + 1) * 0x9E3779B97F4A7C15 % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


def test_splitmix_is_that_of_the_paper():
    """The first numbers of the reference code with seed 0."""
    assert [splitmix(k) for k in range(2)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]


def test_the_hash_is_the_sum_of_words_times_their_constants(model):
    total = row = 0
    layout = []
    for name, parameter in sorted(model.items()):
        content = parameter.detach().numpy().tobytes()
        content += bytes(-len(content) % 8)
        for place in range(0, len(content), 8):
            down, along = divmod(place // 8, COLUMNS)
            word = int.from_bytes(content[place : place + 8], "little")
            total += word * (splitmix(along) + splitmix(COLUMNS + row + down))
        row += -(-len(content) // (8 * COLUMNS))
        layout.append([name, list(parameter.shape), "torch.float32"])
    digest = hashlib.blake2b(json.dumps(layout).encode(), digest_size=8).digest()
    expected = (total + int.from_bytes(digest, "little")) % 2**64
    assert found(model) == (f"{expected:016x}", True)


def test_every_flipped_bit_and_every_exchange_changes_the_hash(model):
    before, hashes = found(model)[0], set()
    for name, place, bit in [
        ("a", 0, 0),
        ("a", 6, 31),
        ("b", 0, 0),
        ("b", 301 * 467 - 1, 31),
        ("b", 5000, 12),
    ]:
        words = model[name].detach().view(-1).view(torch.int32)
        words[place] ^= -(2**31) if bit == 31 else 1 << bit
        hashes.add(found(model)[0])
        words[place] ^= -(2**31) if bit == 31 else 1 << bit
    flat = model["b"].detach().view(-1)
    for one, other in [(0, 2), (0, 2 * COLUMNS), (3, 4)]:  # in a row, in a column, in a word
        flat[[one, other]] = flat[[other, one]].clone()
        hashes.add(found(model)[0])
        flat[[one, other]] = flat[[other, one]].clone()
    assert len(hashes) == 8 and before not in hashes and found(model)[0] == before
