"""One entry of training: `run(folder)`, idempotent on its run directory.

A run directory with a `recipe.yaml` is all it needs. It starts, or continues from the newest complete
checkpoint, or finds itself done. Every rank calls it; launchers run `python -m mmgnn_dist.train.run DIR`.
"""

from __future__ import annotations

import logging
import os
import platform
import sys
import time
import traceback
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import torch

from mmgnn_dist.config import Recipe, load_recipe
from mmgnn_dist.data.shardset.shards import MANIFEST
from mmgnn_dist.errors import EXIT_DONE, EXIT_FAULT, EXIT_STOPPED, EXIT_USER, UserError
from mmgnn_dist.files import DISK_ERRORS, lock_file, read_json, sha256, write_json
from mmgnn_dist.models.matched import trainable
from mmgnn_dist.models.zero3 import gathered, is_sharded
from mmgnn_dist.process import exit_now
from mmgnn_dist.progress import Progress
from mmgnn_dist.signals import Stopped, stop_flag
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
from mmgnn_dist.train.engine import BatchPlan, deepspeed_config, make_engine, zero_init
from mmgnn_dist.train.evaluate import predict
from mmgnn_dist.train.guards import HangWatchdog
from mmgnn_dist.train.inputs import Inputs, fit_scaler, open_inputs
from mmgnn_dist.train.loop import TrainContext, Trainer, TrainState
from mmgnn_dist.train.optim.ema import Average
from mmgnn_dist.train.optim.optimizers import optimizer_of
from mmgnn_dist.train.provenance import METRICS, refuse_changed
from mmgnn_dist.train.ranks import Ranks, init_distributed, set_deterministic
from mmgnn_dist.train.report.results import done, write_results
from mmgnn_dist.train.text_data import open_text_data
from mmgnn_dist.train.tracking.journal import Journal
from mmgnn_dist.train.tracking.wandb_sink import Wandb, run_id

PACKAGES = ("mmgnn_dist", "torch", "torch-geometric", "deepspeed", "transformers", "numpy", "pyarrow")
LOCK_WAIT = 240.0  # seconds that a requeued job waits for the run directory
log = logging.getLogger(__name__)


def run(folder: Path, quiet: bool = False) -> int:
    """Train the recipe of a run directory to its end, and write the results.

    Args:
        folder: run directory with `recipe.yaml`. quiet: no progress on the terminal.

    Returns:
        Exit code: done, or stopped in order by a signal (the same call continues).

    Raises:
        UserError: for wrong input.
    """
    recipe = load_recipe(folder / "recipe.yaml")
    deadline = Deadline(recipe.train.deadline)
    # without a GPU always: it costs nothing there, and sums of several threads have another order each time
    set_deterministic(recipe.train.deterministic or not torch.cuda.is_available())
    ranks = init_distributed(recipe.train.threads, recipe.train.timeout)
    (folder / "logs").mkdir(exist_ok=True)
    lock = _only_one(folder) if ranks.is_rank0 else None
    handler = _log_to(folder / "logs" / f"rank_{ranks.rank}.log")
    try:
        refuse_changed({folder: recipe})
        if done(folder, recipe):
            return EXIT_DONE
        inputs = open_inputs(recipe, verify=ranks.is_rank0)
        watch = HangWatchdog(folder / "logs", ranks.rank, ranks.world, recipe.train.timeout)
        with watch, Progress(folder.name, quiet or not ranks.is_rank0) as progress, stop_flag() as signals:
            ranks = replace(ranks, beat=watch.beat, alive=watch.alive, signals=signals)
            try:
                return _train(folder, inputs, ranks, progress, deadline, watch)
            except Stopped:
                progress.say("stopped between two steps; the same command continues")
                return EXIT_STOPPED
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise UserError(
            f"{error.filename or folder} cannot be written ({error.strerror}): make room or allow it, "
            "then the same command continues"
        ) from error
    finally:
        logging.getLogger("mmgnn_dist").removeHandler(handler)
        if lock:
            lock.close()


