"""The training benchmark runs the real loop and PyG's side on the same molecules, and prints its table."""

from __future__ import annotations

import pytest
from small_set import make_set

from mmgnn_dist.bench.peers import pyg_peer
from mmgnn_dist.bench.train import PARTS, train_bench, train_bench_markdown
from mmgnn_dist.cli.main import main
from mmgnn_dist.config import FAENetConfig
from mmgnn_dist.data.shardset.splits import make_split
from mmgnn_dist.errors import UserError


def test_side_by_side(tmp_path):
    shards = make_set(tmp_path / "set", gaps=0.0)
    make_split(shards)
    result = train_bench(shards.path, ["schnet"], [8], repeats=1, steps=1)
    (case,) = result["cases"]
    assert (case["backbone"], case["batch"], result["machine"]["threads"]) == ("schnet", 8, 1)
    assert all(case[side][part] > 0 for side in ("mmgnn", "pyg") for part in PARTS)
    assert case["ratio"]["step"] == pytest.approx(case["mmgnn"]["step"] / case["pyg"]["step"])
    # PyG computes the filters of both directions
    assert case["mmgnn"]["flop_per_molecule"] < case["pyg"]["flop_per_molecule"]
    table = train_bench_markdown(result)
    assert result["command"] in table and "| schnet | 8 |" in table


@pytest.mark.slow  # reads MiniLM twice
def test_graph_and_text_beside_a_padded_language_model(tmp_path):
    shards = make_set(tmp_path / "set")
    make_split(shards)
    (case,) = train_bench(shards.path, ["fused"], [8], repeats=1, steps=1)["cases"]
    assert all(case[side][part] > 0 for side in ("mmgnn", "pyg") for part in PARTS)
    # padding costs the peer matrix products
    assert case["mmgnn"]["flop_per_molecule"] < case["pyg"]["flop_per_molecule"]


def test_unknown_backbone_is_one_line(tmp_path, capsys):
    words = ["bench", "train", "--shards", str(tmp_path), "--backbones", "schnett", "--json"]
    assert main(words) == 2
    assert "did you mean" in capsys.readouterr().err


def test_no_peer_is_said():
    with pytest.raises(UserError, match="PyG has no faenet"):
        pyg_peer(FAENetConfig())
