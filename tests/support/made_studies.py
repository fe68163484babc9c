"""Studies made by chance: molecules that are hard for every model, and runs that scatter as trained ones do.

A table has `rows` rows (targets x backbones). Graph, graph + text and shuffled text have errors on the same
molecules; every run multiplies all its errors by exp(scatter z), as another seed or training set does. The
gain of graph + text over both others is `gain` in expectation. `python tests/support/made_studies.py`
prints how often a table has a mark, by the rule of the reports and by test molecules alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmgnn_dist.study.statistics.bootstrap import paired_gains
from mmgnn_dist.study.statistics.corrected_ttest import scatter_of
from mmgnn_dist.study.statistics.judgement import judge
from mmgnn_dist.study.statistics.significance import marked


@dataclass(frozen=True)
class Design:
    """Folds with other test molecules each (`apart`), or replicates on one test set; seeds; molecules
    tested."""

    folds: int
    seeds: int
    tested: int
    apart: bool
    share: float = 0.0
    rows: int = 18


@dataclass(frozen=True)
class Found:
    """For each study whether a row is marked, bool [studies, rows]: by the rule, and by molecules alone."""

    rule: np.ndarray
    molecules: np.ndarray

    def tables(self) -> tuple[float, float]:
        """Share of tables with a mark."""
        return float(self.rule.any(1).mean()), float(self.molecules.any(1).mean())


def made_tables(
    design: Design, studies: int, scatter: float, gain: float = 0.0, seed: int = 0, repeats: int = 1000
) -> Found:
    """Draw studies and judge every row as a report does."""
    rng = np.random.default_rng(seed)
    columns, (folds, seeds) = design.rows * studies, (design.folds, design.seeds)
    sets = folds if design.apart else 1
    hard = np.exp(0.5 * rng.standard_normal((sets, design.tested, columns)))
    shared = rng.standard_normal(hard.shape)
    maes, means = [], []
    for level in (1.0, 1.0 - gain, 1.0):
        errors = np.zeros((folds if design.apart else 1, design.tested, columns))
        mae = np.empty((columns, folds, seeds))
        for fold in range(folds):
            of = fold if design.apart else 0
            for place in range(seeds):
                run = np.abs(shared[of] + 0.5 * rng.standard_normal(shared[of].shape)) * hard[of]
                run *= level * np.exp(scatter * rng.standard_normal(columns))
                mae[:, fold, place] = run.mean(0)
                errors[of] += run / (seeds if design.apart else seeds * folds)
        maes.append(mae)
        means.append(errors.reshape(-1, columns))
    strata = np.repeat(np.arange(sets), design.tested)
    kept = []
    for place in (0, 2):
        test = paired_gains(means[place], means[1], strata, repeats, seed)
        runs = scatter_of(np.log(maes[1] / maes[place]), design.share)
        judged = judge(runs, folds * seeds, test.error, test.p, design.apart)
        kept.append((test.estimate, test.p, judged.p))
    gains, molecules, both = (
        np.stack(value, -1).reshape(studies, -1, 2) for value in zip(*kept, strict=True)
    )
    rule, alone = (
        np.array([marked(g, table)[1] for g, table in zip(gains, p, strict=True)]) for p in (both, molecules)
    )
    return Found(rule, alone)


DESIGNS = {
    "3 folds × 1 seed": Design(3, 1, 400, True, 0.5),
    "3 folds × 3 seeds": Design(3, 3, 400, True, 0.5),
    "5 folds × 1 seed": Design(5, 1, 240, True, 0.25),
    "1 fold × 5 seeds": Design(1, 5, 1200, False),
    "10 folds × 1 seed": Design(10, 1, 120, True, 1 / 9),
    "12 disjoint training sets, one test set": Design(12, 1, 1200, False),
    "24 disjoint training sets, one test set": Design(24, 1, 1200, False),
}


def main(scatters: tuple[float, ...] = (0.05,)) -> None:
    """Print false tables and power by design and scatter, as Markdown."""
    print("| design | scatter | false tables | by molecules alone | 3 % | 6 % | 12 % |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, design in DESIGNS.items():
        for scatter in scatters:
            false, alone = made_tables(design, 40, scatter).tables()
            powers = [
                made_tables(design, 6, scatter, gain, seed=1).rule.mean() for gain in (0.03, 0.06, 0.12)
            ]
            shown = " | ".join(f"{100 * power:.0f} %" for power in powers)
            print(
                f"| {name} | {100 * scatter:.0f} % | {100 * false:.1f} % | {100 * alone:.0f} % | {shown} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