def _only_one(folder: Path) -> IO[str]:
    """Hold the run directory until the file is closed or the process ends.

    Raises:
        UserError: if another process trains it.
    """
    # a node that Slurm has lost may still compute for a while, or a file server keep the locks of a dead one
    requeued = os.environ.get("SLURM_RESTART_COUNT", "0") != "0"
    end = time.monotonic() + (LOCK_WAIT if requeued else 0)
    while True:
        try:
            return lock_file(folder / "logs" / "lock")
        except BlockingIOError:
            if time.monotonic() >= end:
                told = "is being trained by another process: wait for it, or end it"
                raise UserError(f"{folder} {told}") from None
        time.sleep(0.5)


def compute_type(recipe: Recipe, device: torch.device) -> torch.dtype | None:
    """The type in which the language model computes: None for float32.

    Raises:
        UserError: for bf16 on hardware without it.
    """
    if device.type == "cuda":
        able = torch.cuda.is_bf16_supported(including_emulation=False)  # emulated, it is slower than float32
    else:
        able = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    wanted = recipe.train.precision
    if wanted == "bf16" and not able:
        raise UserError("train.precision=bf16: this hardware has no bf16 instructions; use auto or fp32")
    return torch.bfloat16 if able and wanted != "fp32" else None


def _log_to(path: Path) -> logging.Handler:
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("mmgnn_dist")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    return handler


