"""The rate of `mmgnn predict` on a shard set beside that of bare forward passes, in processor time.

    python tests/benchmarks/predict.py RUN SHARDS [--rounds 3]

The bare passes are over the same batches, ready in memory. The prediction reads them from the shards, checks
and flags the molecules, and writes CSV.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from mmgnn_dist.predict.bundle import open_bundle
from mmgnn_dist.predict.outputs import write_part
from mmgnn_dist.predict.portions import StoredPortions
from mmgnn_dist.predict.predictor import Predictor
from mmgnn_dist.predict.preparation import Asked, plan_portions
from mmgnn_dist.progress import Progress
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.train.application.apply import ExportedModel
from mmgnn_dist.train.checkpoint.export import read_export


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("shards")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    recipe, export = open_bundle(given.run, []), read_export(RunDir(given.run))
    with TemporaryDirectory() as name:
        folder = Path(name)
        portions = plan_portions(given.run, recipe, export, [given.shards], folder, Asked())
        assert isinstance(portions, StoredPortions)
        exported = ExportedModel(given.run, 1, Progress("bare", quiet=True))
        model, _ = exported.model(portions.inputs)
        text = exported.text(portions.inputs)
        loader = portions.inputs.ordered("test", text.tokens, exported.ranks)
        batches = [batch.cloned() for step in loader.epoch(0) for batch in step.micro]
        vectors = [text.embeddings.of(batch.rows) if text.embeddings else None for batch in batches]
        predictor = Predictor(given.run, export, portions, 0.9, 1)
        predictor.predict(0, [], folder / "work")
        shares = []
        for _ in range(given.rounds):
            begin = time.process_time()
            with torch.no_grad():
                for batch, own in zip(batches, vectors, strict=True):
                    model(batch, own)
            middle = time.process_time()
            for number in range(len(portions.sizes)):
                found = predictor.predict(number, [], folder / "work")
                write_part(folder / "part.csv", ".csv", found.table, None)
            end = time.process_time()
            rows = sum(portions.sizes)
            shares.append((middle - begin) / (end - middle))
            bare, whole = rows / (middle - begin), rows / (end - middle)
            print(f"bare {bare:,.0f}/s, predict {whole:,.0f}/s, {shares[-1]:.2f}")
        print(f"share of the bare rate: {sorted(shares)[len(shares) // 2]:.2f}")


if __name__ == "__main__":
    main()
