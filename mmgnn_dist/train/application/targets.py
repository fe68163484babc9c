"""The targets of a trained model in a shard set that may lack some of them."""

from __future__ import annotations

from mmgnn_dist.data.shardset.manifest import TargetEntry
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.errors import UserError
from mmgnn_dist.run_records import ExportRecord


def with_model_targets(shards: ShardSet, model: ExportRecord) -> ShardSet:
    """Return a shard set with all targets of a trained model; no molecule has a label of those it lacks.

    Raises:
        UserError: it has none of them, or one in another unit.
    """
    units, kinds = model.get("units", {}), model.get("kinds", {})
    classes = model.get("classes", {})
    if units and not set(units) & set(shards.targets):
        raise UserError(
            f"{shards.path} has {', '.join(shards.targets) or 'no targets'}, and the model predicts "
            f"{', '.join(units)}: prepare a set with one of them, or use 'mmgnn predict' without labels"
        )
    for name, unit in units.items():
        if shards.units.get(name, unit) != unit:
            raise UserError(
                f"{name} of {shards.path} is in {shards.units[name]}, and the model was trained on {unit}: "
                f"prepare the set with data.targets.{name}.unit={unit} and values in it"
            )
    missing: list[TargetEntry] = []
    for name, unit in units.items():
        if name not in shards.targets:
            entry: TargetEntry = {"name": name, "unit": unit, "kind": kinds.get(name, "intensive")}
            missing.append({**entry, "classes": classes[name]} if name in classes else entry)
    return shards.with_targets(missing) if missing else shards
