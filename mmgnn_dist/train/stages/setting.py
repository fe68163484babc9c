"""What every stage of a run knows from the start."""

from __future__ import annotations

from dataclasses import dataclass

from mmgnn_dist.progress import Progress
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.train.deadline import Deadline
from mmgnn_dist.train.guards import HangWatchdog
from mmgnn_dist.train.inputs import Inputs
from mmgnn_dist.train.ranks import Ranks


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
