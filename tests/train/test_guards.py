"""Steps that are not finite, ranks that hang, ranks that die."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import journal, metrics, write_recipe

from mmgnn_dist.config import load_recipe
from mmgnn_dist.train.launch import free_port

GRAPH = ["model.modality=graph", "train.max_steps=8", "train.checkpoint_every=3", "train.log_ids=true"]


def prepared(folder: Path, shards, *words: str) -> Path:
    """A run directory that holds its recipe."""
    (folder / "run").mkdir(parents=True)
    load_recipe(write_recipe(folder, shards.path), [*GRAPH, *words]).save(folder / "run" / "recipe.yaml")
    return folder / "run"


def faulty(run: Path, world: int, steps: str, where: str) -> tuple[list[int], str]:
    """Run to the end with a fault in some steps; exit codes of the ranks, and what the first one wrote."""
    port, ranks = free_port(), []
    for rank in range(world):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world,
                 "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port} if world > 1 else {}  # fmt: skip
        words = [sys.executable, str(Path(__file__).with_name("faulty_rank.py")), str(run), steps, where]
        environment = os.environ | {name: str(value) for name, value in place.items()}
        ranks.append(subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True))
    errors = [rank.communicate(timeout=240)[1] for rank in ranks]
    return [rank.returncode for rank in ranks], errors[0]


@pytest.mark.parametrize(
    ("stage", "where", "words"),
    [(0, "gradient", []), (1, "loss", ["train.micro_batch=2"]), (2, "gradient", []), (0, "loss", [])],
)
def test_a_step_that_is_not_finite_is_left_out(sample_shards, tmp_path, stage, where, words):
    """Counted, written down, its molecules dumped; all later steps are finite; and the run repeats."""
    run = prepared(tmp_path, sample_shards, f"train.zero_stage={stage}", *words)
    codes, error = faulty(run, 1, "0,3,4", where)
    assert codes == [0], error
    left = journal(run, "skipped")
    assert [line["step"] for line in left] == [1, 4, 5] and left[-1]["skipped"] == 3
    assert [line["step"] for line in journal(run)] == [2, 3, 6, 7, 8]
    assert all(line["loss"] < 10 for line in journal(run)) and metrics(run)["skipped_steps"] == 3
    logged = [json.loads(line) for line in (run / "logs/ids_rank_0.jsonl").read_text().splitlines()]
    dumped = json.loads((run / "logs/not_finite_step_4.json").read_text())
    assert sorted(dumped["ids"]) == sorted(logged[3]["ids"]) and len(logged) == 8
    # stopped between two such steps, it ends the same
    again = prepared(tmp_path / "again", sample_shards, f"train.zero_stage={stage}", *words)
    codes, error = faulty(again, 1, "0,3,4", where)
    assert metrics(again)["weights"] == metrics(run)["weights"]
