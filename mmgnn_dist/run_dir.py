"""The run directory: every path of it, in one place.

    recipe.yaml                       what the run is
    deepspeed.json  versions.json     what the recipe became: DeepSpeed's configuration, versions of packages,
    size.json  data.json              parameters, and the content that it learns from
    verified.json                     the files of its data whose checksums were compared, each in which state
    journal.jsonl                     what happened, a line a step
    checkpoints/step_N/               to continue from
    export/                           the model of the best validation: model.safetensors, model.json
    metrics.json  predictions.parquet vectors.safetensors   results of the test part
    plots/  report.md                 for people
    evaluations/NAME/                 predictions and metrics on another shard set
    twins/MODALITY/                   run directories of the recipe's twins
    wandb/                            W&B's segments, the run's id, and their replay
    logs/                             of each rank, and the lock of who trains
    slurm/                            of `mmgnn submit`: job.json, the copy of the code, notes of each start
    failure.json                      why it failed as a cell of a study
    trial.json                        what a sweep knows of it as a trial

A path says nothing of whether it is there. A folder that `mmgnn export` made has `recipe.yaml` and `export/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunDir:
    """Paths of a run directory.

    Attributes:
        path: the directory itself.
    """

    path: Path

    @property
    def recipe(self) -> Path:
        """The recipe, canonical: all that a run needs to start."""
        return self.path / "recipe.yaml"

    @property
    def deepspeed(self) -> Path:
        """DeepSpeed's configuration, derived from the recipe."""
        return self.path / "deepspeed.json"

    @property
    def versions(self) -> Path:
        """Versions of what computes."""
        return self.path / "versions.json"

    @property
    def size(self) -> Path:
        """Trainable parameters, and the backbone as wide as it was made."""
        return self.path / "size.json"

    @property
    def data(self) -> Path:
        """The shard set, and checksums of recipe, shards and split."""
        return self.path / "data.json"

    @property
    def verified(self) -> Path:
        """Files of the data whose checksums were compared (see `VerifiedFiles`)."""
        return self.path / "verified.json"

    @property
    def journal(self) -> Path:
        """What happened, a JSON object a line."""
        return self.path / "journal.jsonl"

    @property
    def metrics(self) -> Path:
        """Results of the test part; written last: a run that has them is done."""
        return self.path / "metrics.json"

    @property
    def predictions(self) -> Path:
        """Predictions for the test part."""
        return self.path / "predictions.parquet"

    @property
    def vectors(self) -> Path:
        """Vectors of some test molecules, of runs that keep them."""
        return self.path / "vectors.safetensors"

    @property
    def report(self) -> Path:
        """The table and the pictures for people."""
        return self.path / "report.md"

    @property
    def failure(self) -> Path:
        """Why it failed as a cell of a study."""
        return self.path / "failure.json"

    @property
    def trial(self) -> Path:
        """What a sweep knows of it."""
        return self.path / "trial.json"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def export(self) -> Path:
        """Folder of the exported model."""
        return self.path / "export"

    @property
    def export_weights(self) -> Path:
        """Weights and scaler of the exported model."""
        return self.path / "export" / "model.safetensors"

    @property
    def export_about(self) -> Path:
        """What the exported model is."""
        return self.path / "export" / "model.json"

    @property
    def plots(self) -> Path:
        """Folder of the pictures."""
        return self.path / "plots"

    @property
    def wandb(self) -> Path:
        """Folder of W&B's segments."""
        return self.path / "wandb"

    @property
    def wandb_id(self) -> Path:
        """The id of the run at W&B."""
        return self.path / "wandb" / "id"

    @property
    def wandb_data(self) -> Path:
        """Where artifacts wait for their upload."""
        return self.path / "wandb" / "data"

    @property
    def wandb_replay(self) -> Path:
        """Folder of the segments that `mmgnn sync` writes."""
        return self.path / "wandb" / "replay"

    @property
    def wandb_synced(self) -> Path:
        """Up to which step the journal is replayed."""
        return self.path / "wandb" / "replay" / "synced.json"

    @property
    def logs(self) -> Path:
        """Folder of the logs."""
        return self.path / "logs"

    @property
    def lock(self) -> Path:
        """Held by the process that trains."""
        return self.path / "logs" / "lock"

    @property
    def trial_log(self) -> Path:
        """What the ranks of a sweep's trial print."""
        return self.path / "logs" / "trial.log"

    @property
    def slurm(self) -> Path:
        """Folder of a submitted run: submitit's pickles and logs, and ours."""
        return self.path / "slurm"

    @property
    def job(self) -> Path:
        """The job that trains it."""
        return self.path / "slurm" / "job.json"

    @property
    def report_job(self) -> Path:
        """The job that follows all runs of an array, in the array's folder."""
        return self.path / "slurm" / "report.json"

    @property
    def code(self) -> Path:
        """Folder of the copies of the code that jobs run."""
        return self.path / "slurm" / "code"

    def plot(self, name: str) -> Path:
        """One picture."""
        return self.plots / f"{name}.png"

    def rank_log(self, rank: int) -> Path:
        """What a rank logs."""
        return self.logs / f"rank_{rank}.log"

    def ids_log(self, rank: int) -> Path:
        """The molecules of each step of a rank (`train.log_ids`)."""
        return self.logs / f"ids_rank_{rank}.jsonl"

    def alive(self, rank: int) -> Path:
        """How far a rank is, renewed while it lives."""
        return self.logs / f"alive_rank_{rank}.json"

    def not_finite(self, step: int) -> Path:
        """The molecules of a step that was left out."""
        return self.logs / f"not_finite_step_{step}.json"

    def attempt(self, job: str, restart: str) -> Path:
        """Folder of the ranks' notes of one start by Slurm."""
        return self.slurm / f"{job}.{restart}"

    def twin(self, modality: str) -> RunDir:
        """The run directory of a twin."""
        return RunDir(self.path / "twins" / modality)

    def evaluation(self, name: str) -> RunDir:
        """Where metrics and predictions on another shard set stand, under the same names."""
        return RunDir(self.path / "evaluations" / name)
