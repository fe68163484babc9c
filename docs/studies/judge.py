"""Judge the published tables of the studies anew, over molecules and trainings, from the CSV beside them.

    python docs/studies/judge.py docs/studies/pairs docs/studies/fields

`runs.csv` has the error of every run, `gains.csv` the p-values over test molecules. Predictions of single
molecules are not kept here, so the p-values over molecules are those of the report.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

from mmgnn_dist.study.statistics.corrected_ttest import Scatter, scatter_of
from mmgnn_dist.study.statistics.judgement import detectable, judge
from mmgnn_dist.study.statistics.significance import LEVEL, marked

SHARE = 1 / 1.8  # three folds: a third is tested, 0.9 of two thirds are trained on
DISTINCT = ("mu", "alpha", "homo", "lumo", "r2", "zpve", "u0")  # u298 follows from u0, gap from homo and lumo
REFERENCES = ("graph", "shuffled")


def read(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV."""
    with open(path, encoding="utf-8") as content:
        return list(csv.DictReader(content))


class Study:
    """The published numbers of a study.

    Attributes:
        mae: test error by backbone, arm, target, fold and seed.
        gains: rows of the published table of gains.
        folds, seeds: those of its runs.
    """

    def __init__(self, folder: Path) -> None:
        self.gains = [row for row in read(folder / "numbers/gains.csv") if row["variant"] == "base"]
        self.mae: dict[tuple[str, str, str, str, str], float] = {}
        for row in read(folder / "numbers/runs.csv"):
            if row["variant"] == "base":
                for name, value in row.items():
                    if name.startswith("test/mae/"):
                        target = name.removeprefix("test/mae/").split("_")[0]
                        self.mae[row["backbone"], row["arm"], target, row["fold"], row["seed"]] = float(value)
        self.folds = sorted({key[3] for key in self.mae})
        self.seeds = sorted({key[4] for key in self.mae})
        self.backbones = list(dict.fromkeys(key[0] for key in self.mae))

    def effects(self, backbone: str, target: str, arm: str) -> np.ndarray:
        """Log ratio of the errors of graph + text and of an arm in each replicate [folds, seeds]."""
        return np.array(
            [
                [
                    np.log(self.mae[backbone, "both", target, f, s] / self.mae[backbone, arm, target, f, s])
                    for s in self.seeds
                ]
                for f in self.folds
            ]
        )

    def judged(self) -> tuple[np.ndarray, list[tuple[str, str]], list[Scatter]]:
        """Whether each published row is marked by the rule of the reports, the rows, and their scatter."""
        rows, gains, p, scatters = [], [], [], []
        for row in self.gains:
            own = []
            for arm in REFERENCES:
                runs = scatter_of(self.effects(row["backbone"], row["target"], arm), SHARE)
                molecules = float(row[f"over_{arm}_test_p"])
                judgement = judge(
                    runs, len(self.folds) * len(self.seeds), np.array(0.0), np.array(molecules), apart=True
                )
                own.append((float(row[f"over_{arm}_test_estimate"]), float(judgement.p)))
                if arm == "graph":
                    scatters.append(runs)
            rows.append((row["target"], row["backbone"]))
            gains.append([gain for gain, _ in own])
            p.append([value for _, value in own])
        return marked(np.array(gains), np.array(p))[1], rows, scatters

    def mean_gain(self, backbones: list[str], arm: str) -> tuple[float, float, float, float]:
        """Mean gain over distinct targets and backbones, its bounds over trainings in percent, and p."""
        effects = np.mean([self.effects(b, t, arm) for b in backbones for t in DISTINCT], axis=0)
        runs = scatter_of(effects, SHARE)
        judgement = judge(runs, effects.size, np.array(0.0), np.array(0.0), apart=True)
        shown = (-100 * np.expm1(v) for v in (judgement.estimate, judgement.high, judgement.low))
        estimate, low, high = (float(value) for value in shown)
        return estimate, low, high, float(judgement.p)


def main(folders: list[str]) -> None:
    """Print one table before and after, and one of mean gains, as Markdown."""
    lines, means = [], []
    for folder in folders:
        name, study = Path(folder).name, Study(Path(folder))
        marks, rows, scatters = study.judged()
        before = [(row["target"], row["backbone"]) for row in study.gains if row["gain_of_text"] == "True"]
        for backbone in study.backbones:
            own = [place for place, row in enumerate(rows) if row[1] == backbone]
            spread = np.mean([100 * float(scatters[place].error) for place in own])
            least = np.mean(
                [
                    100
                    * -np.expm1(
                        -detectable(scatters[p].error, np.array(scatters[p].freedom), LEVEL / len(rows))
                    )
                    for p in own
                ]
            )
            old = [target for target, of in before if of == backbone]
            new = [rows[place][0] for place in own if marks[place]]
            lines.append(
                f"| {name} | {backbone} | {', '.join(old) or 'none'} | {', '.join(new) or 'none'} "
                f"| {spread:.0f} % | {least:.0f} % |"
            )
        for backbones in [study.backbones, *([b] for b in study.backbones)]:
            cells = []
            for arm in REFERENCES:
                estimate, low, high, p = study.mean_gain(backbones, arm)
                cells.append(f"{estimate:+.1f} [{low:+.1f}, {high:+.1f}], p {p:.2f}".replace("-", "−"))
            label = "all" if len(backbones) > 1 else backbones[0]
            means.append(f"| {name} | {label} | {cells[0]} | {cells[1]} |")
    print("| study | backbone | marked before | marked now | standard error of a gain | found in 4 of 5 |")
    print("|---|---|---|---|---:|---:|", *lines, sep="\n")
    print("\n| study | backbones | mean gain over graph, % | over shuffled text, % |")
    print("|---|---|---:|---:|", *means, sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
