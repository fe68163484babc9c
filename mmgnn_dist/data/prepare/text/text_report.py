"""What `prepare` says about own text fields, chosen fields, and molecules that a provider gave no text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

from mmgnn_dist.data.prepare.plan import PreparePlan
from mmgnn_dist.data.shardset.chunk_records import ChunkRecord
from mmgnn_dist.data.shardset.manifest import SelectionEntry

SHOWN = 5  # reasons and names that are listed, the commonest first


class TextEntries(TypedDict, total=False):
    """The entries of a manifest on own text; see `ShardManifest`."""

    text_columns: dict[str, str]
    selection: SelectionEntry
    without_text: dict[str, dict[str, int]]


def text_entries(plan: PreparePlan, records: list[ChunkRecord]) -> TextEntries:
    """Return the entries of the manifest on own text, none of them for a set without it.

    Args:
        plan: the plan of the preparation.
        records: the records of the chunks.
    """
    entries: TextEntries = {}
    if plan.text_columns:
        entries["text_columns"] = {field: plan.text_columns[field] for field in plan.own_fields}
    if plan.selects:
        entries["selection"] = _total_selection(records)
    if without_text := _total_without_text(records):
        entries["without_text"] = without_text
    return entries


def _total_selection(records: Iterable[ChunkRecord]) -> SelectionEntry:
    """Add up the entries `selection` of the records of all chunks."""
    unknown: Counter[str] = Counter()
    molecules = 0
    for record in records:
        molecules += record["selection"]["molecules"]
        unknown.update(record["selection"]["unknown"])
    return {"molecules": molecules, "unknown": dict(sorted(unknown.items()))}


def _total_without_text(records: Iterable[ChunkRecord]) -> dict[str, dict[str, int]]:
    """Add up the entries `without_text` of the records of all chunks, by provider and reason."""
    totals: dict[str, Counter[str]] = {}
    for record in records:
        for provider, reasons in record["without_text"].items():
            totals.setdefault(provider, Counter()).update(reasons)
    return {provider: dict(sorted(reasons.items())) for provider, reasons in sorted(totals.items())}


def text_lines(manifest: Mapping[str, Any]) -> list[str]:
    """Lines for the terminal.

    Args:
        manifest: the manifest of a shard set, or what has its entries on text.
    """
    lines = []
    coverage = manifest.get("coverage", {})
    for field, column in manifest.get("text_columns", {}).items():
        lines.append(f"text field {field} from '{column}': {coverage[field]} of {manifest['rows']} molecules")
    if selection := manifest.get("selection"):
        chosen = f"{selection['molecules']} of {manifest['rows']} molecules"
        line = f"selected_fields: chosen for {chosen}"
        if selection["unknown"]:
            line += f"; names that are no text field are left out: {_counted(selection['unknown'])}"
        lines.append(line)
    for provider, reasons in manifest.get("without_text", {}).items():
        lines.append(f"{provider}: no text for {sum(reasons.values())} molecules: {_counted(reasons)}")
    return lines


def _counted(counts: Mapping[str, int]) -> str:
    """Numbers and names, the most frequent first."""
    order = sorted(counts, key=lambda name: (-counts[name], name))
    more = [f"{len(order) - SHOWN} more kinds"] if len(order) > SHOWN else []
    return ", ".join([f"{counts[name]} {name}" for name in order[:SHOWN]] + more)
