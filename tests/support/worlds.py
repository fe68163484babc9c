"""Many runs in one group of processes: a group's imports cost more than a small run.

As a script (`worlds.py FOLDER...`) it is one rank that trains each run directory after the other, and writes
a checksum of its own copy of all parameters to `logs/copy_rank_N.json`, and its peak memory to
`logs/peak_rank_N.json`. In a run directory the file `stop_at` holds a step at which the run is asked to stop,
and `test_this` is an export that is tested instead of the run's own.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

from command_line import start_all
from pictures import white_pictures

from mmgnn_dist.config import load_recipe
from mmgnn_dist.train.launch import start_here

BASE = [
    "targets=[gap]",
    "text.fields=[iupac_name, synonyms]",
    "train.batch=12",
    "train.threads=1",
    "train.precision=fp32",
    "train.dropout=false",
    "train.epochs=50",
    "train.checkpoint_every=1000",
    "train.validate_every=50",
    "train.optim.ema=0.9",
    "track.wandb=disabled",
    "model.backbone={name: schnet, hidden: 8, filters: 8, interactions: 1, gaussians: 4, cutoff: 4}",
]


def sixty_four(folder: Path) -> Path:
    """64 molecules to train on, 16 for validation, 17 to test: the last a number that nothing divides."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from small_set import make_set

    made = make_set(folder, (57, 40))
    parts = pa.array(["train"] * 64 + ["val"] * 16 + ["test"] * 17)
    (folder / "splits").mkdir()
    table = pa.table({"id": made.column("id").combine_chunks(), "fold_0": parts})
    pq.write_table(table, folder / "splits" / "random.parquet")
    return folder


def write(folder: Path, shards: Path, encoder: Path, *words: str) -> Path:
    """A run directory with its recipe."""
    words = (f"data.shards={shards}", f"text.encoder={encoder}", *words)
    load_recipe(None, [*BASE, *words]).save(folder / "recipe.yaml")
    return folder


def together(world: int, folders: list[Path], limit: float = 300, fresh: bool = False) -> None:
    """Train run directories in a group of `world` processes.

    Args:
        world: number of processes.
        folders: the run directories.
        limit: seconds that they may take.
        fresh: start new interpreters, whose memory is their own, in place of forks of the zygote.
    """
    if not fresh:
        ranks = start_all("worlds", world, *folders, OMP_NUM_THREADS=1, PYTHONWARNINGS="ignore")
        try:
            codes = [process.wait(limit) for process in ranks]
        finally:
            for process in ranks:
                process.kill()
        assert not any(codes), "\n".join(process.output() for process in ranks)
        return
    command = ["env", "OMP_NUM_THREADS=1", "PYTHONWARNINGS=ignore", sys.executable, __file__]
    command += [str(folder) for folder in folders]
    ranks = start_here(command, world, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        said = [process.communicate(timeout=limit)[0] for process in ranks]
    finally:
        for process in ranks:
            process.kill()
    assert not any(process.returncode for process in ranks), "\n".join(said)


def main() -> int:
    """Train the run directories of the command line."""
    from mmgnn_dist.train import run as entry
    from mmgnn_dist.train.checkpoint.export import fingerprint
    from mmgnn_dist.train.loop import Trainer

    trainer_step, trainer_run = Trainer._step, Trainer.run

    def step(self, batch, epoch, stop):
        stop_at = self.parts.run.path / "stop_at"
        wanted = stop_at.is_file() and int(stop_at.read_text()) == self.state.step + 1
        return trainer_step(self, batch, epoch, stop or wanted)

    def run(self):
        done = trainer_run(self)
        folder, ranks = self.parts.run.path, self.parts.ranks
        copy = fingerprint(sorted(self.parts.engine.module.named_parameters()))
        (folder / "logs" / f"copy_rank_{ranks.rank}.json").write_text(json.dumps(copy))
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        (folder / "logs" / f"peak_rank_{ranks.rank}.json").write_text(json.dumps(peak))
        if (folder / "test_this").is_dir() and ranks.is_rank0:
            shutil.copytree(folder / "test_this", folder / "export", dirs_exist_ok=True)
        ranks.barrier()
        return done

    Trainer._step, Trainer.run = step, run
    white_pictures()
    for folder in sys.argv[1:]:
        entry.run(Path(folder), quiet=True)
    return 0


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # gloo's threads can abort an interpreter that ends
