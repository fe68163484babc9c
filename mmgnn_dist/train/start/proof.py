"""Proof that a run starts from what it says: the score of the loaded weights before the first step.

If the run validates on the data of its source, learns the same targets and takes all of it, the score must be
the one that the source recorded with its best weights.
"""

from __future__ import annotations

from mmgnn_dist.errors import UserError
from mmgnn_dist.files import read_json, write_json
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.run_records import StartRecord
from mmgnn_dist.train.inputs import Inputs
from mmgnn_dist.train.start.plan import StartPlan, parts_of
from mmgnn_dist.train.stored.recipe import read_data_record

TOLERANCE = 1e-3  # relative: another machine or bf16 rounds otherwise; a weight that is not loaded is far off


def refuse_other_start(run: RunDir, plan: StartPlan | None) -> None:
    """Refuse to go on with a run whose source has changed since.

    Raises:
        UserError: the weights are not those that the run started from.
    """
    if plan is None or not run.start_record.is_file():
        return
    record: StartRecord = read_json(run.start_record)
    if record["sha256"] != plan.about["sha256"]:
        raise UserError(
            f"{plan.source.path} has other weights than when {run.path} started from it: give another "
            "--run DIR"
        )


def prove_start(run: RunDir, inputs: Inputs, plan: StartPlan, score: float) -> str:
    """Record the score before training, compare it with that of the source, and say so in one line.

    Args:
        run: run directory.
        inputs: inputs of the run.
        plan: what was taken.
        score: score of the loaded weights on the validation part.

    Raises:
        UserError: the scores should be equal and are not.
    """
    recorded = plan.about["score"] if _same_task(inputs, plan) else None
    record: StartRecord = {
        "source": str(plan.source.path),
        "sha256": plan.about["sha256"],
        "parts": list(plan.parts),
        "targets": list(plan.targets),
        "score": score,
        "recorded": recorded,
    }
    write_json(run.start_record, record)
    if recorded is None:
        return f"score before training {score:.6g}, on other data or another task than the source's"
    if abs(score - recorded) > TOLERANCE * abs(recorded):
        raise UserError(
            f"the weights of {plan.source.path} score {score:.6g} before training, and it recorded "
            f"{recorded:.6g} on the same data: this is a fault of mmgnn_dist; please report it"
        )
    return f"score before training {score:.6g}, as {plan.source.path} recorded ({recorded:.6g})"


def _same_task(inputs: Inputs, plan: StartPlan) -> bool:
    """Whether the score of this run before training must be the one that the source recorded."""
    record = read_data_record(plan.source)
    if record is None or plan.about["score"] is None:
        return False
    own, other, origin = inputs.recipe, plan.recipe, inputs.origin
    return (
        record["shards_sha256"] == origin["shards_sha256"]
        and record["split_sha256"] == origin["split_sha256"]
        and own.train.start_scaling == "taken"
        and own.targets == other.targets == list(plan.targets)
        and own.train.weights == other.train.weights
        and own.text == other.text
        and own.model.modality == other.model.modality
        and list(plan.parts) == parts_of(own, readout=True)
    )
