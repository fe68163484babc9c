"""What the training loop of a run uses, made from the objects that `build` made."""

from __future__ import annotations

from collections.abc import Callable

from mmgnn_dist.run_records import CheckpointAbout, ExportRecord
from mmgnn_dist.train.application.conformal import calibrate
from mmgnn_dist.train.application.trained_on import identity_hashes, write_trained_on
from mmgnn_dist.train.checkpoint.export import export_model, exported_classes, learned_from
from mmgnn_dist.train.checkpoint.train_state import TrainState
from mmgnn_dist.train.checkpoint.writer import Saver
from mmgnn_dist.train.evaluate import Predictions
from mmgnn_dist.train.optim.optimizers import optimizer_of
from mmgnn_dist.train.provenance import versions
from mmgnn_dist.train.stages.build import Built
from mmgnn_dist.train.stages.setting import Setting
from mmgnn_dist.train.tracking.journal import Journal
from mmgnn_dist.train.tracking.train_context import TrainContext
from mmgnn_dist.train.tracking.wandb_sink import run_id


def make_context(setting: Setting, built: Built, state: TrainState) -> TrainContext:
    """Make the context of the loop; the first rank opens the journal at the step of the state."""
    run, inputs, ranks = setting.run, setting.inputs, setting.ranks
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
        saver=_saver(setting, built),
        deadline=setting.deadline,
    )


def _saver(setting: Setting, built: Built) -> Saver:
    """Make the writer of checkpoints."""
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
    return Saver(run.checkpoints, built.engine, ranks, train.keep_checkpoints, about, state_bytes)


def _exporter(setting: Setting, built: Built) -> Callable[[TrainState, Predictions | None], None]:
    """Make the function that exports the model with its current weights."""
    inputs, targets = setting.inputs, setting.inputs.recipe.targets
    learned = learned_from(inputs.shards, inputs.split["train"])

    def export(best: TrainState, validated: Predictions | None) -> None:
        about: ExportRecord = {
            "step": best.step,
            "score": best.best,
            "targets": inputs.metrics,
            "backbone": inputs.backbone_values,
            "encoder": built.encoder,
            "units": dict(zip(targets, inputs.units, strict=True)),
            "kinds": dict(zip(targets, inputs.kinds, strict=True)),
            **exported_classes(inputs.shards, targets),
            "learned_from": learned,
            "reads_states": inputs.shards.has_states,
        }
        if validated is not None:  # on the first rank
            about["calibration"] = calibrate(validated, targets)
        if setting.ranks.is_rank0 and not setting.run.export_trained_on.is_file():
            write_trained_on(setting.run, identity_hashes(inputs.shards, inputs.split["train"]))
        export_model(setting.run, built.model, built.scaler, about, setting.ranks.is_rank0)

    return export
