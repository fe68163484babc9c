"""Report section on the gate: how much a model reads from the graph (1) and from the text (0).

It shows, over the test molecules of `both`, the distribution of the gate, its mean by number of atoms and by
the presence of each text field, and the error by quarters of the gate. A model of several targets has one
gate for all targets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.study.collect import Model, Results
from mmgnn_dist.study.compare import relative_errors
from mmgnn_dist.study.grid import BASE
from mmgnn_dist.study.report.figures import Series, curves, histograms
from mmgnn_dist.study.report.groups import LEAST, Kinds
from mmgnn_dist.study.report.report_elements import Figure, ReportSection, Table, percent

ARMS = ("both", "shuffled", "zero", "random")


@dataclass
class Gates:
    """Gates of one backbone and the targets it learned: [n] by arm, NaN in unfinished folds."""

    backbone: str
    learned: str
    values: dict[str, np.ndarray]


def read_gates(results: Results) -> list[Gates]:
    """Read the gates of the base, means over seeds."""
    import pyarrow.parquet as pq

    groups = list(dict.fromkeys(cell.targets for cell in results.done))
    sums: dict[tuple[str, str, str], list[np.ndarray]] = {}
    for cell in results.done:
        if cell.variant != BASE or cell.arm not in ARMS:
            continue
        table = pq.read_table(RunDir(cell.run(results.folder)).predictions)
        name = f"{cell.targets[0]}_gate"
        if name not in table.column_names:
            continue
        learned = "all targets" if len(groups) == 1 else cell.targets[0]
        total, count = sums.setdefault(
            (cell.backbone, learned, cell.arm), [np.zeros(len(results.rows)), np.zeros(len(results.rows))]
        )
        total[results.folds == cell.fold] += table[name].to_numpy()
        count[results.folds == cell.fold] += 1
    gates_of: dict[tuple[str, str], Gates] = {}
    for (backbone, learned, arm), (total, count) in sums.items():
        gates = gates_of.setdefault((backbone, learned), Gates(backbone, learned, {}))
        gates.values[arm] = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
    return [gates for gates in gates_of.values() if "both" in gates.values]


def gates_section(results: Results, kinds: Kinds) -> ReportSection | None:
    """Gate by distribution, size, fields and errors; None if no model has a gate."""
    gates = read_gates(results)
    if not gates:
        return None
    text = [
        "1: read from the graph alone, 0: from the text alone; the mean over the atoms and channels of a "
        "molecule. A gate says what the model mixes, not what it gains: it moves with zero text too."
    ]
    items: list[Table | Figure] = [_distribution(gates), _picture(gates)]
    items += [_sizes(gates, kinds), _fields(gates, kinds)]
    if results.targets:
        items.append(_quarters(results, gates))
    return ReportSection("The gate", text, items)


def _distribution(gates: list[Gates]) -> Table:
    rows, numbers = [], []
    for entry in gates:
        for arm, values in entry.values.items():
            finite = values[np.isfinite(values)]
            quantiles = np.quantile(finite, [0.05, 0.25, 0.5, 0.75, 0.95])
            rows.append(
                [
                    entry.learned,
                    entry.backbone,
                    arm,
                    f"{finite.mean():.3f}",
                    f"{finite.std():.3f}",
                    *(f"{q:.3f}" for q in quantiles),
                ]
            )
            numbers.append(
                {
                    "learned": entry.learned,
                    "backbone": entry.backbone,
                    "arm": arm,
                    "mean": finite.mean(),
                    "sd": finite.std(),
                    **dict(zip(("q05", "q25", "q50", "q75", "q95"), quantiles, strict=True)),
                }
            )
    columns = ["learned", "backbone", "arm", "mean", "sd", "5 %", "25 %", "50 %", "75 %", "95 %"]
    return Table("gate", "Distribution over the test molecules", columns, rows, numbers, words=3)


def _picture(gates: list[Gates]) -> Figure:
    """Histograms of the first four gates; the CSV has all."""
    panels = {
        f"{entry.backbone}, {entry.learned}": {arm: v[np.isfinite(v)] for arm, v in entry.values.items()}
        for entry in gates[:4]
    }
    return histograms("gate", "Gate of the test molecules.", panels, "0: text    gate    1: graph")


def _sizes(gates: list[Gates], kinds: Kinds) -> Figure:
    """Mean gate by number of atoms, with the middle half of the molecules."""
    series = []
    for entry in gates[:5]:
        points = []
        for size in np.unique(kinds.atoms):
            values = entry.values["both"][kinds.atoms == size]
            values = values[np.isfinite(values)]
            if len(values) >= 10:
                points.append((int(size), values.mean(), *np.quantile(values, [0.25, 0.75])))
        x, mean, low, high = zip(*points, strict=True) if points else ((),) * 4
        series.append(Series(f"{entry.backbone}, {entry.learned}", x, mean, low, high))
    caption = "Mean gate of graph + text by size (sizes of ten molecules or more; bars: middle half)."
    return curves("gate_size", caption, {"gate by size": series}, "atoms", "gate")


def _fields(gates: list[Gates], kinds: Kinds) -> Table:
    rows, numbers = [], []
    for entry in gates:
        values = entry.values["both"]
        for name, present in kinds.fields.items():
            with_field, without = (values[mask & np.isfinite(values)] for mask in (present, ~present))
            if min(len(with_field), len(without)) < LEAST:
                continue
            rows.append(
                [
                    entry.learned,
                    entry.backbone,
                    name,
                    f"{len(with_field):,}",
                    f"{with_field.mean():.3f}",
                    f"{len(without):,}",
                    f"{without.mean():.3f}",
                ]
            )
            numbers.append(
                {
                    "learned": entry.learned,
                    "backbone": entry.backbone,
                    "field": name,
                    "with": len(with_field),
                    "gate_with": with_field.mean(),
                    "without": len(without),
                    "gate_without": without.mean(),
                }
            )
    columns = ["learned", "backbone", "field", "molecules with", "gate", "molecules without", "gate"]
    note = f"Fields that {LEAST} molecules or more have, and as many have not."
    return Table("gate_fields", "Mean gate by presence of a field", columns, rows, numbers, note, words=3)


def _quarters(results: Results, gates: list[Gates]) -> Table:
    """Error of graph + text, and of graph alone on the same molecules, by quarters of the gate."""
    rows, numbers = [], []
    for entry in gates:
        x, y = relative_errors(results.pair(Model(entry.backbone, "graph"), Model(entry.backbone, "both")))
        finite = np.isfinite(entry.values["both"]) & np.isfinite(x) & np.isfinite(y)
        if not finite.any():
            continue
        gate = entry.values["both"]
        edges = np.quantile(gate[finite], [0.25, 0.5, 0.75])
        quarter = np.searchsorted(edges, gate)
        for index, name in enumerate(("lowest", "second", "third", "highest")):
            in_quarter = finite & (quarter == index)
            if in_quarter.any():
                gain = 100 * (1 - y[in_quarter].sum() / x[in_quarter].sum())
                rows.append(
                    [
                        entry.learned,
                        entry.backbone,
                        name,
                        f"{gate[in_quarter].mean():.3f}",
                        f"{x[in_quarter].mean():.3f}",
                        f"{y[in_quarter].mean():.3f}",
                        percent(gain),
                    ]
                )
                numbers.append(
                    {
                        "learned": entry.learned,
                        "backbone": entry.backbone,
                        "quarter": index,
                        "gate": gate[in_quarter].mean(),
                        "graph": x[in_quarter].mean(),
                        "both": y[in_quarter].mean(),
                        "gain": gain,
                    }
                )
    columns = ["learned", "backbone", "quarter of the gate", "gate", "error, graph", "error, both", "gain, %"]
    note = "Errors over all targets, each as a share of the MAE of graph alone (1 is the average molecule)."
    return Table("gate_errors", "Error by quarters of the gate", columns, rows, numbers, note, words=3)
