"""Train every backbone, and PyG's SchNet beside ours, on the same molecules in the same way; print the table.

    python tests/benchmarks/backbones.py qm9.parquet --to DIR

A fixed 2,000/250/1,000 split of QM9 molecules drawn by seed, no two of one identity; graph only; all targets
together; same epochs, batch and schedule for all, one thread. Every cell is a run directory in `DIR/runs`:
the same command continues what was stopped, and does not train again what is finished. PyG's SchNet is its
own embedding, smearing and interaction blocks on our edges (its search needs an extension, and caps the
neighbours), with our initial weights, below our read-out.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch_geometric.nn.models import SchNet as PygSchNet

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))  # the tests' mapping of PyG's names
from golden import PYG_SCHNET, schnet_mapping

from mmgnn_dist.config import Recipe, SchNetConfig, load_recipe
from mmgnn_dist.data.prepare.pipeline import prepare
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.files import write_text
from mmgnn_dist.models.backbones.base import AtomFeatures, Backbone
from mmgnn_dist.models.backbones.schnet import SchNet
from mmgnn_dist.models.graph import Graph, edge_vectors, edges_within
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.train.inputs import fit_scaler, open_inputs
from mmgnn_dist.train.loss import scaled_loss, target_weights
from mmgnn_dist.train.ranks import init_distributed
from mmgnn_dist.train.report.results import read_results
from mmgnn_dist.train.session import train_with_twins

PARTS = {"train": 2000, "val": 250, "test": 1000}
DRAW = 7  # seed of the molecules and of the split
TARGETS = ("mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "u0", "u298", "h298", "g298", "cv")
RECIPES = Path(__file__).parents[2] / "launch" / "backbones"
PYG = "PyG's SchNet"
# SchNet's only published setting is large: it is trained once, and with three seeds one as small as PaiNN's
SMALL = "model.backbone={hidden: 64, filters: 64, interactions: 3, gaussians: 50, cutoff: 5.0}"
BACKBONES: dict[str, tuple[str, list[str]]] = {
    "PaiNN": ("painn_small", []),
    "DimeNet++": ("dimenetpp_paper", []),
    "SchNet": ("schnet_paper", [SMALL]),
    PYG: ("schnet_paper", [SMALL]),
    "FAENet": ("faenet_paper", []),
    "Equiformer": ("equiformer_paper", []),
    "SchNet 128/6": ("schnet_paper", []),
}
SEEDS = {"SchNet": 3, PYG: 3}  # one for the others
SCHEDULE = [
    "train.epochs=20",
    "train.batch=25",
    "train.validate_every=4",
    "train.checkpoint_every=400",
    "train.threads=1",
    "train.loss=l1",
    "track.wandb=disabled",
    "train.optim={lr: 2.0e-3, lr_fusion: 2.0e-3, warmup: 0.05, final_lr: 0.01, ema: 0.99}",
]
TIMED, UNTIMED, ROUNDS = 8, 2, 3  # steps, steps before them, times of which the best counts


class PygBackbone(Backbone):
    """PyG's SchNet without its head, on our edges, starting from the weights that ours would start from."""

    def __init__(self, config: SchNetConfig) -> None:
        super().__init__()
        ours = {f"body.{name}": p for name, p in SchNet(config).named_parameters()}
        self.body = PygSchNet(
            config.hidden, config.filters, config.interactions, config.gaussians, config.cutoff
        )
        del self.body.lin1, self.body.lin2
        theirs = dict(self.body.named_parameters())
        mapping = schnet_mapping(config.interactions, "", PYG_SCHNET)
        assert set(theirs) == set(mapping) and {name for (name,) in mapping.values()} == set(ours)
        with torch.no_grad():
            for name, (own,) in mapping.items():
                theirs[name].copy_(ours[own][: len(theirs[name])])  # it has fewer elements
        for block in self.body.interactions:
            del block.mlp  # the same module as conv.nn, which an export would hold twice
        self.width, self.cutoff = config.hidden, config.cutoff

    def features(self, graph: Graph) -> AtomFeatures:
        i, j = edges_within(graph, self.cutoff)
        distance = edge_vectors(graph, i, j).norm(dim=-1)
        basis = self.body.distance_expansion(distance)
        x = self.body.embedding(graph.z)
        for block in self.body.interactions:
            x = x + block(x, torch.stack([j, i]), distance, basis)
        return AtomFeatures(x)


