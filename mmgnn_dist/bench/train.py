"""Benchmark of training: ours beside PyTorch Geometric's, on the same molecules in the same process.

Our side is the loop of `mmgnn train` with its loader, DeepSpeed engine, optimiser, journal and average; the
other side is what a user would write (`peers.py`). Both sides are measured in turns, some steps at a time, so
that a drift of the machine reaches both; a ratio is the median over pairs of neighbouring turns.
`mmgnn bench train --shards DIR` prints the table.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mmgnn_dist.bench.machine import clock_of, machine, matmul_rate
from mmgnn_dist.bench.peers import PygSchNetPeer, endless, pyg_data, pyg_peer, pyg_step
from mmgnn_dist.config import BackboneConfig, DimeNetPPConfig, PaiNNConfig, Recipe, SchNetConfig
from mmgnn_dist.data.loading.loader import Loader, Step
from mmgnn_dist.errors import UserError, nearest
from mmgnn_dist.models.table_watch import tables_allowed
from mmgnn_dist.process import temporary_folders
from mmgnn_dist.progress import Progress
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.train.checkpoint.train_state import TrainState
from mmgnn_dist.train.deadline import Deadline
from mmgnn_dist.train.guards import HangWatchdog
from mmgnn_dist.train.inputs import Inputs, open_inputs
from mmgnn_dist.train.loop import Trainer
from mmgnn_dist.train.ranks import init_distributed
from mmgnn_dist.train.stages.build import build
from mmgnn_dist.train.stages.context import make_context
from mmgnn_dist.train.stages.setting import Setting

PARTS = ("loader", "forward", "step")
SETTINGS: dict[str, BackboneConfig] = {
    "schnet": SchNetConfig(),
    "dimenetpp_paper": DimeNetPPConfig(
        hidden=32, triplet=32, basis=32, output=32, blocks=2, radial=2, spherical=3
    ),
    "dimenetpp": DimeNetPPConfig(),
    "painn": PaiNNConfig(),
    "fused": SchNetConfig(),
}
FUSED = "fused"  # the case that reads names of at most `NAME_TOKENS` tokens too, MiniLM fully trained
NAME_TOKENS = 32
PEER_PACKAGES = {"painn": "schnetpack"}  # packages for the other side, beside those of the extra `train`
MOST_DATA = 4096  # molecules of the peer's list of `Data`


@dataclass
class Side:
    """One side of the comparison.

    Attributes:
        load: returns the next batch.
        forward: computes the outputs of a batch, ready to be differentiated.
        step: makes a whole training step on a batch that is loaded.
    """

    load: Callable[[], Any]
    forward: Callable[[Any], Tensor]
    step: Callable[[Any], object]

    def flop(self) -> int:
        """Count the operations in matrix products of a forward and backward pass."""
        batch = self.load()
        with FlopCounterMode(display=False) as counter:
            self.forward(batch).sum().backward()
        return counter.get_total_flops()


def train_bench(
    shards: Path,
    backbones: list[str],
    batches: list[int],
    repeats: int = 7,
    steps: int = 2,
    threads: int = 1,
) -> dict[str, Any]:
    """Measure molecules per second of the loader, of the forward pass and of a whole step, side by side.

    Args:
        shards: a shard set with a split `random`; its first target is learned.
        backbones: names of `SETTINGS`.
        batches: molecules in a step.
        repeats: pairs of turns.
        steps: steps of a turn.
        threads: CPU threads.

    Returns:
        `machine`, `command`, `cases`: for each backbone and batch the rates of both sides in molecules/s, the
        ratio of ours to PyG's of each part, and the share of the matmul rate that a step reaches.

    Raises:
        UserError: an unknown backbone, or a shard set that cannot be trained on.
    """
    for name in backbones:
        if name not in SETTINGS:
            raise UserError(
                f"bench train: unknown backbone '{name}'{nearest(name, SETTINGS)}; there are: "
                f"{', '.join(SETTINGS)}"
            )
    ranks = init_distributed(threads)
    cases = [_case(shards, name, batch, repeats, steps, threads) for name in backbones for batch in batches]
    named = " ".join(backbones), " ".join(map(str, batches))
    command = (
        f"mmgnn bench train --shards {shards} --backbones {named[0]} --batches {named[1]} "
        f"--repeats {repeats} --threads {threads}"
    )
    return {"machine": machine(ranks.device), "command": command, "cases": cases}


def _case(shards: Path, name: str, batch: int, repeats: int, steps: int, threads: int) -> dict[str, Any]:
    with temporary_folders():  # PyG makes some too
        folder = Path(tempfile.mkdtemp(prefix="bench-"))
        ours, theirs, device = _sides(shards, name, batch, threads, folder)
        return {"backbone": name, "batch": batch, **_measured(ours, theirs, device, batch, repeats, steps)}


def _recipe(shards: Path, name: str, batch: int, threads: int) -> Recipe:
    """The recipe of our side."""
    optim = {"lr": 1e-4, "lr_fusion": 1e-4, "warmup": 0.0, "weight_decay": 0.0, "ema": 0.0}
    model: dict[str, Any] = {"modality": "graph", "fusion": "none"}
    if name == FUSED:
        model = {"modality": "both", "fusion": "gate", "dropout": 0.0}
    model["backbone"] = SETTINGS[name].model_dump()
    train = {"batch": batch, "precision": "fp32", "threads": threads, "epochs": 1000, "optim": optim}
    return Recipe.model_validate(
        {
            "targets": [_target(shards)],
            "data": {"shards": shards},
            "text": {"mode": "full", "fields": ["iupac_name"], "field_tokens": NAME_TOKENS},
            "model": model,
            "train": {**train, "checkpoint_every": 10**9},
        }
    )


def _sides(
    shards: Path, name: str, batch: int, threads: int, folder: Path
) -> tuple[Side, Side, torch.device]:
    """Build both sides; ours has a run directory in `folder`."""
    inputs = open_inputs(_recipe(shards, name, batch, threads), verify=False)
    paths, ranks = RunDir(folder), init_distributed(threads)
    paths.logs.mkdir()
    watch = HangWatchdog(paths, ranks.rank, ranks.world, inputs.recipe.train.timeout)
    setting = Setting(paths, inputs, ranks, Progress("bench", quiet=True), Deadline(None), watch)
    built = build(setting)
    state = TrainState(tables=tables_allowed(inputs.recipe))
    trainer = Trainer(make_context(setting, built, state), state, built.average)
    own = _steps(built.batches)

    def forward(step: Step) -> Tensor:
        return built.engine.module(step.micro[0].to(ranks.device))[0]

    theirs = _pyg(SETTINGS[name], inputs, batch, ranks.device)
    return Side(lambda: next(own), forward, trainer.once), theirs, ranks.device


def _pyg(backbone: BackboneConfig, inputs: Inputs, batch: int, device: torch.device) -> Side:
    from torch_geometric.loader import DataLoader

    rows, tokens = inputs.split["train"][:MOST_DATA], inputs.tokens(lambda *_: None)
    order = Loader(inputs.shards, rows, inputs.recipe.targets, tokens, batch=len(rows), shuffle=False)
    molecules = next(order.epoch()).micro[0]
    peer = pyg_peer(backbone)
    if inputs.files is not None:
        from mmgnn_dist.bench.text_peer import FusedPeer

        assert isinstance(peer, PygSchNetPeer)
        peer = FusedPeer(peer, inputs.files.folder)
    peer = peer.to(device)
    step = pyg_step(peer, molecules.y[:, 0].numpy())
    theirs = endless(
        DataLoader(pyg_data(molecules, backbone.model_dump()["cutoff"]), batch, shuffle=True, drop_last=True)
    )
    return Side(lambda: next(theirs), lambda data: peer(data.to(device)), lambda data: step(data.to(device)))


def _target(shards: Path) -> str:
    from mmgnn_dist.data.shardset.shards import ShardSet

    targets = ShardSet.open(shards, verify=False).targets
    return "gap" if "gap" in targets else targets[0]


def _steps(loader: Loader) -> Iterator[Step]:
    epoch = 0
    while True:
        yield from loader.epoch(epoch)
        epoch += 1


def _measured(
    ours: Side, theirs: Side, device: torch.device, batch: int, repeats: int, steps: int
) -> dict[str, Any]:
    """Measure all parts of both sides in turns."""
    clock, sides = clock_of(device), {"mmgnn": ours, "pyg": theirs}
    flop = {name: side.flop() for name, side in sides.items()}
    seconds: dict[str, dict[str, list[float]]] = {name: {part: [] for part in PARTS} for name in sides}
    matmul = []
    for repeat in range(repeats + 1):
        for name, side in sides.items():
            times = _turn(side, clock, steps)
            for part in PARTS if repeat else ():  # the first turns warm the caches
                seconds[name][part].append(times[part])
        matmul.append(matmul_rate(device, clock))
    floor = statistics.median(matmul)
    result: dict[str, Any] = {"matmul_flop_per_second": floor, "ratio": {}}
    for name, parts in seconds.items():
        rates = {part: batch / statistics.median(times) for part, times in parts.items()}
        share = flop[name] / batch * rates["step"] / floor
        result[name] = {**rates, "flop_per_molecule": flop[name] / batch, "share_of_matmul": share}
    for part in PARTS:
        pairs = zip(seconds["pyg"][part], seconds["mmgnn"][part], strict=True)
        result["ratio"][part] = statistics.median(peer / own for peer, own in pairs)
    return result


def _turn(side: Side, clock: Callable[[], float], steps: int) -> dict[str, float]:
    """Seconds of a step and of its parts, each the mean of some steps."""
    marks = [clock()]
    loaded = [side.load() for _ in range(steps)]
    marks.append(clock())
    for batch in loaded:
        side.forward(batch)
    marks.append(clock())
    for _ in range(steps):
        side.step(side.load())
    marks.append(clock())
    return {part: (marks[k + 1] - marks[k]) / steps for k, part in enumerate(PARTS)}


def train_bench_markdown(result: dict[str, Any]) -> str:
    """Return the result of `train_bench` as a Markdown table, with the machine and the command."""
    about = result["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    lines = [
        f"{about['device']} ({about['instructions']}), {about['threads']} of {about['cores']} cores; "
        f"{versions}; `{result['command']}`",
        "",
        "| backbone | batch | loader / s | forward / s | step / s | PyG: loader | forward | step "
        "| step, × PyG | forward, × PyG | of matmul | PyG's |",
        "|---|" + "---|" * 11,
    ]
    for case in result["cases"]:
        rates = [f"{case[side][part]:,.0f}" for side in ("mmgnn", "pyg") for part in PARTS]
        ratios = [f"{case['ratio'][part]:.2f}" for part in ("step", "forward")]
        shares = [f"{case[side]['share_of_matmul']:.0%}" for side in ("mmgnn", "pyg")]
        lines.append(f"| {' | '.join([case['backbone'], str(case['batch']), *rates, *ratios, *shares])} |")
    lines += ["", "Rates in molecules/s. of matmul: matrix products of a step by the rate of one large one."]
    return "\n".join(lines)