def _train(
    folder: Path, inputs: Inputs, ranks: Ranks, progress: Progress, deadline: Deadline, watch: HangWatchdog
) -> int:
    recipe, shards = inputs.recipe, inputs.shards
    train = recipe.train
    autocast = compute_type(recipe, ranks.device)
    inputs.training(None, ranks)  # a batch that cannot be cut among these ranks is refused before any work
    text = open_text_data(inputs, ranks, progress)
    if ranks.stop_asked():
        raise Stopped
    ranks.beat("building the model")
    scaler = fit_scaler(inputs)
    batches = inputs.training(text.tokens, ranks)
    plan = BatchPlan(train.batch, batches.passes, ranks.world)
    matched = inputs.matched
    with zero_init(recipe, plan, ranks.device):
        model = inputs.model(text.source, autocast)
    size = {"parameters": trainable(model), "matched_to": matched.wanted if matched else None}
    ranks.beat("starting DeepSpeed")
    engine = make_engine(model, recipe, plan, ranks.device)
    average = Average(model)
    ranks.beat("looking for a checkpoint")

    encoder = encoder_identity(inputs.files)
    state, found = TrainState(), checkpoint.agreed_newest(folder / "checkpoints", ranks)
    if found is not None:
        ranks.beat("reading the checkpoint")
        values, weights = checkpoint.load(found, engine, ranks, encoder)
        state = TrainState(**values)
        average.restore(weights)
        del weights  # mapped from a file, which NFS could not remove as long as it is

    backbone = inputs.built.model.backbone.model_dump(mode="json")
    about: dict[str, Any] = {
        **inputs.origin,
        "wandb_id": run_id(folder) if ranks.is_rank0 else None,
        "versions": versions(),
        "zero_stage": train.zero_stage,
        "encoder": encoder,
    }
    state_bytes = optimizer_of(recipe).state_bytes
    saver = Saver(folder / "checkpoints", engine, ranks, train.keep_checkpoints, about, state_bytes)

    learned = learned_from(shards, inputs.split["train"])

    def export(best: TrainState) -> None:
        export_model(
            folder / "export",
            model,
            scaler,
            {
                "step": best.step,
                "score": best.best,
                "targets": inputs.metrics,
                "backbone": backbone,
                "encoder": encoder,
                "units": dict(zip(recipe.targets, inputs.units, strict=True)),
                "kinds": dict(zip(recipe.targets, inputs.kinds, strict=True)),
                "learned_from": learned,
            },
            ranks.is_rank0,
        )

    parts = TrainContext(
        recipe=recipe,
        run=folder,
        ranks=ranks,
        engine=engine,
        plan=plan,
        scaler=scaler.to(ranks.device),
        train=batches,
        validation=inputs.ordered("val", text.tokens, ranks),
        embeddings=text.embeddings,
        metrics=inputs.metrics,
        units=inputs.units,
        journal=Journal(folder / "journal.jsonl", state.step) if ranks.is_rank0 else None,
        progress=progress,
        export=export,
        saver=saver,
        deadline=deadline,
    )
    sink = None
    if ranks.is_rank0:
        write_json(folder / "versions.json", versions())
        write_json(folder / "deepspeed.json", deepspeed_config(recipe, plan))
        write_json(folder / "size.json", {**size, "backbone": backbone})
        data = {"shards": str(shards.path), "manifest_sha256": sha256(shards.path / MANIFEST)}
        write_json(folder / "data.json", {**data, **inputs.origin})
        if recipe.track.wandb != "disabled":
            sink = Wandb(recipe, folder)
            parts.sink = sink
        kind = "resume" if found else "start"
        parts.write(kind, step=state.step, world=ranks.world, precision="bf16" if autocast else "fp32")
        if found:
            progress.say(f"continuing at step {state.step} from {found}")
            if (wrote := read_json(found / checkpoint.CHECKPOINT_MANIFEST)["world"]) != ranks.world:
                taken = "is converted for" if train.zero_stage else "is read whole by"
                progress.say(f"it was written by {wrote} ranks and {taken} {ranks.world}")
    trainer = Trainer(parts, state, average)
    found_test = None
    try:
        finished = trainer.run() and not ranks.stop_asked()
    finally:
        saver.close()
    if finished:
        last = ((n, p) for n, p in sorted(model.named_parameters()) if p.requires_grad)
        prints = {
            "weights": fingerprint(gathered(last)),
            "averaged_weights": fingerprint(sorted(average.whole(ranks.is_rank0).items())),
        }
        best, best_scaler, about_best = load_export(
            folder / "export", recipe, inputs.forms, text.source, into=model if is_sharded(model) else None
        )
        found_test = predict(
            best.to(ranks.device),
            inputs.ordered("test", text.tokens, ranks),
            best_scaler.to(ranks.device),
            ranks,
            text.embeddings,
            train.save_vectors,
        )
    watch.stop()  # what is left the first rank does alone, and an upload may take its time
    if found_test is not None:
        facts = {
            "steps": state.step,
            "best_step": about_best["step"],
            "skipped_steps": state.skipped,
            "seconds": round(state.seconds, 1),
            "world": ranks.world,
            "precision": "bf16" if autocast else "fp32",
            **size,
            **prints,
        }
        write_results(folder, inputs, found_test, facts)
        if told := unseen_elements(about_best, shards, found_test.rows):
            progress.say(told)
        parts.write("end", step=state.step, **read_json(folder / METRICS)["metrics"])
    if sink:
        sink.finish(read_json(folder / METRICS) if finished else None)
    if not finished:
        progress.say(f"stopped at step {state.step}; the same command continues")
    return EXIT_DONE if finished else EXIT_STOPPED


def versions() -> dict[str, str]:
    """Versions of what computes."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def main() -> int:
    """Entry of a launched rank: a faulty rank leaves at once, so that no other waits for it."""
    try:
        return run(Path(sys.argv[1]))
    except UserError as error:
        print(f"mmgnn: {error}", file=sys.stderr)
        return EXIT_USER
    except Exception:
        traceback.print_exc()
        return EXIT_FAULT


if __name__ == "__main__":
    exit_code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    exit_now(exit_code)  # gloo's threads can abort an interpreter that ends, after all results stand
