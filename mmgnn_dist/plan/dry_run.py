"""Cost of a run, from its recipe and one real batch: `mmgnn train RECIPE --dry-run`.

A dry run makes all checks of a run and counts one micro-batch of its shard set, on tensors without memory
(`without_memory.py`). It trains nothing, and it writes only missing token sidecars of the shard set, as the
run itself would. The cost of a frozen encoder is reported apart from training, because its vectors are
computed once for a shard set. `memory.py` estimates the memory of each rank.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from mmgnn_dist.config import Recipe
from mmgnn_dist.data.loading.batch import Batch
from mmgnn_dist.data.text.token_cache import TokenSet
from mmgnn_dist.models.cost import activation_bytes, count_flops, count_parameters
from mmgnn_dist.models.fused import FusedModel, TextSource
from mmgnn_dist.models.ready import ready_step
from mmgnn_dist.models.text_encoder.encoder import TextEncoder
from mmgnn_dist.plan.memory import FROZEN_BYTES, memory, pinned_rounding
from mmgnn_dist.plan.records import FrozenEncoderCost, RunSummary
from mmgnn_dist.plan.without_memory import WithoutMemory
from mmgnn_dist.progress import Progress
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.train.engine import compute_type
from mmgnn_dist.train.inputs import Inputs, open_inputs
from mmgnn_dist.train.optim.optimizers import optimizer_of
from mmgnn_dist.train.optim.schedule import total_steps
from mmgnn_dist.train.ranks import Ranks, init_distributed
from mmgnn_dist.train.session import plan_runs

SAMPLE = 50  # steps over which the number of tokens is averaged


def summarise_recipe(recipe: Recipe, folder: Path, nproc: int, quiet: bool) -> list[RunSummary]:
    """Compute the cost of a recipe and of each of its twins, after all checks that training makes.

    Args:
        recipe: the recipe.
        folder: its run directory; it is not created.
        nproc: number of ranks.
        quiet: show no progress.

    Returns:
        One summary a run, the recipe first: total and trainable parameters by branch; `flop` (a multiply-add
        counts 2) per molecule and token; bytes on each rank by use; steps; the measured batch.

    Raises:
        UserError: training would refuse the recipe.
    """
    planned = plan_runs(recipe, folder)
    ranks = Ranks(0, nproc, init_distributed(recipe.train.threads).device)
    with Progress("summary", quiet) as progress:
        return [
            summary_of(
                open_inputs(part, verify=False, run=RunDir(run)),
                ranks,
                progress,
                compute_type(part, ranks.device),
            )
            for run, part in planned.items()
        ]


@dataclass
class Measured:
    """Counts of one pass over a micro-batch.

    Attributes:
        forward: FLOP of the forward pass by branch.
        training: FLOP of forward and backward pass.
        activations: bytes kept for the backward pass.
    """

    forward: dict[str, int]
    training: int
    activations: int


def summary_of(inputs: Inputs, ranks: Ranks, progress: Progress, autocast: torch.dtype | None) -> RunSummary:
    """Compute the cost of one recipe, as in `summarise_recipe`.

    Args:
        inputs: inputs of the recipe.
        ranks: the ranks that share a step.
        progress: progress of writing token sidecars.
        autocast: type in which the language model computes, None for float32.
    """
    recipe, train, text = inputs.recipe, inputs.recipe.train, inputs.recipe.text
    tokens = inputs.tokens(progress)
    loader = inputs.training(tokens, ranks)
    source, frozen, sizes = None, None, WithoutMemory()
    with sizes:
        if tokens is not None and inputs.files is not None:
            files = replace(inputs.files, random=inputs.files.random or {})  # reads no weights
            if text.mode == "frozen":
                frozen = TextEncoder(files, text, tokens.blank).eval()
            source = TextSource(files, tokens.blank, frozen.width if frozen else None)
        model = inputs.model(source, autocast)
    for made in (model, *([frozen] if frozen is not None else [])):
        sizes.hollow(made)
    batch = sizes.emptied(ready_step(next(loader.epoch(0)), model.backbone, pinned=False).micro[0])
    with sizes:
        measured = _measure(model, batch, frozen.width if frozen else None)
        once = _once(frozen, batch) if frozen is not None else None
    parameters = count_parameters(model.named_parameters())
    total, trainable = (sum(column) for column in zip(*parameters.values(), strict=True))
    largest = max(p.numel() for p in model.parameters() if p.requires_grad)
    memory_use = memory(
        total,
        trainable,
        largest,
        measured.activations,
        train.zero_stage,
        ranks.world,
        train.offload,
        loader.passes,
        optimizer_of(recipe).state_bytes,
        frozen_bytes=FROZEN_BYTES[text.frozen_precision],
    )
    token_count = len(batch.tokens)
    encoder_flop = measured.forward.get("text_encoder")
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
            branch: {"total": branch_total, "trainable": branch_trainable}
            for branch, (branch_total, branch_trainable) in (parameters | {"all": (total, trainable)}).items()
        },
        "flop": {
            "forward_per_molecule": sum(measured.forward.values()) / batch.size,
            "training_per_molecule": measured.training / batch.size,
            "forward_per_molecule_by_branch": {b: n / batch.size for b, n in measured.forward.items()},
            "text_forward_per_token": encoder_flop / token_count if encoder_flop and token_count else None,
        },
        "largest_parameter": largest,
        "pinned_rounding": pinned_rounding(model.parameters()),
        "memory_bytes_per_rank": memory_use.device | {"peak": memory_use.peak},
        "steps": {
            "per_epoch": loader.steps_per_epoch,
            "total": total_steps(train, loader.steps_per_epoch),
            "molecules_per_step": len(loader.rows) / loader.steps_per_epoch,
            "tokens_per_step": _tokens_per_step(inputs, tokens, ranks.device),
            "passes_per_step": loader.passes,
        },
        "measured_on": {"molecules": batch.size, "atoms": len(batch.z), "tokens": token_count},
    }
    if once is not None:
        summary["frozen_encoder"] = once
    return summary


def _measure(model: FusedModel, batch: Batch, width: int | None) -> Measured:
    """Run the model as in training; vectors of a frozen encoder (`width` numbers each) are zeros here."""
    model.train()
    vectors = torch.zeros(batch.size, width) if width else None
    existing = [*model.parameters(), *model.buffers(), *batch.tensors().values()]

    def forward() -> Tensor:
        return model(batch, vectors)[0]

    activations = activation_bytes(forward, existing if vectors is None else [*existing, vectors])
    return Measured(*count_flops(model, forward), activations)


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
    """Mean number of tokens in a global batch, over the first `SAMPLE` batches of an epoch."""
    steps = list(islice(inputs.training(tokens, Ranks(0, 1, device)).epoch(0), SAMPLE))
    return sum(len(batch.tokens) for step in steps for batch in step.micro) / len(steps)