def backbone_of(name: str) -> Any:
    """A context in which models get the named backbone: the recipe's, or PyG's in its place."""
    if name != PYG:
        return nullcontext()
    return mock.patch("mmgnn_dist.models.fused.make_backbone", lambda config, dropout: PygBackbone(config))


def molecules(source: Path, folder: Path) -> Path:
    """A shard set of molecules drawn by seed, one an identity, with the split `fixed`."""
    place = folder / "shards"
    if (place / "splits" / "fixed.parquet").is_file():
        return place
    table = pq.read_table(source)
    keys, odd = table["inchikey"].to_pylist(), table["uncharacterized"].to_pylist()
    rows: dict[str, int] = {}
    for row in np.random.default_rng(DRAW).permutation(len(table)):
        if keys[row] and not odd[row]:
            rows.setdefault(keys[row].split("-")[0], int(row))
        if len(rows) == sum(PARTS.values()):
            break
    folder.mkdir(parents=True, exist_ok=True)
    drawn = folder / "molecules.parquet"
    pq.write_table(table.take(list(rows.values())), drawn)
    prepare([str(drawn)], place)
    ids = ShardSet.open(place).column("id").cast(pa.string())
    assert len(ids) == sum(PARTS.values()), f"{sum(PARTS.values()) - len(ids)} molecules were set aside"
    labels = np.random.default_rng(DRAW).permutation(np.repeat(list(PARTS), list(PARTS.values())))
    pq.write_table(pa.table({"id": ids, "fold_0": pa.array(labels)}), place / "splits" / "fixed.parquet")
    return place


def recipe_of(name: str, seed: int, shards: Path, overrides: list[str]) -> Recipe:
    """The recipe of a cell."""
    own = [f"targets=[{','.join(TARGETS)}]", f"data.shards={shards}", "data.split=fixed"]
    file, setting = BACKBONES[name]
    return load_recipe(
        RECIPES / f"{file}.yaml", [*own, f"train.seed={seed}", *SCHEDULE, *setting, *overrides]
    )


