"""What `labels` finds on a staged set: kinds are decided, absurd labels set aside, and the user is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np

from mmgnn_dist.chem.checks import ABSURD
from mmgnn_dist.chem.own_targets.target_names import known_name
from mmgnn_dist.chem.readers.source import Source, printable
from mmgnn_dist.chem.targets import CLASS, UNDECIDED, Target
from mmgnn_dist.data.prepare.chunks import Staging
from mmgnn_dist.data.prepare.duplicates import kept_positions, set_rows_aside
from mmgnn_dist.data.prepare.labels import StagedLabels, decide_kind, deviating
from mmgnn_dist.data.prepare.plan import PreparePlan
from mmgnn_dist.errors import WrongInput
from mmgnn_dist.files import read_sealed, write_sealed


def set_deviating_aside(plan: PreparePlan, staging: Staging) -> None:
    """Set the molecules aside that have an absurd label (`data.max_label_deviation`).

    The verdicts are written before the first shard is changed, so an interrupted preparation continues with
    the same ones.
    """
    if plan.max_label_deviation is None:
        return
    file = staging.records / "absurd.json"
    if not file.is_file():
        write_sealed(file, _verdicts(plan, staging, plan.max_label_deviation))
    for chunk, details in read_sealed(file).items():
        positions = kept_positions(staging.read_record(int(chunk))).tolist()
        local = [row for row, position in enumerate(positions) if str(position) in details]
        chosen = [details[str(positions[row])] for row in local]
        set_rows_aside(plan, staging, int(chunk), np.array(local, np.int64), ABSURD, chosen)


def _verdicts(plan: PreparePlan, staging: Staging, limit: float) -> dict[str, dict[str, str]]:
    """Detail of every molecule with an absurd label, by chunk and position in it."""
    staged = StagedLabels.open([staging.shard(chunk) for chunk in range(len(plan.chunks))])
    found: dict[int, str] = {}
    for column, target in enumerate(plan.targets):
        if target.kind == CLASS:
            continue
        y = staged.labels(column)
        kind = target.kind if target.kind != UNDECIDED else _robust_kind(target, y, staged.counts, limit)
        for row, by in zip(*deviating(kind, y, staged.counts, limit), strict=True):
            found.setdefault(
                int(row),
                f"{target.name}: {y[row]:.4g} {target.unit} is {by:.3g} robust standard deviations from the "
                f"median, more than data.max_label_deviation={limit:g}",
            )
    verdicts: dict[str, dict[str, str]] = {}
    for row in sorted(found):
        chunk = int(np.searchsorted(staged.starts, row, side="right")) - 1
        local = row - int(staged.starts[chunk])
        position = int(kept_positions(staging.read_record(chunk))[local])
        verdicts.setdefault(str(chunk), {})[str(position)] = found[row]
    return verdicts


def _robust_kind(target: Target, y: np.ndarray, counts: np.ndarray, limit: float) -> str:
    """The kind that the labels show without those that deviate even from the bare median."""
    sound = y.copy()
    sound[deviating("intensive", y, counts, limit)[0]] = np.nan
    return decide_kind(target, sound, counts)[0]


def decided_kinds(plan: PreparePlan, staging: Staging) -> tuple[list[Target], dict[str, str]]:
    """Return the targets with the kinds that their labels show, and the reason for each of these.

    Raises:
        WrongInput: an energy whose labels do not show its kind.
    """
    targets, reasons = list(plan.targets), dict[str, str]()
    if all(target.kind != UNDECIDED for target in targets):
        return targets, reasons
    staged = StagedLabels.open([staging.shard(chunk) for chunk in range(len(plan.chunks))])
    for column, target in enumerate(targets):
        if target.kind != UNDECIDED:
            continue
        kind, reason = decide_kind(target, staged.labels(column), staged.counts)
        if "without evidence" in reason and "energ" in target.name.lower():
            raise WrongInput(
                f"the kind of {target.name} does not show in its labels: give "
                f"data.targets.{target.name}.kind=extensive if it is an energy of the whole molecule, else "
                "intensive"
            )
        targets[column], reasons[target.name] = replace(target, kind=kind), reason
    return targets, reasons


def target_lines(sources: Sequence[Source], kinds: dict[str, str]) -> list[str]:
    """Lines of the report: columns under another name, columns that are not read, kinds and their reasons."""
    lines = []
    for source in sources:
        for column, target, _ in source.targets:
            if column != target.name:
                lines.append(
                    f"{printable(source.path.name)}: column {column} is read as target {target.name}"
                )
    for ignored, group in groupby(sources, key=lambda source: source.ignored):
        if ignored:
            files = list(group)
            more = f" and {len(files) - 1} more files" if len(files) > 1 else ""
            named = ", ".join(
                f"{column} (looks like {meant})" if (meant := known_name(column, ignored)) else column
                for column in ignored
            )
            lines.append(
                f"{printable(files[0].path.name)}{more}: columns {named} are not read (a target needs "
                "data.units.NAME=UNIT)"
            )
    return lines + [f"{name} is {reason}" for name, reason in kinds.items()]
