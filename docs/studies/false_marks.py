"""How often the rule of the reports marks a table where there is nothing to find.

    python docs/studies/false_marks.py runs/settle [STUDIES]

The runs of one model under other seeds, the arms `graph` and `again` of a study, are the two sides of a
pseudo-study: in each replicate a coin decides which is the reference and which the model with text. Nothing
but training differs between them. Each pseudo-study is judged as a report judges its table: over molecules
and over trainings, Holm over the targets, at 5 %. It prints the share of tables with a mark, by the rule,
over trainings alone, and over test molecules alone, and how often the paired t over replicates rejects for
the mean over the targets.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from mmgnn_dist.study.collect import Model, Results, collect
from mmgnn_dist.study.statistics.bootstrap import paired_gains
from mmgnn_dist.study.statistics.corrected_ttest import scatter_of, t_interval
from mmgnn_dist.study.statistics.judgement import judge
from mmgnn_dist.study.statistics.significance import LEVEL, marked

REPEATS = 1000


class Sides:
    """Runs of both arms of one backbone that all folds and seeds have.

    Attributes:
        errors: absolute errors of the test molecules of all folds, by arm [2, S, n, T].
        mae: MAE of each run, by arm [2, S, K, T].
    """

    def __init__(self, results: Results, backbone: str) -> None:
        models = Model(backbone, "graph"), Model(backbone, "again")
        shared = sorted(set.intersection(*(set(results.mae(m, t)) for m in models for t in results.targets)))
        seeds = sorted({seed for _, seed in shared})
        self.folds = sorted({fold for fold, _ in shared})
        runs = {seed: [(fold, seed) for fold in self.folds] for seed in seeds}
        self.errors = np.array(
            [[self._of_seed(results, model, runs[seed]) for seed in seeds] for model in models]
        )
        maes = [[[results.mae(m, t)[run] for t in results.targets] for run in shared] for m in models]
        self.mae = np.array(maes).reshape(2, len(self.folds), len(seeds), -1).transpose(0, 2, 1, 3)

    @staticmethod
    def _of_seed(results: Results, model: Model, runs: list[tuple[int, int]]) -> np.ndarray:
        return np.stack([results.absolute(model, target, runs) for target in results.targets], -1)


def pseudo_study(results: Results, sides: Sides, rng: np.random.Generator) -> tuple[bool, bool, bool, bool]:
    """Draw one: whether its table is marked by the rule, by trainings, by molecules; whether the mean is."""
    seeds, folds = sides.mae.shape[1:3]
    swap = rng.integers(0, 2, (seeds, folds))
    of_row = swap[:, np.searchsorted(sides.folds, results.folds)][..., None]
    x, y = (np.where(of_row == side, sides.errors[1], sides.errors[0]).mean(0) for side in (1, 0))
    first, second = (np.where(swap[..., None] == side, sides.mae[1], sides.mae[0]) for side in (1, 0))
    logs = np.log(second / first).transpose(2, 1, 0)  # [T, K, S]
    share = results.share(Model(results.backbones[0], "graph"))
    scatter = scatter_of(logs, share)
    seed = int(rng.integers(1 << 30))
    test = paired_gains(x, y, results.folds, REPEATS, seed, identities=results.identities)
    judged = judge(scatter, seeds * folds, test.error, test.p, results.apart)
    over_runs = t_interval(scatter.estimate, scatter.error, np.array(scatter.freedom))[1]
    gains = -scatter.estimate[:, None]
    tables = [bool(marked(gains, p[:, None])[1].any()) for p in (judged.p, over_runs, test.p)]
    mean = scatter_of(logs.mean(0), share)
    p = t_interval(mean.estimate, mean.error, np.array(mean.freedom))[1]
    return tables[0], tables[1], tables[2], bool(p <= LEVEL)


def main(folder: Path, studies: int = 200) -> None:
    """Print the shares as Markdown."""
    results = collect(folder)
    print("| backbone | replicates | pseudo-studies | marked | by trainings | by molecules | mean, 5 % |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for backbone in results.backbones:
        sides, rng = Sides(results, backbone), np.random.default_rng(0)
        found = np.mean([pseudo_study(results, sides, rng) for _ in range(studies)], axis=0)
        cells = " | ".join(f"{100 * share:.1f} %" for share in found)
        print(f"| {backbone} | {len(sides.folds)} | {studies} | {cells} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:3]))
