"""The report of a study: its sections, written as HTML, Markdown, CSV and figures.

DIR/report/report.html         self-contained
DIR/report/report.md           the same, with the figures beside it
DIR/report/numbers/NAME.csv    every number in full precision
DIR/report/figures/NAME.svg, NAME.png
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.data.shardset.text_presence import presence
from mmgnn_dist.files import write_text
from mmgnn_dist.study.collect import Results, collect
from mmgnn_dist.study.report.ablations import controls_section, fields_section, variants_section
from mmgnn_dist.study.report.architectures.agreement import agreement_section
from mmgnn_dist.study.report.classes import CLASSES, class_rows, classes_section
from mmgnn_dist.study.report.costs import costs_section
from mmgnn_dist.study.report.gains import GAINS, gained, gains_section
from mmgnn_dist.study.report.gates import gates_section
from mmgnn_dist.study.report.groups import Kinds, groups_section, kinds_of
from mmgnn_dist.study.report.ladder import ladder_section
from mmgnn_dist.study.report.learning_curve import curve_section
from mmgnn_dist.study.report.page import page
from mmgnn_dist.study.report.primary import PRIMARY, primary_section
from mmgnn_dist.study.report.report_elements import Figure, ReportSection, Table
from mmgnn_dist.study.report.verdicts import make_family
from mmgnn_dist.study.run_cell import DONE, FAILED, failure_line

STUDY_REPORT = "report"
MAIN = (PRIMARY, GAINS, CLASSES)  # titles of the sections whose text stands on the terminal


@dataclass
class Written:
    """Paths of a written report, and its main results in a few lines."""

    page: Path
    markdown: Path
    numbers: Path
    figures: Path
    lines: list[str]


def write_study_report(folder: Path) -> Written:
    """Write the report of the finished cells of a study.

    Raises:
        UserError: if there is no study or no finished cell.
    """
    results = collect(folder)
    kinds = kinds_of(results.shards, results.rows, list(results.recipe.text.fields))
    sections = _sections(results, kinds)
    title, lead = f"Study {results.recipe.name}", _lead(results)
    told = [line for section in sections if section.title in MAIN for line in section.text]
    report_dir = folder / STUDY_REPORT
    if report_dir.is_dir():
        shutil.rmtree(report_dir)
    for item in (item for section in sections for item in section.items):
        if isinstance(item, Table):
            write_text(report_dir / "numbers" / f"{item.name}.csv", item.csv())
        else:
            write_text(report_dir / "figures" / f"{item.name}.svg", item.svg)
            (report_dir / "figures" / f"{item.name}.png").write_bytes(item.png)
    write_text(report_dir / "report.md", _markdown(title, lead, sections))
    write_text(report_dir / "report.html", page(title, lead, sections))
    return Written(
        report_dir / "report.html",
        report_dir / "report.md",
        report_dir / "numbers",
        report_dir / "figures",
        [line.replace("**", "") for line in (*lead[-1:], *told)],
    )


def _sections(results: Results, kinds: Kinds) -> list[ReportSection]:
    """Make all sections: those on errors of numbers, those on classes, and those on both."""
    found, classed = gained(results), class_rows(results)
    family = make_family(found.rows, classed)
    numbers = (
        primary_section(results, found.compared, found.again),
        gains_section(results, found, family),
        ladder_section(results),
        controls_section(results),
        fields_section(results),
        variants_section(results),
        curve_section(results),
        groups_section(results, kinds),
    )
    sections = [
        *(numbers if results.targets else ()),
        classes_section(results, classed, family),
        gates_section(results, kinds),
        agreement_section(results, found.compared),
        costs_section(results),
    ]
    return [section for section in sections if section is not None]


def _lead(results: Results) -> list[str]:
    """Opening lines of the report: data, text, models, and missing or failed cells."""
    recipe, shards = results.recipe, results.shards
    assert recipe.study is not None
    counts = Counter(results.cells.values())
    sizes = next(iter(results.metrics.values()))["molecules"]
    lines = [
        f"{shards.rows:,} molecules of shard set {shards.path.name}, split {recipe.data.split}: "
        f"{len(set(results.folds))} fold(s) of {sizes['train']:,} training, {sizes['val']:,} validation and "
        f"{sizes['test']:,} test molecules or nearly so; {len(recipe.study.seeds)} seed(s); "
        + ("one model for all targets." if recipe.study.targets == "together" else "one for each target.")
    ]
    lines += _text(shards, list(recipe.text.fields))
    lines.append(
        f"Encoder {recipe.text.encoder}, {recipe.text.mode}; fusion {recipe.model.fusion}; at most "
        f"{recipe.train.epochs} epochs, batch {recipe.train.batch}."
    )
    if len(set(results.folds)) == 1:
        lines.append(
            "All runs have one training set: what holds for another training holds for another seed on "
            "the same molecules, not for other training molecules."
        )
    elif not results.apart:
        lines.append(
            "Some molecules are tested in several folds: each is drawn once, in all folds together, and "
            "adds its variance to that of the trainings."
        )
    if counts[DONE] < len(results.cells):
        lines.append(f"**Not finished**: {counts[DONE]} of {len(results.cells)} runs are done.")
    for cell, state in results.cells.items():
        if state == FAILED:
            lines.append(f"**{cell.name} failed**: {failure_line(cell.run(results.folder))}")
    return lines


def _text(shards: ShardSet, fields: list[str]) -> list[str]:
    """Coverage of the text fields and their sources."""
    batches = [shard.table.to_batches()[0] for shard in shards.shards]
    coverage = {name: sum(int(presence(batch, name).sum()) for batch in batches) for name in fields}
    counts = ", ".join(f"{name} {count:,}" for name, count in coverage.items())
    lines = [f"Text, by molecules that have it: {counts} of {shards.rows:,}."]
    origin: Counter[str] = Counter()
    for value in shards.column("field_sources").to_pylist():
        if value:
            origin.update(str(source).split(" ")[0] for f, source in json.loads(value).items() if f in fields)
    if origin:
        sources = ", ".join(f"{name} ({count:,} fields)" for name, count in origin.most_common(6))
        lines[0] += f" Sources: {sources}."
    if any("rdkit" in name.lower() for name in origin):
        lines.append("Fields by RDKit are functions of the 2D structure, which the graph has too.")
    return lines


def _markdown(title: str, lead: list[str], sections: list[ReportSection]) -> str:
    lines = [f"# {title}", ""]
    for line in lead:
        lines += [line, ""]
    for section in sections:
        lines += [f"## {section.title}", ""]
        for line in section.text:
            lines += [line, ""]
        for item in section.items:
            if isinstance(item, Figure):
                lines += [f"![{item.caption}](figures/{item.name}.png)", "", item.caption, ""]
            else:
                lines += [f"### {item.title}", "", *item.markdown(), ""]
    return "\n".join(lines)