def speed(recipe: Recipe) -> tuple[int, float]:
    """Parameters, and training molecules a second of CPU time on one thread: others may use the machine."""
    ranks, inputs = init_distributed(1), open_inputs(recipe)
    model, scaler = inputs.model(None, None), fit_scaler(inputs)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    weights, rates = target_weights(recipe.targets, recipe.train), []
    started = time.process_time()
    for number, step in enumerate(inputs.training(None, ranks).epoch(0, 0)):
        (batch,) = step.micro
        scaled, _ = model(batch)
        target = scaler.scaled(batch.y, Graph.make(batch.z, batch.pos, batch.ptr))
        labels = step.label_count
        loss = scaled_loss(recipe.train.loss, scaled, target, batch.y_mask, labels, weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ended = time.process_time()
        rates.append(batch.size / (ended - started))
        started = ended
        if number + 1 == TIMED + UNTIMED:
            break
    return sum(p.numel() for p in model.backbone.parameters()), statistics.median(rates[UNTIMED:])


def train(cell: Path, name: str, recipe: Recipe) -> None:
    """Train a cell to its end, unless it is there; a cell of another recipe is refused."""
    with backbone_of(name):
        code, _ = train_with_twins(recipe, cell, nproc=1, quiet=True)
        if code:
            sys.exit(f"{cell} was stopped; the same command continues")


def errors_table(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    """MAE of the test part by target, mean ± standard deviation over seeds where there are some."""
    one = next(iter(found.values()))[0]
    lines = heading(["target", "unit", "mean", "linear fit", *found])
    for target, metric in zip(one["targets"], one["metrics"], strict=True):
        shown = [digits(value) for value in simple(one, metric)]
        for results in found.values():
            values = errors(results, metric)
            deviation = f" ± {digits(values.std(ddof=1), 2)}" if len(values) > 1 else ""
            shown.append(digits(values.mean()) + deviation)
        lines.append(row([target, one["units"][target], *shown]))
    return lines


def cost_table(found: dict[str, list[dict[str, Any]]], shards: Path, given: list[str]) -> list[str]:
    """The gap against the simple baselines, parameters, speed."""
    gap = next(metric for metric in next(iter(found.values()))[0]["metrics"] if "/gap_" in metric)
    costs = dict.fromkeys(BACKBONES, (0, 0.0))
    for _ in range(ROUNDS):
        for name in BACKBONES:
            with backbone_of(name):
                costs[name] = max(costs[name], speed(recipe_of(name, 0, shards, given)))
    lines = heading(["backbone", "gap", "parameters", "molecules/s", "× PyG's SchNet"])
    for name, results in found.items():
        share = errors(results, gap).mean() / min(simple(results[0], gap))
        parameters, rate = costs[name]
        shown = [f"{100 * share:.0f} %", f"{parameters:,}", f"{rate:.0f}", f"{rate / costs[PYG][1]:.2f}"]
        lines.append(row([name, *shown]))
    return lines


def pyg_table(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Our SchNet against PyG's: means over seeds, and the larger of the two spreads (largest - smallest)."""
    one = found["SchNet"][0]
    lines = heading(["target", "unit", "ours", "PyG's", "apart", "spread", "apart / spread"])
    for target, metric in zip(one["targets"], one["metrics"], strict=True):
        ours, theirs = errors(found["SchNet"], metric), errors(found[PYG], metric)
        apart, spread = abs(ours.mean() - theirs.mean()), max(np.ptp(ours), np.ptp(theirs))
        shown = [digits(value) for value in (ours.mean(), theirs.mean(), apart, spread)]
        lines.append(row([target, one["units"][target], *shown, f"{apart / spread:.2f}"]))
    return lines


def finished(folders: list[Path]) -> list[dict[str, Any]]:
    return [read_results(folder) for folder in folders if RunDir(folder).metrics.is_file()]


def errors(results: list[dict[str, Any]], metric: str) -> np.ndarray:
    return np.array([result["metrics"][metric] for result in results])


def simple(result: dict[str, Any], metric: str) -> list[float]:
    """MAE of the mean predictor and of the linear fit on composition."""
    return [result["baselines"][f"{kind}/{metric.removeprefix('test/')}"] for kind in ("mean", "composition")]


def cells(runs: Path, name: str) -> list[Path]:
    """The run directories of a backbone, one a seed."""
    return [runs / f"{re.sub('[^a-z0-9]+', '_', name.lower())}_{seed}" for seed in range(SEEDS.get(name, 1))]


def heading(values: list[str]) -> list[str]:
    return [row(values), row(["---"] * len(values))]


def row(values: list[Any]) -> str:
    return "| " + " | ".join(str(value) for value in values) + " |"


def digits(value: float, count: int = 3) -> str:
    """Rounded to so many significant digits, without an exponent."""
    places = max(count - 1 - int(np.floor(np.log10(abs(value)))), 0)
    return f"{value:,.{places}f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="QM9 as one Parquet file")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="of every recipe, e.g. train.epochs=2"
    )
    parser.add_argument("--to", type=Path, required=True, metavar="DIR")
    parser.add_argument("--table", action="store_true", help="only print the table of what is finished")
    arguments = parser.parse_args()
    shards = molecules(arguments.source, arguments.to)
    runs = arguments.to / "runs"
    for name in [] if arguments.table else BACKBONES:
        for seed, cell in enumerate(cells(runs, name)):
            train(cell, name, recipe_of(name, seed, shards, arguments.overrides))
    found = {name: finished(cells(runs, name)) for name in BACKBONES}
    found = {name: results for name, results in found.items() if results}
    parts = [errors_table(found), cost_table(found, shards, arguments.overrides)]
    if {"SchNet", PYG} <= found.keys():
        parts.append(pyg_table(found))
    text = "\n\n".join("\n".join(lines) for lines in parts) + "\n"
    write_text(arguments.to / "table.md", text)
    print(text)


if __name__ == "__main__":
    main()
