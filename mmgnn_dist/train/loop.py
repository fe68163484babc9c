"""The training loop: steps, validations, checkpoints, stops.

The recipe and the number of a step determine its molecules, learning rates and random numbers. A run that is
killed continues from its newest checkpoint and ends with the same weights, bit for bit on the same machine
and number of ranks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import torch

from mmgnn_dist.data.loading.balance import imbalance
from mmgnn_dist.data.loading.batch import Batch
from mmgnn_dist.data.loading.loader import Step
from mmgnn_dist.data.loading.read_ahead import read_ahead
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import write_json
from mmgnn_dist.models.graph import Graph
from mmgnn_dist.models.heads import Heads
from mmgnn_dist.models.ready import ready_step
from mmgnn_dist.models.table_watch import TableWatch
from mmgnn_dist.train.checkpoint.train_state import TrainState
from mmgnn_dist.train.evaluate import Predictions, predict
from mmgnn_dist.train.guards import StepGuard
from mmgnn_dist.train.loss import scaled_loss, target_weights
from mmgnn_dist.train.metrics import journal_metrics
from mmgnn_dist.train.optim.ema import Average
from mmgnn_dist.train.optim.schedule import ema_decay, learning_rate, seed_step, total_steps
from mmgnn_dist.train.tracking.busy import BusyTimer, busy_ranks
from mmgnn_dist.train.tracking.journal import Journal
from mmgnn_dist.train.tracking.meter import RateMeter
from mmgnn_dist.train.tracking.proof import StepProof
from mmgnn_dist.train.tracking.train_context import TrainContext


class Trainer:
    """Runs the loop on `TrainContext` from a `TrainState`."""

    def __init__(self, parts: TrainContext, state: TrainState, average: Average) -> None:
        self.parts, self.state, self.average = parts, state, average
        train = parts.recipe.train
        self.total = total_steps(train, parts.train.steps_per_epoch)
        self.weights = target_weights(parts.recipe.targets, train).to(parts.ranks.device)
        self.metrics = journal_metrics(parts.recipe)
        self.heads = Heads.of(parts.train.shards, parts.recipe.targets)
        self.label_scaler = parts.scaler.of_targets(self.heads)
        self.guard = StepGuard(parts.engine, train.optim.clip)
        self.tables = TableWatch(parts.engine.module.backbone, state.tables)
        self._ids: Journal | None = None
        if train.log_ids:
            parts.forget_ids(state.step)
            self._ids = Journal(parts.run.ids_log(parts.ranks.rank), state.step)
        self._last_saved = state.step
        self.proof = StepProof(parts.train.shards, parts.engine.module, parts.ranks)
        self._note = ""
        self._meter = RateMeter(parts.ranks.device)
        self._busy = BusyTimer(parts.ranks.device)

    def run(self) -> bool:
        """Train to the end; return False if training was stopped earlier, after writing a checkpoint."""
        parts, state = self.parts, self.state
        per_epoch = parts.train.steps_per_epoch
        while state.step < self.total and not self._patience_spent():
            epoch, first = divmod(state.step, per_epoch)
            for step in self._steps(epoch, first):
                stop_wanted = bool(parts.ranks.signals) or parts.deadline.near(parts.saver.seconds)
                stop = self._step(step, epoch, stop_wanted)
                end_of_epoch = state.step % per_epoch == 0
                validation_due = end_of_epoch and (epoch + 1) % parts.recipe.train.validate_every == 0
                best = (validation_due or state.step == self.total) and self._validate(epoch)
                if stop:
                    self._save()
                    parts.saver.wait()
                    return False
                if best or state.step % parts.recipe.train.checkpoint_every == 0:
                    self._save()
                if state.step >= self.total or self._patience_spent():
                    break
        if self._last_saved != state.step:
            self._save()
        parts.saver.wait()
        return True

    def once(self, step: Step) -> None:
        """Make one step on a global batch, without validation and checkpoint: for measurements."""
        self._step(self._ready(step), 0, False)

    def _steps(self, epoch: int, first: int) -> Iterator[Step]:
        """The steps of an epoch from `first` on, made ahead by a thread where the step runs on a GPU."""
        steps = self.parts.train.epoch(epoch, first)
        on_cpu = self.parts.ranks.device.type == "cpu"
        return self._busy.batches(map(self._ready, steps) if on_cpu else read_ahead(steps, self._ready))

    def _ready(self, step: Step) -> Step:
        return ready_step(step, self.parts.engine.module.backbone, self.parts.ranks.device.type != "cpu")

    def _rows(self, epoch: int, step: Step) -> np.ndarray:
        """Rows of the global batch of a step; the other ranks, which write no journal, need none."""
        if not self.parts.ranks.is_rank0:
            return np.zeros(0, np.int64)
        return self.parts.train.sampling.batch(epoch, step.index)

    def until(self, last: int, stop: Callable[[], bool]) -> None:
        """Make the steps up to `last`, without validations and checkpoints: neither changes the weights.

        Args:
            last: number of the last step.
            stop: says whether to end early, after the next step.
        """
        while self.state.step < last:
            epoch, first = divmod(self.state.step, self.parts.train.steps_per_epoch)
            for step in self._steps(epoch, first):
                if self._step(step, epoch, stop()) or self.state.step >= last:
                    return

    def _patience_spent(self) -> bool:
        train, state = self.parts.recipe.train, self.state
        return train.patience is not None and state.stale >= train.patience and state.step >= train.min_steps

    def _step(self, step: Step, epoch: int, stop: bool) -> bool:
        """Make one optimiser step on a global batch; return whether any rank was asked to stop."""
        started = time.monotonic()
        parts, train = self.parts, self.parts.recipe.train
        engine, plan, device = parts.engine, parts.plan, parts.ranks.device
        number = self.state.step
        seed_step(train.seed, number, parts.ranks.rank)
        for group in engine.optimizer.param_groups:
            group["lr"] = learning_rate(group, number, self.total, train.optim)
        self.proof.begin(number, saved=number == self._last_saved)
        engine.train()
        labels = step.label_count.to(device)
        if not step.counted:
            labels = parts.ranks.all_reduce_sum(labels.clone())
        # on the device: to read the loss before the backward pass would make the host wait
        summed = torch.zeros(1, dtype=torch.float64, device=device)
        inexact = float(self.tables.exceeded(number))
        for position, batch in enumerate(step.micro):
            parts.ranks.beat(f"step {number}, forward")
            with self._busy.forward():
                loss = self._loss(batch, labels)
            summed += loss.detach()
            parts.ranks.beat(f"step {number}, backward")
            # DeepSpeed divides by accumulation steps and ranks; the loss is normalised already
            engine.backward(loss * (plan.world * plan.accumulation))
            if position == len(step.micro) - 1:
                # loss, stop, checkpoint written, checkpoint failed, error of a radial table too large; then
                # the predicted cost of each rank's share, and how long it was busy
                of_ranks = np.zeros((2, parts.ranks.world))
                of_ranks[:, parts.ranks.rank] = step.cost, self._busy.take()
                flags = torch.tensor(
                    [float(stop), *parts.saver.status(), inexact, *of_ranks.ravel()], dtype=torch.float64
                )
                total = parts.ranks.all_reduce_sum(torch.cat([summed, flags.to(device)]))
                # the only value that the host waits for
                *flagged, norm = torch.cat([total, self.guard.norm()]).cpu().tolist()
                self.guard.judge(flagged[0], norm)
            engine.step()
        self.state.step = number + 1
        self.state.seconds += time.monotonic() - started
        self._log_ids(step)
        if self.guard.taken:
            self.average.update(ema_decay(number, train.optim))
            costs, busy = np.array(flagged[5:]).reshape(2, -1)
            self._tell(epoch, flagged[0], imbalance(costs), busy, step)
        else:
            self._skipped(epoch, flagged[0], step)
        if flagged[4] > 0:
            self._leave_tables(epoch)
        parts.saver.poll(flagged[2], flagged[3])
        return flagged[1] > 0

    def _loss(self, batch: Batch, labels: torch.Tensor) -> torch.Tensor:
        parts = self.parts
        vectors = parts.embeddings.of(batch.rows).to(parts.ranks.device) if parts.embeddings else None
        on_device = batch.to(parts.ranks.device, non_blocking=True)
        scaled, _ = parts.engine(on_device, vectors)
        graph = Graph.make(on_device.z, on_device.pos, on_device.ptr)
        target = self.label_scaler.scaled(on_device.y, graph)
        kind, prior = parts.recipe.train.loss, parts.scaler.mean
        return scaled_loss(kind, scaled, target, on_device.y_mask, labels, self.weights, self.heads, prior)

    def _skipped(self, epoch: int, loss: float, step: Step) -> None:
        """Count a skipped step, write the ids of its molecules, and fail after too many of them.

        Raises:
            UserError: more than `train.max_skipped` steps were skipped.
        """
        parts, state = self.parts, self.state
        state.skipped += 1
        reason = f"the loss is {loss}" if not np.isfinite(loss) else "its gradient is not finite"
        path = parts.run.not_finite(state.step)
        if parts.ranks.is_rank0:
            ids = parts.train.shards.ids(self._rows(epoch, step)).tolist()
            write_json(path, {"step": state.step, "why": reason, "ids": ids})
        proof = self.proof.fields(self._rows(epoch, step))
        parts.write("skipped", step=state.step, epoch=epoch, why=reason, skipped=state.skipped, **proof)
        parts.progress.say(f"step {state.step} is left out: {reason}; its molecules are in {path}")
        most = parts.recipe.train.max_skipped
        if state.skipped > most:
            raise UserError(
                f"step {state.step} is left out, like {state.skipped - 1} before it "
                f"(train.max_skipped={most}): {reason}; lower train.optim.lr, or see the molecules in "
                f"{path.parent}/not_finite_step_*.json"
            )

    def _leave_tables(self, epoch: int) -> None:
        """Compute radial functions directly from the next step on."""
        self.state.tables = False
        self.tables.use(False)
        self.parts.write("direct", step=self.state.step, epoch=epoch, why=self.tables.reason)
        self.parts.progress.say(f"step {self.state.step}: {self.tables.reason}")

    def _log_ids(self, step: Step) -> None:
        if self._ids:
            rows = torch.cat([batch.rows for batch in step.micro])
            self._ids.write(
                "train", step=self.state.step, ids=self.parts.train.shards.ids(rows.numpy()).tolist()
            )

    def _tell(self, epoch: int, loss: float, uneven: float, busy: np.ndarray, step: Step) -> None:
        parts, state = self.parts, self.state
        molecules = parts.train.seen(state.step)
        rate = molecules / max(state.seconds, 1e-9)
        lrs = {group["name"]: group["lr"] for group in parts.engine.optimizer.param_groups}
        parts.write(
            "train",
            step=state.step,
            epoch=epoch,
            molecules=molecules,
            loss=loss,
            lr=lrs,
            rate=round(rate, 2),
            seconds=round(state.seconds, 3),
            imbalance=round(uneven, 4),
            **({"busy": busy_ranks(busy.tolist())} if len(busy) > 1 else {}),
            **self.proof.fields(self._rows(epoch, step)),
        )
        if parts.journal and (usage := self._meter.read()):
            parts.write("system", step=state.step, epoch=epoch, **usage)
        epochs = parts.recipe.train.epochs
        note = f"epoch {epoch + 1}/{epochs}  loss {loss:.3f}  {rate:.0f} molecules/s  {self._note}"
        parts.progress(state.step, self.total, note)

    def _validate(self, epoch: int) -> bool:
        """Validate the averaged weights; if they are the best so far, export them and return True."""
        parts, state = self.parts, self.state
        with self.average.applied():
            value, predictions = self._score("validation", epoch)
            state.stale += 1
            if state.best is None or value < state.best:
                state.best, state.best_step, state.stale = value, state.step, 0
                parts.export(state, predictions)
            return state.stale == 0

    def start_score(self) -> float:
        """Validate the weights before the first step, record this as `start_from`, and return the score."""
        return self._score("start_from", 0)[0]

    def _score(self, kind: str, epoch: int) -> tuple[float, Predictions | None]:
        """Return the score of the present weights on the validation part, and rank 0's predictions.

        Raises:
            UserError: on all ranks, if the predictions are not finite.
        """
        parts = self.parts
        model = parts.engine.module
        predictions = predict(model, parts.validation, parts.scaler, parts.ranks, parts.embeddings)
        score = torch.zeros(1, dtype=torch.float64, device=parts.ranks.device)
        if predictions is not None:
            score += self._record(kind, epoch, predictions)
        value = float(parts.ranks.all_reduce_sum(score))
        if not np.isfinite(value):
            raise UserError(
                f"the predictions for the validation part at step {self.state.step} are not finite: lower "
                "train.optim.lr, or start again with train.precision=fp32"
            )
        return value, predictions

    def _record(self, kind: str, epoch: int, predictions: Predictions) -> float:
        """Record a validation; return the score, a weighted mean over the targets.

        A number has its MAE in standard deviations, a class its balanced cross entropy as a share of log K; a
        model that knows nothing has about one in both.
        """
        parts, step = self.parts, self.state.step
        true, predicted = predictions.numbers()
        values = [metric.values(true, predicted) for metric in self.metrics]
        errors = np.full(len(self.heads.classes), np.nan)
        errors[self.heads.numbers] = values[0] / parts.scaler.std.cpu().numpy()[self.heads.number_outputs]
        for place in self.heads.classed:
            errors[place] = predictions.class_loss(place)
        labelled = np.isfinite(predictions.true).any(0)  # a target may have no label in the validation part
        score = float(np.average(errors[labelled], weights=self.weights.cpu().numpy()[labelled]))
        if not np.isfinite(score):
            return score
        targets = {parts.recipe.targets[place]: parts.units[place] for place in self.heads.numbers}
        named: dict[str, float | None] = {}
        for metric, of_targets in zip(self.metrics, values, strict=True):
            named |= metric.named("val", targets, of_targets)
        of_classes = predictions.named_class_metrics("val", parts.recipe.targets)
        gate = {} if predictions.gate is None else {"gate": predictions.gates()}
        fields = named | of_classes | {"val/score": score}
        parts.write(kind, step=step, epoch=epoch, **fields, **gate)
        summaries = [f"{t} {v:.3g} {u}" for (t, u), v in zip(targets.items(), values[0], strict=True)]
        areas = [
            f"{name.removeprefix('val/auroc/')} {'no' if value is None else f'{value:.3g}'}"
            for name, value in of_classes.items()
            if name.startswith("val/auroc/")
        ]
        titled = (("MAE", summaries), ("AUROC", areas))
        found = [f"{title}: {', '.join(words)}" for title, words in titled if words]
        self._note = "MAE " + ", ".join(summaries[:2]) if summaries else found[0]
        when = f"epoch {epoch + 1}" if kind == "validation" else "before training"
        parts.progress.say(f"{when}, validation {'; '.join(found)}")
        return score

    def _save(self) -> None:
        if self.parts.journal:
            self.state.journal = self.parts.journal.head
        average = self.average.whole(self.parts.ranks.is_rank0)
        self.parts.saver.save(average, self.state.values())
        self._last_saved = self.state.step
