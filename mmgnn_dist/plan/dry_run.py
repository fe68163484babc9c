"""What a run would cost, from its recipe and one real batch: `mmgnn train RECIPE --dry-run`.

All checks of a run are made and one micro-batch of its own shard set is measured; nothing is trained and
nothing written but missing token sidecars of the shard set, which the run would write too. A frozen encoder
is no part of training: its vectors are computed once for a shard set. `memory.py` says what each rank holds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from mmgnn_dist.config import Recipe
from mmgnn_dist.data.loading.batch import Batch
from mmgnn_dist.data.text.token_cache import TokenSet
from mmgnn_dist.models.cost import activation_bytes, count_flops, count_parameters
from mmgnn_dist.models.fused import FusedModel, TextSource
from mmgnn_dist.models.text_encoder.encoder import TextEncoder
from mmgnn_dist.plan.memory import memory
from mmgnn_dist.plan.records import FrozenEncoderCost, RunSummary
from mmgnn_dist.progress import Progress
from mmgnn_dist.train.engine import compute_type
from mmgnn_dist.train.inputs import Inputs, open_inputs
from mmgnn_dist.train.optim.optimizers import optimizer_of
from mmgnn_dist.train.optim.schedule import total_steps
from mmgnn_dist.train.ranks import Ranks, init_distributed
from mmgnn_dist.train.session import plan_runs

SAMPLE = 50  # steps whose tokens are averaged


def summarise_recipe(recipe: Recipe, folder: Path, nproc: int, quiet: bool) -> list[RunSummary]:
    """Cost of a recipe and of each of its twins, after all checks that training makes.

    Args:
        recipe: the recipe.
        folder: its run directory, which is not made.
        nproc: ranks.
        quiet: no progress.

    Returns:
        For each run, in this order: parameters and trainable ones by branch; `flop` (2 a multiply-add) per
        molecule and token; bytes on each rank by what they hold; steps; the batch that was measured.

    Raises:
        UserError: for whatever training would refuse.
    """
    planned = plan_runs(recipe, folder)
    ranks = Ranks(0, nproc, init_distributed(recipe.train.threads).device)
    with Progress("summary", quiet) as progress:
        return [
            summary_of(open_inputs(part, verify=False), ranks, progress, compute_type(part, ranks.device))
            for part in planned.values()
        ]


@dataclass
class Measured:
    """A pass over one micro-batch: operations forward by branch and in all, bytes kept for backward, time.

    `seconds` is infinite where it was not measured.
    """

    forward: dict[str, int]
    training: int
    activations: int
    seconds: float


def summary_of(
    inputs: Inputs, ranks: Ranks, progress: Progress, autocast: torch.dtype | None, timed: bool = False
) -> RunSummary:
    """The cost of one recipe, as `summarise_recipe` gives it.

    Args:
        inputs: of the recipe.
        ranks: among which a step is shared.
        progress: of token sidecars.
        autocast: type in which the language model computes, None for float32.
        timed: measure `seconds_per_pass` too, forward and backward.
    """
    recipe, train, text = inputs.recipe, inputs.recipe.train, inputs.recipe.text
    tokens = inputs.tokens(progress)
    loader = inputs.training(tokens, ranks)
    source, frozen = None, None
    if tokens is not None and inputs.files is not None:
        if text.mode == "frozen":
            frozen = TextEncoder(inputs.files, text, tokens.blank).eval().to(ranks.device)
        source = TextSource(inputs.files, tokens.blank, frozen.width if frozen else None)
    model = inputs.model(source, autocast).to(ranks.device)
    batch = next(loader.epoch(0)).micro[0].to(ranks.device)
    measured = _measure(model, batch, frozen.width if frozen else None, timed)
    parameters = count_parameters(model.named_parameters())
    total, trainable = (sum(column) for column in zip(*parameters.values(), strict=True))
    largest = max(p.numel() for p in model.parameters() if p.requires_grad)
    held = memory(
        total,
        trainable,
        largest,
        measured.activations,
        train.zero_stage,
        ranks.world,
        train.offload,
        loader.passes,
        optimizer_of(recipe).state_bytes,
    )
    words = len(batch.tokens)
    encoder = measured.forward.get("text_encoder")
    summary: RunSummary = {
        "name": recipe.name,
        "modality": recipe.model.modality,
        "backbone": recipe.model.backbone.name,
        "text": {"encoder": text.encoder, "mode": text.mode} if source else None,
        "device": str(ranks.device),
        "precision": "bf16" if autocast and model.encoder is not None else "fp32",
        "ranks": ranks.world,
        "zero_stage": train.zero_stage,
        "parameters": {
            branch: {"total": own, "trainable": learns}
            for branch, (own, learns) in (parameters | {"all": (total, trainable)}).items()
        },
        "flop": {
            "forward_per_molecule": sum(measured.forward.values()) / batch.size,
            "training_per_molecule": measured.training / batch.size,
            "forward_per_molecule_by_branch": {b: n / batch.size for b, n in measured.forward.items()},
            "text_forward_per_token": encoder / words if encoder and words else None,
        },
        "largest_parameter": largest,
        "memory_bytes_per_rank": held.device | {"peak": held.peak},
        "steps": {
            "per_epoch": loader.steps_per_epoch,
            "total": total_steps(train, loader.steps_per_epoch),
            "molecules_per_step": len(loader.rows) / loader.steps_per_epoch,
            "tokens_per_step": _tokens_per_step(inputs, tokens, ranks.device),
            "passes_per_step": loader.passes,
        },
        "measured_on": {"molecules": batch.size, "atoms": len(batch.z), "tokens": words},
    }
    if timed:
        summary["seconds_per_pass"] = measured.seconds
    if frozen is not None:
        summary["frozen_encoder"] = _once(frozen, batch)
    return summary


def _measure(model: FusedModel, batch: Batch, width: int | None, timed: bool) -> Measured:
    """Run the model as training does; `width` of a frozen encoder's vectors, which may be anything."""
    model.train()
    vectors = torch.zeros(batch.size, width, device=batch.z.device) if width else None
    there = [*model.parameters(), *model.buffers(), *(getattr(batch, f.name) for f in fields(batch))]

    def forward() -> Tensor:
        return model(batch, vectors)[0]

    activations = activation_bytes(forward, there if vectors is None else [*there, vectors])
    flop = count_flops(model, forward)
    return Measured(*flop, activations, min(_times(forward)) if timed else float("inf"))


def _times(forward: Callable[[], Tensor], repeats: int = 2) -> list[float]:
    """Seconds of passes forward and backward; the first one, in which kernels are chosen, does not count."""
    seconds = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        out = forward().sum()
        out.backward()
        out.item()  # waits for a GPU
        seconds.append(time.perf_counter() - begin)
    return seconds[1:]


def _once(encoder: TextEncoder, batch: Batch) -> FrozenEncoderCost:
    """Size and cost of a frozen encoder."""
    with torch.no_grad():
        _, flop = count_flops(encoder, lambda: encoder(batch.tokens, batch.token_ptr)[0])
    return {
        "parameters": sum(p.numel() for p in encoder.parameters()),
        "flop_per_molecule": flop / batch.size,
        "flop_per_token": flop / len(batch.tokens) if len(batch.tokens) else None,
    }


def _tokens_per_step(inputs: Inputs, tokens: TokenSet | None, device: torch.device) -> float:
    """Tokens of a global batch, the mean over some of them."""
    steps = list(islice(inputs.training(tokens, Ranks(0, 1, device)).epoch(0), SAMPLE))
    return sum(len(batch.tokens) for step in steps for batch in step.micro) / len(steps)
