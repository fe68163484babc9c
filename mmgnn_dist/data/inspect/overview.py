"""Overview of a shard set: counts, coverage, distributions, quarantine; as numbers and as tables.

All values come from the manifest and the memory-mapped columns. Token lengths are those of a seeded sample of
molecules, tokenised in memory: nothing is written into the shard set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmgnn_dist.config import TextConfig
from mmgnn_dist.data.inspect.audit import Overlap
from mmgnn_dist.data.inspect.leaks.finding import AuditFinding
from mmgnn_dist.data.inspect.overview_records import (
    Histogram,
    Overview,
    OverviewTable,
    TargetOverview,
    TokenLengths,
    TokensMissing,
    TokenSpread,
)
from mmgnn_dist.data.prepare.text.text_report import text_lines
from mmgnn_dist.data.shardset.manifest import StateCounts
from mmgnn_dist.data.shardset.references import visits
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.data.shardset.splits import split_info, split_names
from mmgnn_dist.data.text.encoder_files import resolve_encoder
from mmgnn_dist.data.text.sentences import own_sentences, render, sentence_of, wording_of
from mmgnn_dist.data.text.token_runs import encode_field
from mmgnn_dist.data.text.tokenizer import load_tokenizer, special_tokens
from mmgnn_dist.data.text.total_budget import fitting_fields
from mmgnn_dist.errors import UserError

BINS = 40
SAMPLE = 10_000  # molecules whose text is tokenised
BLOCKS = " ▁▂▃▄▅▆▇█"


def look(shards: ShardSet, text: TextConfig) -> Overview:
    """Everything that `mmgnn data inspect` shows, as JSON-compatible values.

    Args:
        shards: the shard set.
        text: gives tokenizer, sentences and budgets; all fields are counted, also those not in `text.fields`.
    """
    manifest = shards.manifest
    stats, units = manifest["target_stats"], shards.units
    atoms = np.concatenate([np.diff(shard.ptr) for shard in shards.shards])
    return {
        "name": shards.path.resolve().name,
        "rows": shards.rows,
        "shards": len(shards.shards),
        "bytes": sum(entry["bytes"] for entry in manifest["shards"]),
        "atoms": int(atoms.sum()),
        "elements": manifest["elements"],
        "counts": manifest["counts"],
        "sources": manifest["sources"],
        "versions": manifest["versions"],
        "splits": {name: split_info(shards, name) for name in split_names(shards)},
        "targets": {
            name: {"unit": units[name], **stats[name], "histogram": _target_histogram(shards, name)}
            for name in shards.targets
        },
        "sizes": histogram(atoms),
        "coverage": manifest["coverage"],
        "text_columns": shards.text_columns,
        "selection": manifest.get("selection"),
        "without_text": manifest.get("without_text", {}),
        "states": manifest.get("states", StateCounts(charge={}, multiplicity={})),
        "tokens": _token_lengths(shards, text),
    }


def histogram(values: np.ndarray) -> Histogram:
    """Histogram of integers over at most `BINS` equal bins: low, high, counts."""
    if not len(values):
        return {"low": 0.0, "high": 1.0, "counts": []}
    low, high = int(values.min()), int(values.max()) + 1
    width = -(-(high - low) // BINS)
    bins = -(-(high - low) // width)
    counts, _ = np.histogram(values, bins, (low, low + bins * width))
    return {"low": float(low), "high": float(low + bins * width), "counts": counts.tolist()}


def _target_histogram(shards: ShardSet, name: str) -> Histogram:
    stats = shards.manifest["target_stats"][name]
    low, high = stats["min"], stats["max"]
    if low is None or high is None:  # no molecule has it
        return {"low": 0.0, "high": 1.0, "counts": []}
    if low == high:
        low, high = low - 0.5, high + 0.5
    counts = np.zeros(BINS, np.int64)
    column = shards.targets.index(name)
    for shard in shards.shards:
        values = shard.y[:, column]
        counts += np.histogram(values[~np.isnan(values)], BINS, (low, high))[0]
    return {"low": low, "high": high, "counts": counts.tolist()}


def _token_lengths(shards: ShardSet, text: TextConfig) -> TokenLengths | TokensMissing:
    """Token lengths of the fields of a sample; `missing` gives the reason if there are none."""
    try:
        files = resolve_encoder(text.encoder, text.revision, text.random)
        tokenizer = load_tokenizer(files)
        special = sum(map(len, special_tokens(tokenizer)))
    except UserError as error:
        return {"missing": str(error)}
    rng = np.random.default_rng(0)
    rows = np.sort(rng.choice(shards.rows, min(SAMPLE, shards.rows), replace=False))
    fields: dict[str, TokenSpread] = {}
    kept_of: dict[str, np.ndarray] = {}
    tables = [shard.table.take(local) for _, shard, local in visits(shards, rows)]
    template = own_sentences(shards.text_columns) | text.template
    for field in shards.text_fields:
        budget = text.budgets.get(field, text.field_tokens)
        wording = wording_of(field, sentence_of(field, template), budget, total_tokens=text.total_tokens)
        texts = [sentence for table in tables for sentence in render(table, field, template)]
        ids, ptr, lengths = encode_field(texts, wording, tokenizer)
        kept = np.diff(ptr)
        fields[field] = {
            **_spread(lengths[lengths > 0]),
            "budget": wording.budget,
            "cut_molecules": int((lengths > kept).sum()),
            "cut_tokens": int((lengths - kept).sum()),
            "left_out": 0,
            "unknown": int((ids == tokenizer.unk_token_id).sum()),
        }
        kept_of[field] = kept
    if text.total_tokens is not None:
        kept_of = {field: kept_of[field] for field in text.fields if field in kept_of}
        for field, reads in fitting_fields(kept_of, text.total_tokens - special).items():
            fields[field]["left_out"] = int(((kept_of[field] > 0) & ~reads).sum())
            kept_of[field] = kept_of[field] * reads
    whole = sum(kept_of.values(), np.zeros(len(rows), np.int64))
    everything = _spread(whole[whole > 0] + special)
    return {
        "encoder": files.name,
        "sample": len(rows),
        "total_tokens": text.total_tokens,
        "fields": fields,
        "all": everything,
    }


def _spread(lengths: np.ndarray) -> TokenSpread:
    """Number, mean, 95th percentile, maximum and histogram of some lengths."""
    if not len(lengths):
        return {"present": 0, "mean": 0.0, "p95": 0, "max": 0, "histogram": histogram(lengths)}
    return {
        "present": len(lengths),
        "mean": float(lengths.mean()),
        "p95": int(np.percentile(lengths, 95, method="inverted_cdf")),
        "max": int(lengths.max()),
        "histogram": histogram(lengths),
    }


def summary(overview: Overview) -> list[str]:
    """The first lines: size, counts, splits."""
    counts = overview["counts"]
    lines = [
        f"{overview['rows']:,} molecules in {overview['shards']} shards, {overview['atoms']:,} atoms "
        f"({', '.join(overview['elements'])}), {overview['bytes'] / 1e6:,.1f} MB",
        f"{counts['in']:,} in, {counts['kept']:,} kept, {counts['set_aside']:,} set aside",
    ]
    for name, split in overview["splits"].items():
        description = (
            f"{split['kind']}, {split['folds']} folds, seed {split['seed']}" if split else "made by hand"
        )
        lines.append(f"split {name}: {description}")
    tokens = overview["tokens"]
    if "missing" not in tokens and (unknown := _unknown_tokens(tokens)):
        lines.append(f"tokens that {tokens['encoder']} does not know: {', '.join(unknown)}")
    return lines + text_lines(overview)


def _unknown_tokens(tokens: TokenLengths) -> list[str]:
    counts = {name: spread.get("unknown", 0) for name, spread in tokens["fields"].items()}
    return [f"{count:,} of {name}" for name, count in counts.items() if count]


def tables(overview: Overview) -> list[OverviewTable]:
    """The tables of the overview."""
    entries = overview["targets"].items()
    targets = OverviewTable(
        title="Targets",
        columns=["target", "unit", "molecules", "mean", "sd", "min", "max"],
        rows=[(_target_cells(name, target), target["histogram"]) for name, target in entries],
    )
    rows = max(overview["rows"], 1)
    coverage = OverviewTable(
        title="Coverage of text fields",
        columns=["field", "molecules", "share"],
        rows=[
            ([name, f"{count:,}", f"{count / rows:.1%}"], None)
            for name, count in overview["coverage"].items()
        ],
    )
    set_aside = OverviewTable(
        title="Set aside",
        columns=["reason", "molecules"],
        rows=[([reason, f"{n:,}"], None) for reason, n in overview["counts"]["reasons"].items()],
    )
    found = [targets, coverage]
    rows_of_states = [
        ([name, value, f"{count:,}"], None)
        for name, counts in (
            ("charge", overview["states"]["charge"]),
            ("multiplicity", overview["states"]["multiplicity"]),
        )
        for value, count in counts.items()
    ]
    if rows_of_states:
        found.append(
            OverviewTable(
                title="Charge and multiplicity",
                columns=["kind", "value", "molecules"],
                rows=list(rows_of_states),
            )
        )
    tokens = overview["tokens"]
    return [*found, *([] if "missing" in tokens else [_token_table(tokens)]), set_aside]


def _target_cells(name: str, target: TargetOverview) -> list[str]:
    values = (target["mean"], target["std"], target["min"], target["max"])
    cells = ["" if value is None else f"{value:.5g}" for value in values]
    return [name, target["unit"], f"{target['count']:,}", *cells]


def _token_table(tokens: TokenLengths) -> OverviewTable:
    total = tokens["total_tokens"]
    joined = "all within budgets" if total is None else f"text.fields within {total}"
    spreads = {**tokens["fields"], joined: tokens["all"]}
    return OverviewTable(
        title=f"Tokens of {tokens['encoder']} in {tokens['sample']:,} molecules; cut: tokens, of molecules"
        + ("" if total is None else "; left out: molecules"),
        columns=["field", "present", "mean", "95 %", "max", "budget", "cut"]
        + (["left out"] if total is not None else []),
        rows=[
            (_token_cells(name, spread, total is not None), spread["histogram"])
            for name, spread in spreads.items()
        ],
    )


def _token_cells(name: str, spread: TokenSpread, leaves_out: bool) -> list[str]:
    cells = [name, f"{spread['present']:,}", f"{spread['mean']:.1f}", str(spread["p95"]), str(spread["max"])]
    if "budget" not in spread:
        return [*cells, "", "", *[""] * leaves_out]
    cut = f"{spread['cut_tokens']:,} of {spread['cut_molecules']:,}" if spread["cut_tokens"] else "0"
    budget = "whole" if spread["budget"] is None else str(spread["budget"])
    return [*cells, budget, cut, *[f"{spread['left_out']:,}"] * leaves_out]


def print_overview(overview: Overview) -> None:
    """Print an overview as tables."""
    from rich.console import Console

    console = Console()
    for line in summary(overview):
        console.print(line, highlight=False)
    if "missing" in overview["tokens"]:
        console.print(f"tokens not counted: {overview['tokens']['missing']}", highlight=False)
    for table in tables(overview):
        if not table.rows:
            continue
        plotted = any(bars for _, bars in table.rows)
        body = [[*cells, sparkline(bars["counts"])] if bars else cells for cells, bars in table.rows]
        console.print(_table(table.title, [*table.columns, "plot"] if plotted else table.columns, body))


def print_audit(overlaps: Sequence[Overlap], findings: Sequence[AuditFinding], by_id: int) -> None:
    """Print overlaps as a table, findings as lines, and the number of molecules that have only an id."""
    from rich.console import Console

    columns = ["split", "fold", "by", "in", "also in", "groups", "molecules", "share"]
    body = [
        [
            o.split,
            str(o.fold),
            o.way,
            o.second,
            o.first,
            f"{o.groups:,}",
            f"{o.molecules:,}/{o.of:,}",
            f"{o.share:.2%}",
        ]
        for o in overlaps
    ]
    Console().print(_table("Overlaps between parts", columns, body))
    for finding in findings:
        print(f"{finding.severity}: {finding.sentence}")
    if not findings:
        print("no leak found")
    if by_id:
        print(f"{by_id} molecules have neither InChIKey nor SMILES: whether parts share them cannot be told")


def _table(title: str, columns: list[str], rows: list[list[str]]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    for index, column in enumerate(columns):
        is_text = index == 0 or column in ("unit", "by", "in", "also in", "plot", "reason")
        table.add_column(column, justify="left" if is_text else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def sparkline(counts: Sequence[int], width: int = 10) -> str:
    """Counts as a line of blocks, at most `width` characters."""
    step = max(-(-len(counts) // width), 1)
    sums = [sum(counts[start : start + step]) for start in range(0, len(counts), step)]
    most = max(sums, default=0)
    return "".join(BLOCKS[-(-number * (len(BLOCKS) - 1) // most)] if most else " " for number in sums)
