"""The stages of a run, in their order: build, resume, fit, test, record.

    build    text, scaler, model, engine: all that follows from recipe and data
    resume   state and weights of the newest whole checkpoint, if there is one
    fit      the training loop, to its end or to a stop
    test     the exported model on the test part
    record   results, pictures, the last line of the journal

All ranks go through the same stages; what is written, the first one writes.
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
    """Where and with what a run is trained.

    Attributes:
        run: its directory.
        inputs: its recipe and data.
        ranks: who trains.
        progress: what people are told.
        deadline: when it has to stop.
        watch: of this rank.
    """

    run: RunDir
    inputs: Inputs
    ranks: Ranks
    progress: Progress
    deadline: Deadline
    watch: HangWatchdog


@dataclass(frozen=True)
class Built:
    """What `build` makes.

    Attributes:
        text: what is read of text.
        scaler: of the targets, in host memory.
        batches: of the training part.
        plan: how each is cut.
        model: with its start values.
        autocast: type in which its language model computes, None for float32.
        engine: DeepSpeed's, around the model.
        average: of its weights.
        size: trainable parameters, and how many were to be matched.
        encoder: what names its language model.
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
        """The type of the language model, as recipes name it."""
        return "bf16" if self.autocast else "fp32"


@dataclass(frozen=True)
class Tested:
    """What `test` finds on the first rank.

    Attributes:
        predictions: for the test part.
        about: what the export says of itself.
        weights: fingerprint of those at the end.
        averaged_weights: fingerprint of their averages.
    """

    predictions: Predictions
    about: ExportRecord
    weights: str
    averaged_weights: str


def train_stages(setting: Setting) -> int:
    """Go through all stages; returns the exit code: done, or stopped in order.

    Raises:
        Stopped: if a stop signal came before training began.
        UserError: for wrong input.
    """
    progress = setting.progress
    built = build(setting)
    state, found = resume(setting, built)
    context = make_context(setting, built, state)
    sink = record_start(setting, built, context, state, found)
    finished = fit(context, state, built.average)
    tested = test(setting, built) if finished else None
    setting.watch.stop()  # what is left the first rank does alone, and an upload may take its time
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
        Stopped: if a stop signal came meanwhile; sidecars of the text that are made stay.
        UserError: a batch that cannot be cut among these ranks, or text that cannot be read or made.
    """
    inputs, ranks = setting.inputs, setting.ranks
    recipe, matched = inputs.recipe, inputs.matched
    autocast = compute_type(recipe, ranks.device)
    inputs.training(None, ranks)  # a batch that cannot be cut among these ranks is refused before any work
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
    return Built(
        text,
        scaler,
        batches,
        plan,
        model,
        autocast,
        engine,
        average=Average(model),
        size=size,
        encoder=encoder_identity(inputs.files),
    )


def resume(setting: Setting, built: Built) -> tuple[TrainState, Path | None]:
    """Continue from the newest whole checkpoint.

    Returns:
        The state to go on from, and the checkpoint, None where there is none.

    Raises:
        UserError: none of the checkpoints is whole, or it was written with another encoder.
    """
    ranks = setting.ranks
    ranks.beat("looking for a checkpoint")
    found = checkpoint.agreed_newest(setting.run.checkpoints, ranks)
    if found is None:
        return TrainState(), None
    ranks.beat("reading the checkpoint")
    # the weights are mapped from a file, which NFS could not remove as long as they are: not beyond this call
    values, weights = checkpoint.load(found, built.engine, ranks, built.encoder)
    built.average.restore(weights)
    return TrainState(**values), found


def make_context(setting: Setting, built: Built, state: TrainState) -> TrainContext:
    """All that the loop works with; the journal is open at the state's step on the first rank."""
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
    """What writes the export, with the weights as they are when it is called."""
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
    """The backbone as it is built, as wide as `width_matched` makes it."""
    return inputs.built.model.backbone.model_dump(mode="json")


def record_start(
    setting: Setting, built: Built, context: TrainContext, state: TrainState, found: Path | None
) -> Wandb | None:
    """Write down on the first rank what the run is; returns where its journal is sent, if anywhere."""
    run, inputs, ranks = setting.run, setting.inputs, setting.ranks
    recipe, shards = inputs.recipe, inputs.shards
    if not ranks.is_rank0:
        return None
    write_json(run.versions, versions())
    write_json(run.deepspeed, deepspeed_config(recipe, built.plan))
    size: SizeRecord = {**built.size, "backbone": _backbone(inputs)}
    write_json(run.size, size)
    data: DataRecord = {
        "shards": str(shards.path),
        "manifest_sha256": sha256(shards.path / MANIFEST),
        **inputs.origin,
    }
    write_json(run.data, data)
    sink = Wandb(recipe, run.path) if recipe.track.wandb != "disabled" else None
    if sink:
        context.sink = sink
    kind = "resume" if found else "start"
    context.write(kind, step=state.step, world=ranks.world, precision=built.precision)
    if found:
        setting.progress.say(f"continuing at step {state.step} from {found}")
        if (wrote := read_json(found / checkpoint.CHECKPOINT_MANIFEST)["world"]) != ranks.world:
            taken = "is converted for" if recipe.train.zero_stage else "is read whole by"
            setting.progress.say(f"it was written by {wrote} ranks and {taken} {ranks.world}")
    return sink


def fit(context: TrainContext, state: TrainState, average: Average) -> bool:
    """Train; returns whether it came to its end, and no rank was asked to stop since."""
    trainer = Trainer(context, state, average)
    try:
        return trainer.run() and not context.ranks.stop_asked()
    finally:
        context.saver.close()


def test(setting: Setting, built: Built) -> Tested | None:
    """Apply the exported model to the test part; returns what it says on the first rank, else None.

    Raises:
        UserError: if the export cannot be read.
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
    """Write the results of a run that came to its end."""
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
    if told := unseen_elements(tested.about, setting.inputs.shards, tested.predictions.rows):
        setting.progress.say(told)
    context.write("end", step=state.step, **read_json(setting.run.metrics)["metrics"])
