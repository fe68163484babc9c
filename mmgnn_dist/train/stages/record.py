"""The records of a run, written by the first rank before and after training."""

from __future__ import annotations

import time
from pathlib import Path

from mmgnn_dist.data.shardset.shards import MANIFEST
from mmgnn_dist.files import read_json, sha256, write_json
from mmgnn_dist.run_records import DataRecord, RunFacts, SizeRecord
from mmgnn_dist.train.checkpoint.export import unseen
from mmgnn_dist.train.checkpoint.store import CHECKPOINT_MANIFEST
from mmgnn_dist.train.checkpoint.train_state import TrainState
from mmgnn_dist.train.engine import deepspeed_config
from mmgnn_dist.train.provenance import conditions, versions
from mmgnn_dist.train.report.results import write_results
from mmgnn_dist.train.stages.build import Built
from mmgnn_dist.train.stages.final_test import Tested
from mmgnn_dist.train.stages.setting import Setting
from mmgnn_dist.train.stored.recipe import paths_from_run, read_data_record
from mmgnn_dist.train.tracking.guarded import GuardedSink
from mmgnn_dist.train.tracking.train_context import TrainContext
from mmgnn_dist.train.tracking.wandb_sink import guarded_wandb


def record_start(
    setting: Setting, built: Built, context: TrainContext, state: TrainState, found: Path | None
) -> GuardedSink | None:
    """Write the records of the run on the first rank; return the W&B sink of its journal, if any."""
    recipe, ranks = setting.inputs.recipe, setting.ranks
    if not ranks.is_rank0:
        return None
    _write_identity(setting, built)
    sink = guarded_wandb(recipe, setting.run.path, context.say_lost)
    if sink:
        context.sink = sink
    kind = "resume" if found else "start"
    context.write(
        kind,
        step=state.step,
        world=ranks.world,
        precision=built.precision,
        conditions=conditions(recipe, ranks.device),
        data=setting.inputs.origin,
        time=round(time.time(), 1),
        **({"lost": context.journal.lost} if context.journal and context.journal.lost else {}),
        **_left_out(built),
    )
    if found:
        _say_resumed(setting, state, found)
    return sink


def _left_out(built: Built) -> dict[str, dict[str, int]]:
    """Count the molecules that leave a text field out because of `text.total_tokens`, if there is one."""
    tokens = built.text.tokens
    return {} if tokens is None or tokens.total_tokens is None else {"text_left_out": tokens.left_out}


def _write_identity(setting: Setting, built: Built) -> None:
    """Write versions, DeepSpeed's configuration, the model's size and the identity of the data."""
    run, inputs, shards = setting.run, setting.inputs, setting.inputs.shards
    write_json(run.versions, versions())
    write_json(run.deepspeed, deepspeed_config(inputs.recipe, built.plan))
    size: SizeRecord = {**built.size, "backbone": inputs.backbone_values}
    write_json(run.size, size)
    manifest = sha256(shards.path / MANIFEST)
    begun = read_data_record(run)
    data: DataRecord = {
        "shards": begun["shards"] if begun else str(shards.path),
        **paths_from_run(run, inputs.recipe),
        "manifest_sha256": manifest,
        **inputs.origin,
    }
    write_json(run.data, data)


def _say_resumed(setting: Setting, state: TrainState, found: Path) -> None:
    """Say from which checkpoint the run continues, and whether it is converted for these ranks."""
    world, say = setting.ranks.world, setting.progress.say
    say(f"continuing at step {state.step} from {found}")
    if (writers := read_json(found / CHECKPOINT_MANIFEST)["world"]) != world:
        taken = "is converted for" if setting.inputs.recipe.train.zero_stage else "is read whole by"
        say(f"it was written by {writers} ranks and {taken} {world}")


def record_end(
    setting: Setting, built: Built, context: TrainContext, state: TrainState, tested: Tested
) -> None:
    """Write the results of a finished run."""
    facts: RunFacts = {
        "steps": state.step,
        "best_step": tested.about["step"],
        "skipped_steps": state.skipped,
        "seconds": round(state.seconds, 1),
        "world": setting.ranks.world,
        "precision": built.precision,
        **built.size,
        "weights": tested.weights,
        "averaged_weights": tested.averaged_weights,
    }
    write_results(setting.run.path, setting.inputs, tested.predictions, facts)
    for warning in unseen(tested.about, setting.inputs.shards, tested.predictions.rows):
        setting.progress.say(warning)
    context.write("end", step=state.step, **read_json(setting.run.metrics)["metrics"])
