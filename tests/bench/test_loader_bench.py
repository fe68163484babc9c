"""The loader benchmark runs, reads every molecule with both loaders, and prints its table."""

from __future__ import annotations

import json
import os

from small_set import make_set

from mmgnn_dist.bench.loader import loader_bench, print_loader_bench
from mmgnn_dist.cli.main import main


def test_side_by_side(tmp_path, capsys):
    shards = make_set(tmp_path / "set")
    cores = os.sched_getaffinity(0)
    result = loader_bench(shards.path, fields=["iupac_name"], batch=8, repeats=1)
    assert os.sched_getaffinity(0) == cores
    assert (result["molecules"], result["shards"]) == (103, 4)
    assert result["ratio_best"] == result["mmgnn"]["best"] / result["pyg"]["best"]
    ranks = {(rank["sampling"], rank["world"]): rank["per_second"] for rank in result["ranks"]}
    assert len(ranks) == 8 and ranks["stratified", 512] > 2 * ranks["uniform", 512]
    print_loader_bench(result)
    shown = capsys.readouterr().out
    assert "PyG DataLoader" in shown and "stratified" in shown


def test_json_is_one_object(tmp_path, capsys):
    shards = str(make_set(tmp_path / "set").path)
    words = ["bench", "loader", "--shards", shards, "--fields", "iupac_name", "--repeats", "1", "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["molecules"] == 103


def test_wrong_input_is_one_line(tmp_path, capsys):
    assert main(["bench", "loader", "--shards", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
