"""Train every backbone on the same QM9 molecules in the same way, PyG's SchNet among them, and print the table.

    python tests/benchmarks/backbones.py qm9.parquet --to DIR [--only speed] [key=value ...]

A fixed 2,000/250/1,000 split of molecules drawn by seed, no two of one identity; graph only; all 12 targets
together; same epochs, batch and schedule for all, one thread. Every cell is a run directory `DIR/runs/NAME`: the
same command continues a run that was stopped and does not train again what is finished. PyG's SchNet is its own
embedding, smearing and interaction blocks on our edges, with our initial weights, below our read-out.
"""

from __future__ import annotations

import argparse
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

sys.path.insert(
    0, str(Path(__file__).parents[1] / "models")
)  # the mapping of PyG's names is one with the tests'
from golden import PYG_SCHNET, schnet_mapping

from mmgnn_dist.config import Recipe, SchNetConfig, load_recipe
from mmgnn_dist.data.pipeline import prepare
from mmgnn_dist.data.shards import ShardSet
from mmgnn_dist.files import read_json, write_json, write_text
from mmgnn_dist.models.backbone import AtomFeatures, Backbone
from mmgnn_dist.models.fused import FusedModel
from mmgnn_dist.models.graph import Graph, edge_vectors, edges_within
from mmgnn_dist.models.schnet import SchNet
from mmgnn_dist.train.loop import scaled_loss
from mmgnn_dist.train.ranks import start_ranks
from mmgnn_dist.train.results import read_results
from mmgnn_dist.train.session import train_with_twins
from mmgnn_dist.train.setup import fit_scaler, open_inputs

