"""Files of the data are read once to be verified, and again only if they have changed since."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from command_line import write_recipe
from make_encoder import make_encoder
from small_set import make_set

from mmgnn_dist import files
from mmgnn_dist.checksums import VerifiedFiles
from mmgnn_dist.cli.main import main
from mmgnn_dist.config import load_recipe
from mmgnn_dist.data.shardset.splits import make_split
from mmgnn_dist.progress import Progress
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.train.inputs import open_inputs
from mmgnn_dist.train.ranks import Ranks
from mmgnn_dist.train.text_data import open_text_data

LARGE = (".arrow", ".npy", ".safetensors")


@dataclass(frozen=True)
class OtherRank(Ranks):
    """A rank for which the first one has done its work."""

    def run_on_rank0(self, what, work):
        return None


@pytest.fixture
def hashed(tmp_path, monkeypatch):
    """Counts the files of the data that are hashed by anybody; `clear` starts anew."""
    count = Counter()

    def noting(path, mode="r", **options):
        path = Path(path)
        if "b" in mode and path.is_relative_to(tmp_path / "data") and path.suffix in LARGE:
            count[path.name] += 1
        return open(path, mode, **options)

    monkeypatch.setattr(files, "open", noting, raising=False)
    return count


def data_files(folder: Path) -> set[str]:
    """Names of shards, token sidecars, frozen vectors, and weights of the encoder."""
    return {path.name for kind in LARGE for path in folder.rglob(f"*{kind}")}


def test_data_is_hashed_once_and_what_changed_again(tmp_path, hashed, capsys):
    shards, encoder = tmp_path / "data" / "shards", make_encoder(tmp_path / "data" / "encoder", "bert")
    make_split(make_set(shards))
    recipe = write_recipe(tmp_path, shards, "frozen", encoder)
    run = RunDir(tmp_path / "run")
    words = ["targets=[gap]", "twins=[graph]", "train.max_steps=2"]

    def train() -> int:
        hashed.clear()
        for place in (run, run.twin("graph")):
            place.metrics.unlink(missing_ok=True)  # it is to go on
        return main(["train", str(recipe), "--run", str(run.path), *words])

    def opened_with(run: RunDir) -> dict[str, int]:
        """What is hashed as the inputs are opened with the record of a run."""
        verified = VerifiedFiles()
        verified.load(run.verified)
        hashed.clear()
        open_inputs(load_recipe(run.recipe), verified=verified)
        return dict(hashed)

    assert train() == 0
    sidecars = Counter(path.name for path in shards.rglob("*.arrow"))  # a sidecar has the name of its shard
    assert set(hashed) >= data_files(tmp_path / "data")
    assert {name: hashed[name] for name in sidecars} == sidecars
    assert hashed["model.safetensors"] == 1 and max(hashed[p.name] for p in shards.rglob("*.npy")) == 1

    assert train() == 0
    assert not hashed

    first, second = sorted(shards.glob("*.arrow"))[:2]
    os.utime(first)
    assert opened_with(run) == {first.name: 1}

    inputs = open_inputs(load_recipe(run.recipe), verify=False)
    hashed.clear()
    with Progress("text", quiet=True) as progress:
        open_text_data(inputs, OtherRank(1, 1, torch.device("cpu")), progress, run.verified)
    assert not hashed

    run.verified.write_text("{")
    assert opened_with(run) == {path.name: 1 for path in shards.glob("*.arrow")}

    before = second.stat()
    content = bytearray(second.read_bytes())
    content[-1] ^= 1
    second.write_bytes(content)  # into the same inode
    os.utime(second, ns=(before.st_atime_ns, before.st_mtime_ns))
    capsys.readouterr()
    assert train() == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"mmgnn: {second} is altered (its SHA-256 is not the one in the manifest)")
