"""All paths of a run directory, in one place.

    recipe.yaml                       the recipe of the run
    deepspeed.json  versions.json     DeepSpeed's configuration, versions of the packages
    size.json  data.json              number of parameters, checksums of the training data
    verified.json                     data files whose checksums were compared, with their state at that time
    journal.jsonl                     the events of the run, one line a step
    checkpoints/step_N/               checkpoints to continue from
    export/                           the model of the best validation: model.safetensors, model.json, and
                                      hashes of the molecules it was trained on
    metrics.json  predictions.parquet vectors.safetensors   results of the test part
    untrained.safetensors             vectors of the initial weights, of graph-only runs that keep vectors
    plots/  report.md                 plots and table to read
    evaluations/NAME/                 predictions and metrics on another shard set
    twins/MODALITY/                   run directories of the recipe's twins
    wandb/                            W&B segments, the W&B id of the run, the replayed segments
    logs/                             log of each rank, and the lock of the process that trains
    slurm/                            `mmgnn submit`: job.json, the copy of the code, notes of each start,
                                      packed environments
    start.json                        what was taken of `train.start_from`, and its score before training
    failure.json                      why the run failed as a cell of a study
    trial.json                        the record of the run as a trial of a sweep
    replay.json                       only in the temporary folder of `mmgnn verify`: which steps to recompute

A path of `RunDir` need not exist. A folder made by `mmgnn export` has only `recipe.yaml`, `export/` and
README.md, the model card.
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
        """The recipe in canonical form; a run needs nothing else to start."""
        return self.path / "recipe.yaml"

    @property
    def deepspeed(self) -> Path:
        """DeepSpeed's configuration, derived from the recipe."""
        return self.path / "deepspeed.json"

    @property
    def versions(self) -> Path:
        """Versions of Python and of the packages that compute."""
        return self.path / "versions.json"

    @property
    def size(self) -> Path:
        """Number of trainable parameters, and the backbone with the width that was used."""
        return self.path / "size.json"

    @property
    def data(self) -> Path:
        """Path of the shard set, and checksums of recipe, shards and split."""
        return self.path / "data.json"

    @property
    def verified(self) -> Path:
        """Files of the data whose checksums were compared (see `VerifiedFiles`)."""
        return self.path / "verified.json"

    @property
    def journal(self) -> Path:
        """The events of the run, one JSON object a line."""
        return self.path / "journal.jsonl"

    @property
    def metrics(self) -> Path:
        """Results of the test part; they are written last, so a run that has them is done."""
        return self.path / "metrics.json"

    @property
    def predictions(self) -> Path:
        """Predictions for the test part."""
        return self.path / "predictions.parquet"

    @property
    def vectors(self) -> Path:
        """Vectors of some test molecules, if the recipe keeps them (`train.save_vectors`)."""
        return self.path / "vectors.safetensors"

    @property
    def untrained(self) -> Path:
        """Vectors of the same molecules with initial weights, if a graph-only run keeps its vectors."""
        return self.path / "untrained.safetensors"

    @property
    def report(self) -> Path:
        """The report: the table and the plots."""
        return self.path / "report.md"

    @property
    def start_record(self) -> Path:
        """The trained model that the run started from (`train.start_from`)."""
        return self.path / "start.json"

    @property
    def failure(self) -> Path:
        """Why the run failed as a cell of a study."""
        return self.path / "failure.json"

    @property
    def trial(self) -> Path:
        """The record of the run as a trial of a sweep."""
        return self.path / "trial.json"

    @property
    def replay(self) -> Path:
        """Which steps `mmgnn verify` recomputes in this temporary folder."""
        return self.path / "replay.json"

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
        """Description of the exported model."""
        return self.path / "export" / "model.json"

    @property
    def export_trained_on(self) -> Path:
        """Hashes of the molecules that the exported model was trained on."""
        return self.path / "export" / "trained_on.safetensors"

    @property
    def card(self) -> Path:
        """The model card of a folder made by `mmgnn export`."""
        return self.path / "README.md"

    @property
    def plots(self) -> Path:
        """Folder of the plots."""
        return self.path / "plots"

    @property
    def wandb(self) -> Path:
        """Folder of the W&B segments."""
        return self.path / "wandb"

    @property
    def wandb_id(self) -> Path:
        """The W&B id of the run."""
        return self.path / "wandb" / "id"

    @property
    def wandb_data(self) -> Path:
        """Folder where artifacts wait for their upload."""
        return self.path / "wandb" / "data"

    @property
    def wandb_replay(self) -> Path:
        """Folder of the segments that `mmgnn sync` writes."""
        return self.path / "wandb" / "replay"

    @property
    def wandb_synced(self) -> Path:
        """Record of the last step of the journal that was replayed."""
        return self.path / "wandb" / "replay" / "synced.json"

    @property
    def logs(self) -> Path:
        """Folder of the logs."""
        return self.path / "logs"

    @property
    def lock(self) -> Path:
        """Lock file held by the process that trains."""
        return self.path / "logs" / "lock"

    @property
    def trial_log(self) -> Path:
        """Output of the ranks of a sweep's trial."""
        return self.path / "logs" / "trial.log"

    @property
    def slurm(self) -> Path:
        """Folder of a submitted run: files of submitit and of `mmgnn submit`."""
        return self.path / "slurm"

    @property
    def job(self) -> Path:
        """Record of the job that trains the run."""
        return self.path / "slurm" / "job.json"

    @property
    def report_job(self) -> Path:
        """Record of the job that runs after all runs of an array, in the array's folder."""
        return self.path / "slurm" / "report.json"

    @property
    def submission(self) -> Path:
        """Name of the job that `mmgnn submit` is sending."""
        return self.path / "slurm" / "submission.json"

    def starts(self, submission: str) -> Path:
        """The starts of a submission: the folder of the notes of each, and its job."""
        return self.path / "slurm" / f"starts.{submission}"

    def successors(self, submission: str) -> Path:
        """The jobs that follow the first one of a submission, for the batch script."""
        return self.path / "slurm" / f"successors.{submission}"

    @property
    def submit_lock(self) -> Path:
        """Lock file held by the process that submits."""
        return self.path / "slurm" / "submit.lock"

    @property
    def code(self) -> Path:
        """Folder of the copies of the code that jobs run."""
        return self.path / "slurm" / "code"

    @property
    def stage(self) -> Path:
        """Folder of the packed environments that nodes unpack."""
        return self.path / "slurm" / "stage"

    def plot(self, name: str) -> Path:
        """Path of a plot."""
        return self.plots / f"{name}.png"

    def rank_log(self, rank: int) -> Path:
        """Log file of a rank."""
        return self.logs / f"rank_{rank}.log"

    def ids_log(self, rank: int) -> Path:
        """Ids of the molecules of each step of a rank (`train.log_ids`)."""
        return self.logs / f"ids_rank_{rank}.jsonl"

    def alive(self, rank: int) -> Path:
        """Progress of a rank, rewritten while the rank runs."""
        return self.logs / f"alive_rank_{rank}.json"

    @property
    def flight_dump(self) -> Path:
        """Start of the names of NCCL's flight recorder dumps; torch adds the number of the rank."""
        return self.logs / "flight_recorder_rank_"

    def not_finite(self, step: int) -> Path:
        """Ids of the molecules of a step that was skipped."""
        return self.logs / f"not_finite_step_{step}.json"

    def attempt(self, job: str, restart: str) -> Path:
        """Folder of the notes that ranks write at one start by Slurm."""
        return self.slurm / f"{job}.{restart}"

    def twin(self, modality: str) -> RunDir:
        """The run directory of a twin."""
        return RunDir(self.path / "twins" / modality)

    def evaluation(self, name: str) -> RunDir:
        """Directory of metrics and predictions on another shard set, with the same file names."""
        return RunDir(self.path / "evaluations" / name)
