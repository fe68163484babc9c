"""Agreement of representations: CKA of two backbones, beside what is there without any training.

Two networks have like representations before they have learned anything, since both read the same atoms. So
every pair stands beside the same pair untrained (initial weights), and beside two trainings of one backbone
(graph and again, else two seeds), which is the most that can be expected.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from mmgnn_dist.data.shardset.references import composition
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.study.collect import Model, Results, crossed
from mmgnn_dist.study.grid import BASE, Cell
from mmgnn_dist.study.report.gains import SHOWN_NAMES
from mmgnn_dist.study.report.report_elements import Table, interval, signed
from mmgnn_dist.study.statistics.cka import debiased_cka, linear_cka, without_composition
from mmgnn_dist.study.statistics.corrected_ttest import scatter_of, t_interval

ARMS = ("graph", "both", "shuffled")
UNTRAINED, SEEDS = "untrained", "two trainings"
LEAST_MOLECULES = 30  # below, nothing is left after composition
NOTE = (
    "Linear CKA of the backbones' vectors (mean over the atoms, before the text joins) on the test "
    "molecules of a fold, the mean over folds and seeds. debiased, composition off: what a linear fit on "
    "the atoms of each element, their shares and the size explains is taken off both, and the unbiased "
    "estimator is used: 0 by chance; with its 95 % interval over trainings (corrected resampled t). "
    "untrained: the same networks with initial weights. two trainings: one backbone with two seeds on "
    "the same molecules. Two backbones agree in what they learned only as far as they exceed the "
    "untrained ones, and two trainings are the most there is."
)


@dataclass(frozen=True)
class _Side:
    """A representation in one run: its file by fold and seed."""

    label: str
    files: dict[tuple[int, int], Path]


def vectors(path: Path) -> dict[str, np.ndarray]:
    """Read saved vectors of test molecules by name, and their `rows`."""
    from safetensors.numpy import load_file

    return load_file(path)


def representations(results: Results) -> Table:
    """Table of the CKA of all pairs of representations of the base."""
    rows, numbers = [], []
    groups = list(dict.fromkeys(cell.targets for cell in results.done if cell.variant == BASE))
    for targets in groups:
        learned = "all" if len(groups) == 1 else targets[0]
        for arm, first, second in _pairs(results, targets):
            runs = crossed(first.files.keys() & second.files.keys())
            if not runs:
                continue
            values = np.array([_both(results, first.files[run], second.files[run]) for run in runs])
            by_run = values[:, 1].reshape(len({fold for fold, _ in runs}), -1)
            scatter = scatter_of(by_run, results.share(Model(first.label, "graph")))
            half, _ = t_interval(scatter.estimate, scatter.error, np.array(scatter.freedom))
            mean, reach, count = float(scatter.estimate), float(half), values[:, 2].mean()
            name = first.label if first.label == second.label else f"{first.label}, {second.label}"
            shown = [name, learned, arm, f"{values[:, 0].mean():.3f}", signed(mean, 3)]
            rows.append([*shown, interval(mean - reach, mean + reach, 3), f"{count:,.0f}", str(len(runs))])
            numbers.append(
                {"first": first.label, "second": second.label, "targets": " ".join(targets), "arm": arm}
                | {"cka": values[:, 0].mean(), "debiased": mean, "low": mean - reach, "high": mean + reach}
                | {"molecules": count, "runs": len(runs)}
            )
    columns = ["backbones", "targets", "arm", "CKA", "debiased, composition off", "over trainings"]
    columns += ["molecules", "runs"]
    return Table("agreement_cka", "Representations", columns, rows, numbers, NOTE, words=3)


def _both(results: Results, first: Path, second: Path) -> tuple[float, float, int]:
    """Plain CKA, debiased CKA without composition, and number of molecules of two files."""
    x, y = vectors(first), vectors(second)
    atoms = composition(results.shards, x["rows"])
    debiased = np.nan
    if len(atoms) >= LEAST_MOLECULES:
        debiased = debiased_cka(*(without_composition(v["graph"], atoms) for v in (x, y)))
    return linear_cka(x["graph"], y["graph"]), debiased, len(atoms)


def _pairs(results: Results, targets: tuple[str, ...]) -> Iterator[tuple[str, _Side, _Side]]:
    """Yield label and both sides of each comparison."""
    cells: dict[tuple[str, str], dict[tuple[int, int], Cell]] = {}
    for cell in results.done:
        if cell.variant == BASE and cell.targets == targets:
            cells.setdefault((cell.backbone, cell.arm), {})[cell.fold, cell.seed] = cell

    def side(backbone: str, arm: str, untrained: bool = False) -> _Side:
        files = {}
        for run, cell in cells.get((backbone, arm), {}).items():
            run_dir = RunDir(cell.run(results.folder))
            path = run_dir.untrained if untrained else run_dir.vectors
            if path.is_file():
                files[run] = path
        return _Side(backbone, files)

    backbones = results.backbones_of(BASE)
    for first, second in combinations(backbones, 2):
        for arm in ARMS:
            yield SHOWN_NAMES[arm], side(first, arm), side(second, arm)
        yield UNTRAINED, side(first, "graph", True), side(second, "graph", True)
    for backbone in backbones:
        graph, again = side(backbone, "graph"), side(backbone, "again")
        yield SEEDS, graph, again if again.files else _next_seed(graph)
        yield f"{UNTRAINED}, {SEEDS}", side(backbone, "graph", True), side(backbone, "again", True)


def _next_seed(side: _Side) -> _Side:
    """The same representation with the next seed of the fold."""
    files = {}
    for fold, seed in side.files:
        others = sorted(s for f, s in side.files if f == fold and s > seed)
        if others:
            files[fold, seed] = side.files[fold, others[0]]
    return _Side(side.label, files)