PARTS = {"train": 2000, "val": 250, "test": 1000}
DRAW = 7  # seed of the molecules and of the split
TARGETS = ("mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "u0", "u298", "h298", "g298", "cv")
RECIPES = Path(__file__).parents[2] / "launch" / "backbones"
PYG = "PyG's SchNet"
# the small setting of each
BACKBONES = {
    "SchNet": "schnet_paper", PYG: "schnet_paper", "PaiNN": "painn_small", "DimeNet++": "dimenetpp_paper",
    "FAENet": "faenet_paper", "Equiformer": "equiformer_paper",
}  # fmt: skip
SEEDS = {"SchNet": 3, PYG: 3}  # one for the others
SCHEDULE = [
    "train.epochs=30", "train.batch=25", "train.validate_every=5", "train.checkpoint_every=400",
    "train.threads=1", "train.loss=l1", "track.wandb=disabled",
    "train.optim={lr: 1.0e-3, lr_fusion: 1.0e-3, warmup: 0.05, final_lr: 0.01, ema: 0.99}",
]  # fmt: skip
TIMED, UNTIMED = 12, 3  # steps


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
    own = [
        f"targets=[{','.join(TARGETS)}]",
        f"data.shards={shards}",
        "data.split=fixed",
        f"train.seed={seed}",
    ]
    return load_recipe(RECIPES / f"{BACKBONES[name]}.yaml", [*own, *SCHEDULE, *overrides])


def speed(recipe: Recipe) -> dict[str, float]:
    """Parameters, and training molecules in a second of CPU time on one thread (others may use the machine)."""
    ranks, inputs = start_ranks(1), open_inputs(recipe)
    model, scaler = FusedModel(recipe, inputs.kinds, None), fit_scaler(inputs)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    rates = []
    started = time.process_time()
    for number, step in enumerate(inputs.training(None, ranks).epoch(0, 0)):
        (batch,) = step.micro
        scaled, _ = model(batch)
        target = scaler.scaled(batch.y, Graph.make(batch.z, batch.pos, batch.ptr))
        loss = scaled_loss(
            recipe.train.loss, scaled, target, batch.y_mask, torch.from_numpy(np.asarray(step.label_count))
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ended = time.process_time()
        rates.append(batch.size / (ended - started))
        started = ended
        if number + 1 == TIMED + UNTIMED:
            break
    count = sum(p.numel() for p in model.backbone.parameters())
    return {"parameters": count, "rate": statistics.median(rates[UNTIMED:])}


def train(cell: Path, name: str, recipe: Recipe) -> None:
    """Train a cell to its end, unless it is there; a cell of another recipe is refused."""
    with backbone_of(name):
        started = time.process_time()
        if train_with_twins(recipe, cell, nproc=1, as_json=True):
            sys.exit(f"{cell} was stopped; the same command continues")
    if not (cell / "cost.json").is_file():
        write_json(cell / "cost.json", {"cpu_seconds": round(time.process_time() - started)})


def table(runs: Path, cost: dict[str, dict[str, float]]) -> str:
    """The tables in Markdown: errors of the test part, our SchNet against PyG's, cost."""
    found = {name: [read_results(cell) for cell in cells(runs, name)] for name in BACKBONES}
    one = found["SchNet"][0]
    units, metrics = one["units"], dict(zip(one["targets"], one["metrics"], strict=True))
    head = ["target", "unit", "mean predictor", "linear fit", *BACKBONES]
    lines = [row(head), row(["---"] * len(head))]
    schnets, equal = [], True
    for target in TARGETS:
        name = metrics[target].removeprefix("test/")
        errors = {
            b: np.array([r["metrics"][metrics[target]] for r in results]) for b, results in found.items()
        }
        simple = [one["baselines"][f"{kind}/{name}"] for kind in ("mean", "composition")]
        shown = [
            digits(e.mean()) + (f" ± {digits(e.std(ddof=1), 2)}" if len(e) > 1 else "")
            for e in errors.values()
        ]
        lines.append(row([target, units[target], *map(digits, simple), *shown]))
        ours, theirs = errors["SchNet"], errors[PYG]
        apart, spread = abs(ours.mean() - theirs.mean()), max(np.ptp(ours), np.ptp(theirs))
        equal &= bool(apart <= spread)
        schnets.append(
            row(
                [
                    target,
                    units[target],
                    *map(digits, (ours.mean(), theirs.mean(), apart, spread)),
                    f"{apart / spread:.2f}",
                ]
            )
        )
        if target == "gap":
            shares = {b: e.mean() / min(simple) for b, e in errors.items()}
    lines += [
        "",
        row(
            [
                "backbone",
                "gap: share of the better simple one",
                "parameters",
                "molecules/s",
                "× PyG's SchNet",
                "CPU s a run",
            ]
        ),
    ]
    lines.append(row(["---"] * 6))
    for name in BACKBONES:
        seconds = [read_json(cell / "cost.json")["cpu_seconds"] for cell in cells(runs, name)]
        rate = cost[name]["rate"]
        lines.append(
            row(
                [
                    name,
                    f"{100 * shares[name]:.0f} %",
                    f"{cost[name]['parameters']:,}",
                    f"{rate:.0f}",
                    f"{rate / cost[PYG]['rate']:.2f}",
                    f"{statistics.mean(seconds):.0f}",
                ]
            )
        )
    head = ["target", "unit", "ours", "PyG's", "means apart by", "spread of three seeds", "apart / spread"]
    lines += [
        "",
        row(head),
        row(["---"] * len(head)),
        *schnets,
        "",
        f"SchNet within the spread on every target: {'yes' if equal else 'no'}",
    ]
    return "\n".join(lines) + "\n"


def cells(runs: Path, name: str) -> list[Path]:
    """The run directories of a backbone, one a seed."""
    return [runs / f"{name.lower().replace(' ', '_')}_{seed}" for seed in range(SEEDS.get(name, 1))]


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
    parser.add_argument("--only", choices=BACKBONES, help="train this one, first seed, and print no table")
    arguments = parser.parse_args()
    shards = molecules(arguments.source, arguments.to)
    runs = arguments.to / "runs"
    planned = [
        (seed, name, cell) for name in BACKBONES for seed, cell in enumerate(cells(runs, name))
        if arguments.only in (None, name)
    ]  # fmt: skip
    for seed, name, cell in sorted(planned, key=lambda plan: plan[0]):
        if arguments.only and seed:
            continue
        train(cell, name, recipe_of(name, seed, shards, arguments.overrides))
    if arguments.only:
        return
    cost = {}
    for name in BACKBONES:
        with backbone_of(name):
            cost[name] = speed(recipe_of(name, 0, shards, arguments.overrides))
    write_text(arguments.to / "table.md", text := table(runs, cost))
    print(text)


if __name__ == "__main__":
    main()
