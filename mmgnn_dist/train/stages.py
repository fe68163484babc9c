"""The stages of a run, in order: build, resume, fit, test, record.

    build    make text, scaler, model and engine from recipe and data
    resume   load state and weights of the newest complete checkpoint, if any
    fit      run the training loop to its end or to a stop
    test     apply the exported model to the test part
    record   write results, plots and the last line of the journal

All ranks go through the same stages; the first rank writes the files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmgnn_dist.data.loading.loader import Loader
from mmgnn_dist.data.shardset.shards import MANIFEST
from mmgnn_dist.errors import EXIT_DONE, EXIT_STOPPED
from mmgnn_dist.files import read_json, sha256, write_json
from mmgnn_dist.models.fused import FusedModel
from mmgnn_dist.models.matched import trainable
from mmgnn_dist.models.readout import Scaler
from mmgnn_dist.models.table_watch import tables_allowed
from mmgnn_dist.models.zero3 import gathered, is_sharded
from mmgnn_dist.progress import Progress
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.run_records import (
    CheckpointAbout,
    DataRecord,
    EncoderIdentity,
    ExportRecord,
    ModelSize,
    RunFacts,
    SizeRecord,
)
from mmgnn_dist.signals import Stopped
from mmgnn_dist.train.checkpoint import store as checkpoint
from mmgnn_dist.train.checkpoint.export import (
    encoder_identity,
    export_model,
    fingerprint,
    learned_from,
    load_export,
    unseen_elements,
)
from mmgnn_dist.train.checkpoint.writer import Saver
from mmgnn_dist.train.deadline import Deadline
from mmgnn_dist.train.engine import BatchPlan, compute_type, deepspeed_config, make_engine, zero_init
from mmgnn_dist.train.evaluate import Predictions, predict
from mmgnn_dist.train.guards import HangWatchdog
from mmgnn_dist.train.inputs import Inputs, fit_scaler
from mmgnn_dist.train.loop import TrainContext, Trainer, TrainState
from mmgnn_dist.train.optim.ema import Average
from mmgnn_dist.train.optim.optimizers import optimizer_of
from mmgnn_dist.train.provenance import versions
from mmgnn_dist.train.ranks import Ranks
from mmgnn_dist.train.report.results import write_results
from mmgnn_dist.train.text_data import TextData, open_text_data
from mmgnn_dist.train.tracking.journal import Journal
from mmgnn_dist.train.tracking.wandb_sink import Wandb, run_id


@dataclass(frozen=True)
class Setting:
    """Directory, inputs and ranks of a run.

    Attributes:
        run: run directory.
        inputs: recipe and data.
        ranks: this process among all ranks.
        progress: progress on the terminal.
        deadline: time by which the run must end.
        watch: watchdog of this rank.
    """

    run: RunDir
    inputs: Inputs
    ranks: Ranks
    progress: Progress
    deadline: Deadline
    watch: HangWatchdog


@dataclass(frozen=True)
class Built:
    """The objects that `build` makes.

    Attributes:
        text: text data of the run.
        scaler: scaler of the targets, in host memory.
        batches: loader of the training part.
        plan: division of a global batch.
        model: the model with initial weights.
        autocast: type in which the language model computes, None for float32.
        engine: DeepSpeed engine of the model.
        average: averaged weights.
        size: number of trainable parameters, and the number to match.
        encoder: identity of the language model.
    """

    text: TextData
    scaler: Scaler
    batches: Loader
    plan: BatchPlan
    model: FusedModel
    autocast: torch.dtype | None
    engine: Any
    average: Average
    size: ModelSize
    encoder: EncoderIdentity | None

    @property
    def precision(self) -> str:
        """The precision of the language model, named as in recipes."""
        return "bf16" if self.autocast else "fp32"


@dataclass(frozen=True)
class Tested:
    """Result of `test` on the first rank.

    Attributes:
        predictions: predictions for the test part.
        about: description of the export.
        weights: fingerprint of the final weights.
        averaged_weights: fingerprint of the averaged weights.
    """

    predictions: Predictions
    about: ExportRecord
    weights: str
    averaged_weights: str


def train_stages(setting: Setting) -> int:
    """Go through all stages; return the exit code: done, or stopped cleanly.

    Raises:
        Stopped: a stop signal came before training began.
        UserError: the input is wrong.
    """
    progress = setting.progress
    built = build(setting)
    state, checkpoint_dir = resume(setting, built)
    context = make_context(setting, built, state)
    sink = record_start(setting, built, context, state, checkpoint_dir)
    finished = fit(context, state, built.average)
    tested = test(setting, built) if finished else None
    setting.watch.stop()  # the first rank does the rest alone, and an upload may take long
    if tested:
        record_end(setting, built, context, state, tested)
    if sink:
        sink.finish(read_json(setting.run.metrics) if finished else None)
    if not finished:
        progress.say(f"stopped at step {state.step}; the same command continues")
    return EXIT_DONE if finished else EXIT_STOPPED


def build(setting: Setting) -> Built:
    """Make text, scaler, model and engine.

    Raises:
        Stopped: a stop signal came meanwhile; finished text sidecars stay.
        UserError: a batch cannot be divided among these ranks, or text cannot be read or made.
    """
    inputs, ranks = setting.inputs, setting.ranks
    recipe, matched = inputs.recipe, inputs.matched
    autocast = compute_type(recipe, ranks.device)
    inputs.training(None, ranks)  # refuses a batch that cannot be divided among these ranks, before any work
    text = open_text_data(inputs, ranks, setting.progress, setting.run.verified)
    if ranks.stop_asked():
        raise Stopped
    ranks.beat("building the model")
    scaler = fit_scaler(inputs)
    batches = inputs.training(text.tokens, ranks)
    plan = BatchPlan(recipe.train.batch, batches.passes, ranks.world)
    with zero_init(recipe, plan, ranks.device):
        model = inputs.model(text.source, autocast)
    size: ModelSize = {"parameters": trainable(model), "matched_to": matched.wanted if matched else None}
    ranks.beat("starting DeepSpeed")
    engine = make_engine(model, recipe, plan, ranks.device)
    average, encoder = Average(model), encoder_identity(inputs.files)
    return Built(text, scaler, batches, plan, model, autocast, engine, average, size, encoder)


def resume(setting: Setting, built: Built) -> tuple[TrainState, Path | None]:
    """Load the newest complete checkpoint.

    Returns:
        The state to continue from, and the checkpoint, None without one.

    Raises:
        UserError: no checkpoint is complete, or it was written with another encoder.
    """
    ranks = setting.ranks
    ranks.beat("looking for a checkpoint")
    checkpoint_dir = checkpoint.agreed_newest(setting.run.checkpoints, ranks)
    if checkpoint_dir is None:
        return TrainState(tables=tables_allowed(setting.inputs.recipe)), None
    ranks.beat("reading the checkpoint")
    # the weights are mapped from a file, and NFS cannot remove a mapped file: drop them after this call
    values, weights = checkpoint.load(checkpoint_dir, built.engine, ranks, built.encoder)
    built.average.restore(weights)
    return TrainState(**values), checkpoint_dir


def make_context(setting: Setting, built: Built, state: TrainState) -> TrainContext:
    """Make the context of the loop; the first rank opens the journal at the step of the state."""
    run, inputs, ranks = setting.run, setting.inputs, setting.ranks
    train = inputs.recipe.train
    about: CheckpointAbout = {
        **inputs.origin,
        "wandb_id": run_id(run.path) if ranks.is_rank0 else None,
        "versions": versions(),
        "zero_stage": train.zero_stage,
        "encoder": built.encoder,
    }
    state_bytes = optimizer_of(inputs.recipe).state_bytes
    return TrainContext(
        recipe=inputs.recipe,
        run=run,
        ranks=ranks,
        engine=built.engine,
        plan=built.plan,
        scaler=built.scaler.to(ranks.device),
        train=built.batches,
        validation=inputs.ordered("val", built.text.tokens, ranks),
        embeddings=built.text.embeddings,
        metrics=inputs.metrics,
        units=inputs.units,
        journal=Journal(run.journal, state.step) if ranks.is_rank0 else None,
        progress=setting.progress,
        export=_exporter(setting, built),
        saver=Saver(run.checkpoints, built.engine, ranks, train.keep_checkpoints, about, state_bytes),
        deadline=setting.deadline,
    )


def _exporter(setting: Setting, built: Built) -> Callable[[TrainState], None]:
    """Make the function that exports the model with its current weights."""
    inputs, targets = setting.inputs, setting.inputs.recipe.targets
    learned = learned_from(inputs.shards, inputs.split["train"])

    def export(best: TrainState) -> None:
        about: ExportRecord = {
            "step": best.step,
            "score": best.best,
            "targets": inputs.metrics,
            "backbone": _backbone(inputs),
            "encoder": built.encoder,
            "units": dict(zip(targets, inputs.units, strict=True)),
            "kinds": dict(zip(targets, inputs.kinds, strict=True)),
            "learned_from": learned,
        }
        export_model(setting.run, built.model, built.scaler, about, setting.ranks.is_rank0)

    return export


def _backbone(inputs: Inputs) -> dict[str, Any]:
    """Return the backbone as built, with the width of `width_matched`."""
    return inputs.built.model.backbone.model_dump(mode="json")


def record_start(
    setting: Setting, built: Built, context: TrainContext, state: TrainState, found: Path | None
) -> Wandb | None:
    """Write the records of the run on the first rank; return the W&B sink of its journal, if any."""
    run, inputs, ranks = setting.run, setting.inputs, setting.ranks
    recipe, shards = inputs.recipe, inputs.shards
    if not ranks.is_rank0:
        return None
    write_json(run.versions, versions())
    write_json(run.deepspeed, deepspeed_config(recipe, built.plan))
    size: SizeRecord = {**built.size, "backbone": _backbone(inputs)}
    write_json(run.size, size)
    manifest = sha256(shards.path / MANIFEST)
    data: DataRecord = {"shards": str(shards.path), "manifest_sha256": manifest, **inputs.origin}
    write_json(run.data, data)
    sink = Wandb(recipe, run.path) if recipe.track.wandb != "disabled" else None
    if sink:
        context.sink = sink
    kind = "resume" if found else "start"
    context.write(kind, step=state.step, world=ranks.world, precision=built.precision)
    if found:
        setting.progress.say(f"continuing at step {state.step} from {found}")
        if (writers := read_json(found / checkpoint.CHECKPOINT_MANIFEST)["world"]) != ranks.world:
            taken = "is converted for" if recipe.train.zero_stage else "is read whole by"
            setting.progress.say(f"it was written by {writers} ranks and {taken} {ranks.world}")
    return sink


def fit(context: TrainContext, state: TrainState, average: Average) -> bool:
    """Train; return whether training reached its end and no rank was asked to stop since."""
    trainer = Trainer(context, state, average)
    try:
        return trainer.run() and not context.ranks.stop_asked()
    finally:
        context.saver.close()


def test(setting: Setting, built: Built) -> Tested | None:
    """Apply the exported model to the test part; return the result on the first rank, else None.

    Raises:
        UserError: the export cannot be read.
    """
    inputs, ranks, model, text = setting.inputs, setting.ranks, built.model, built.text
    last = ((n, p) for n, p in sorted(model.named_parameters()) if p.requires_grad)
    weights = fingerprint(gathered(last))
    averaged = fingerprint(sorted(built.average.whole(ranks.is_rank0).items()))
    best, scaler, about = load_export(
        setting.run, inputs.recipe, inputs.forms, text.source, into=model if is_sharded(model) else None
    )
    predictions = predict(
        best.to(ranks.device),
        inputs.ordered("test", text.tokens, ranks),
        scaler.to(ranks.device),
        ranks,
        text.embeddings,
        inputs.recipe.train.save_vectors,
    )
    return Tested(predictions, about, weights, averaged) if predictions else None


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
    if warning := unseen_elements(tested.about, setting.inputs.shards, tested.predictions.rows):
        setting.progress.say(warning)
    context.write("end", step=state.step, **read_json(setting.run.metrics)["metrics"])
