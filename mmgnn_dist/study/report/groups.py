"""Report section on where text helps and hurts: by size, functional group and text coverage of a molecule.

The score of a molecule is its mean error over all targets, each relative to the MAE of the reference.
Intervals are over test molecules and not corrected for the number of groups: the section is exploratory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.data.shardset.text_presence import presence
from mmgnn_dist.errors import UserError
from mmgnn_dist.study.collect import Model, Results
from mmgnn_dist.study.compare import relative_errors
from mmgnn_dist.study.report.figures import Series, forest
from mmgnn_dist.study.report.gains import AXIS, SHOWN_NAMES
from mmgnn_dist.study.report.report_elements import Figure, ReportSection, Table, interval, percent
from mmgnn_dist.study.statistics.bootstrap import paired_gains

LEAST = 30  # smallest number of molecules of a reported group
QUARTERS = (0.25, 0.5, 0.75)


@dataclass
class Kinds:
    """Properties of the test molecules that divide them into groups.

    Attributes:
        atoms: number of atoms [n].
        fields: presence of each text field of the recipe, bool [n] by name.
        groups: presence of each functional group, bool [n] by name.
        note: why functional groups are missing; empty if they are not.
    """

    atoms: np.ndarray
    fields: dict[str, np.ndarray]
    groups: dict[str, np.ndarray]
    note: str = ""


def kinds_of(shards: ShardSet, rows: np.ndarray, fields: list[str]) -> Kinds:
    """Read the properties of the test molecules, given by their global rows [n]."""
    atoms = np.concatenate([np.diff(shard.ptr) for shard in shards.shards])[rows]
    batches = [shard.table.to_batches()[0] for shard in shards.shards]
    present = {name: np.concatenate([presence(batch, name) for batch in batches])[rows] for name in fields}
    try:
        groups, note = _groups(shards, rows), ""
    except UserError as error:
        groups, note = {}, f"Functional groups are left out: {error}"
    return Kinds(atoms, present, groups, note)


def _groups(shards: ShardSet, rows: np.ndarray) -> dict[str, np.ndarray]:
    import pyarrow as pa

    from mmgnn_dist.chem.functional_groups import GROUPS, functional_groups

    smiles = shards.column("smiles").combine_chunks().take(pa.array(rows, pa.int64()))
    membership = functional_groups(smiles)
    return dict(zip(GROUPS, membership.T, strict=True))


def _bins(kinds: Kinds) -> dict[str, dict[str, np.ndarray]]:
    """Masks of the groups of molecules, by property and name."""
    out: dict[str, dict[str, np.ndarray]] = {}
    edges = np.unique(np.quantile(kinds.atoms, QUARTERS).astype(int))
    bin_of = np.searchsorted(edges, kinds.atoms)
    sizes = {}
    for number in range(len(edges) + 1):
        in_bin = bin_of == number
        if in_bin.any():
            low, high = kinds.atoms[in_bin].min(), kinds.atoms[in_bin].max()
            sizes[f"{low} atoms" if low == high else f"{low} to {high} atoms"] = in_bin
    out["size"] = sizes
    count = sum(mask.astype(int) for mask in kinds.fields.values())
    out["text"] = {f"{number} of {len(kinds.fields)} fields": count == number for number in np.unique(count)}
    out["field"] = {f"has {name}": mask for name, mask in kinds.fields.items() if (~mask).sum() >= LEAST}
    out["group"] = kinds.groups
    return out


def groups_section(results: Results, kinds: Kinds) -> ReportSection | None:
    """Gain over graph alone and over shuffled text in each group."""
    bins = {
        (kind, name): mask
        for kind, named in _bins(kinds).items()
        for name, mask in named.items()
        if mask.sum() >= LEAST
    }
    backbones = [b for b in results.backbones if {Model(b, "graph"), Model(b, "both")} <= set(results.models)]
    if not backbones or not bins:
        return None
    rows, numbers = [], []
    gains_of = {}
    for arm in ("graph", "shuffled"):
        for backbone in backbones:
            if Model(backbone, arm) in results.models:
                x, y = relative_errors(results.pair(Model(backbone, arm), Model(backbone, "both")))
                masks = np.stack(list(bins.values()), 1)
                x, y = (np.where(masks, side[:, None], np.nan) for side in (x, y))
                gains_of[arm, backbone] = paired_gains(
                    x, y, results.folds, repeats=2000, by_fold=False, identities=results.identities
                )
    for index, ((kind, name), mask) in enumerate(bins.items()):
        for backbone in backbones:
            shown = [kind, name, backbone, f"{mask.sum():,}"]
            line = {"kind": kind, "group": name, "backbone": backbone, "molecules": int(mask.sum())}
            for arm in ("graph", "shuffled"):
                gains = gains_of.get((arm, backbone))
                if gains is None:
                    shown += ["–", "–"]
                    continue
                values = [float(vars(gains)[key][index]) for key in ("estimate", "low", "high")]
                shown += [percent(values[0]), interval(values[1], values[2])]
                line |= dict(zip((f"over_{arm}", f"over_{arm}_low", f"over_{arm}_high"), values, strict=True))
            rows.append(shown)
            numbers.append(line)
    columns = ["by", "group", "backbone", "count", "over graph, %", "molecules"]
    columns += ["over shuffled, %", "molecules"]
    note = f"Mean gain over all targets, groups of {LEAST} molecules or more; a molecule may be in several."
    table = Table("groups", "Gains by kind of molecule", columns, rows, numbers, note, words=3)
    names = [name for _, name in bins]
    panels: dict[str, list[Series]] = {}
    for (arm, backbone), gains in gains_of.items():
        series = Series(backbone, range(len(names)), gains.estimate, gains.low, gains.high)
        panels.setdefault(f"graph + text over {SHOWN_NAMES[arm]}", []).append(series)
    caption = "Mean gain of graph + text by kind of molecule, with the interval over test molecules."
    items: list[Table | Figure] = [forest("groups", caption, panels, AXIS, names), table]
    return ReportSection("Where text helps and where it hurts", [kinds.note] if kinds.note else [], items)
