"""Recomputation of steps of a run in a temporary folder, by the same stages and the same loop as training.

The folder has the `recipe.yaml` of the run and a `replay.json`, and gets a journal of its own. Every rank
calls `replay`; the launcher uses `python -m mmgnn_dist.train.verify.replay DIR`. Checkpoints are read where
they lie, and never written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

import torch
from torch import nn

from mmgnn_dist.config import load_stored_recipe
from mmgnn_dist.errors import EXIT_DONE, UserError
from mmgnn_dist.files import read_json
from mmgnn_dist.models.fused import FusedModel
from mmgnn_dist.models.table_watch import tables_allowed
from mmgnn_dist.models.zero3 import local_shard, repartition
from mmgnn_dist.progress import Progress
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.run_records import JournalLine
from mmgnn_dist.train.checkpoint import store as checkpoint
from mmgnn_dist.train.checkpoint.train_state import TrainState
from mmgnn_dist.train.deadline import Deadline
from mmgnn_dist.train.guards import HangWatchdog
from mmgnn_dist.train.inputs import open_inputs
from mmgnn_dist.train.loop import Trainer
from mmgnn_dist.train.provenance import conditions
from mmgnn_dist.train.ranks import init_distributed, set_deterministic, uses_gpus
from mmgnn_dist.train.run import end_rank, work_as_rank
from mmgnn_dist.train.stages.build import Built, build
from mmgnn_dist.train.stages.context import make_context
from mmgnn_dist.train.stages.setting import Setting
from mmgnn_dist.train.verify.compare import ROUNDED, difference, other_weights
from mmgnn_dist.train.verify.records import STEPS, read_record


class ReplayRequest(TypedDict):
    """`replay.json`: what to recompute.

    Attributes:
        run: directory of the run.
        checkpoint: checkpoint to begin from; None: the start of the run.
        last: last step.
        disturbed: begin with weights that are rounded once (see `compare`).
    """

    run: str
    checkpoint: str | None
    last: int
    disturbed: bool


def replay(folder: Path, quiet: bool = False) -> int:
    """Recompute the steps of a request into the journal of a temporary folder; return the exit code.

    The journal begins with a line `start` that has the conditions of this recomputation. It ends early where
    the weights of the checkpoint are not those of the run, or where bits differ that must be equal.

    Args:
        folder: the temporary folder.
        quiet: show no progress on the terminal.

    Raises:
        UserError: these ranks cannot compute the steps of the run again.
    """
    paths = RunDir(folder)
    recipe = load_stored_recipe(paths.recipe)
    request: ReplayRequest = read_json(paths.replay)
    set_deterministic(recipe.train.deterministic or not uses_gpus())
    ranks = init_distributed(recipe.train.threads, recipe.train.timeout)
    paths.logs.mkdir(exist_ok=True)
    inputs = open_inputs(recipe, verify=False)  # all files have just been read
    watch = HangWatchdog(paths, ranks.rank, ranks.world, recipe.train.timeout)
    with watch, Progress("verify", quiet or not ranks.is_rank0) as progress:
        ranks = replace(ranks, beat=watch.beat, alive=watch.alive)
        setting = Setting(paths, inputs, ranks, progress, Deadline(None), watch)
        built = build(setting)
        state = TrainState(tables=tables_allowed(recipe))
        if request["checkpoint"] is not None:
            place = Path(request["checkpoint"])
            values, averaged = checkpoint.load(place, built.engine, ranks, built.encoder)
            built.average.restore(averaged)
            state = TrainState(**values)
        record = read_record(RunDir(Path(request["run"])))
        steps = record.steps
        here = conditions(recipe, ranks.device)
        start: JournalLine = {
            "kind": "start",
            "step": state.step,
            "world": ranks.world,
            "precision": built.precision,
            "conditions": here,
        }
        starts = record.starts(state.step + 1, request["last"])
        _refuse_other_steps(start, starts, built.model)
        if request["disturbed"]:
            _round_once(built)
        context = make_context(setting, built, state)
        exact = not other_conditions(start, starts, recipe.train.deterministic)
        differs = [False]

        def watch_line(line: JournalLine) -> None:
            recorded = steps.get(line["step"])
            if line["kind"] in STEPS and recorded is not None and not request["disturbed"]:
                other = difference if exact else other_weights
                if exact or line["step"] == start["step"] + 1:
                    differs[0] |= other(recorded, line) is not None

        context.write("start", **{key: value for key, value in start.items() if key != "kind"})
        context.sink = watch_line
        trainer = Trainer(context, state, built.average)
        hashed = [step - 1 for step, line in steps.items() if "weights_hash" in line]
        trainer.proof.also = frozenset(hashed)
        try:
            trainer.until(request["last"], lambda: differs[0])
        finally:
            context.saver.close()
    return EXIT_DONE


def other_conditions(here: JournalLine, starts: Sequence[JournalLine], deterministic: bool) -> list[str]:
    """Return why the bits of a recomputation may differ from those of the run; empty if they must be equal.

    Args:
        here: the line `start` of the recomputation.
        starts: lines of the starts in which the run made the steps.
        deterministic: whether the recipe demands operations that repeat bit for bit on GPUs.
    """
    reasons = [] if starts else ["the journal does not say how the run was started"]
    for start in starts:
        if start.get("world") != here["world"]:
            reasons.append(f"{here['world']} ranks here, {start.get('world')} in the run")
        if "conditions" not in start:
            reasons.append("the run, of an older version, does not say on which machine")
            continue
        for name, title in (("machine", ""), ("threads", "threads "), ("micro_batch", "train.micro_batch=")):
            ours, theirs = here["conditions"].get(name), start["conditions"].get(name)
            if ours != theirs:
                reasons.append(f"{title}{ours} here, {title}{theirs} in the run")
        ours, theirs = here["conditions"]["versions"], start["conditions"]["versions"]
        reasons += [
            f"{name} {ours.get(name)} here, {theirs.get(name)} in the run"
            for name in sorted(ours | theirs)
            if ours.get(name) != theirs.get(name)
        ]
    if uses_gpus() and not deterministic:
        reasons.append("train.deterministic=false on a GPU")
    return list(dict.fromkeys(reasons))


def _refuse_other_steps(here: JournalLine, starts: Sequence[JournalLine], model: FusedModel) -> None:
    """Refuse a recomputation that would make other steps than the run, not the same ones to rounding.

    Raises:
        UserError: the language model computes in another number type, or the ranks draw another dropout.
    """
    for start in starts:
        if start.get("precision", here["precision"]) != here["precision"]:
            raise UserError(
                f"the run computed its language model in {start['precision']}, this machine takes "
                f"{here['precision']}: verify it on a machine like that of the run"
            )
        if start.get("world", here["world"]) != here["world"] and _drops(model):
            raise UserError(
                f"the run had {start['world']} ranks, and every rank draws its own dropout: verify it with "
                f"--nproc {start['world']}, or steps of another start (--steps a:b)"
            )


def _drops(model: FusedModel) -> bool:
    model.train()
    return any(isinstance(part, nn.Dropout) and part.training and part.p > 0 for part in model.modules())


@torch.no_grad()
def _round_once(built: Built) -> None:
    """Change each weight at random by at most one rounding to float32, in the same way on all ranks."""
    generator = torch.Generator().manual_seed(1)
    trained = [p for p in built.model.parameters() if p.requires_grad]
    for parameter in trained:
        part = local_shard(parameter)
        drawn = torch.rand(part.shape, generator=generator).to(part.device)
        part.mul_(1.0 + 2.0 * ROUNDED * (2.0 * drawn - 1.0))
    repartition(trained)
    if built.engine.zero_optimization():
        built.engine.optimizer.refresh_fp32_params()


def main() -> int:
    """Recompute as a launched rank; return the exit code."""
    return work_as_rank(replay)


if __name__ == "__main__":
    end_rank(main())
