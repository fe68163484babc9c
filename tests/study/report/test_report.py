"""The report of a study whose runs are made up: what is a gain of text is called one, and nothing else.

Every section is made, from run directories with known errors: text helps for the gap, does nothing for mu,
and for the energy helps no more than shuffled text does.
"""

from __future__ import annotations

import csv
import json
import random
import shutil
import time
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file
from scipy.stats import norm as normal
from scipy.stats import t as student
from small_set import TARGETS, make_set

from mmgnn_dist.cli.main import main
from mmgnn_dist.config import load_recipe
from mmgnn_dist.config.sweep import CLASS_METRICS
from mmgnn_dist.data.shardset.references import labels
from mmgnn_dist.data.shardset.splits import load_split, make_split
from mmgnn_dist.study import compare, energy
from mmgnn_dist.study.grid import make_grid, save_grid
from mmgnn_dist.study.report import figures, groups, report
from mmgnn_dist.study.report.architectures import agreement
from mmgnn_dist.study.report.report_elements import Figure
from mmgnn_dist.study.statistics.auroc_bootstrap import auroc_differences
from mmgnn_dist.study.statistics.bootstrap import paired_gains

LABELS = [*TARGETS, "toxic"]
WORDS = (
    "name=made",
    "data.split=kfold",
    "targets=[mu, gap, energy, toxic]",
    "train.batch=8",
    "train.epochs=4",
    "text.mode=frozen",
    "text.fields=[iupac_name, title, synonyms]",
    "study.backbones.one={model.backbone: {name: schnet, hidden: 16}}",
    "study.backbones.two={model.backbone: {name: painn}}",
    "study.arms=[graph, text, both, width_matched, zero, shuffled, random, same_formula, fingerprint, again]",
    "study.seeds=[0]",
    "study.folds=[0, 1, 2]",
    "study.fusions=[film]",
    "study.modes=[lora]",
    "study.fields=[without, alone]",
    "study.sizes=[50, 100]",
    "study.variants_of=[one]",
)


def error_scale(cell, target: str) -> float:
    """How large the errors of a cell are, by what it reads."""
    reads_text = cell.arm == "both" and cell.variant != "without-title"
    if target == "gap" and reads_text:
        return 0.7
    if target == "gap" and cell.arm == "fingerprint":
        return 0.8
    branch = ("both", "shuffled", "same_formula", "fingerprint")
    return 0.7 if target == "energy" and cell.arm in branch else 1.0


def make_up(study: Path, cells, shards) -> None:
    """Write what finished runs leave behind."""
    hard = np.exp(0.3 * np.random.default_rng(0).standard_normal(shards.rows))
    for cell, recipe in cells.items():
        rng = np.random.default_rng(cell.number)
        folder, rows = cell.run(study), load_split(shards, "kfold", cell.fold)["test"]
        columns = {"id": shards.ids(rows)}
        maes = {}
        gate = rng.uniform(0.3, 0.7, len(rows))
        for target in cell.targets:
            true = labels(shards, rows, [target])[:, 0]
            columns |= {f"{target}_true": true, f"{target}_gate": gate}
            # most of an error is the molecule's own: all models share it
            shared = np.random.default_rng([7, cell.fold, LABELS.index(target)]).standard_normal(len(rows))
            error = error_scale(cell, target) * hard[rows] * (shared + 0.03 * rng.standard_normal(len(rows)))
            if target == "toxic":
                own = np.empty(len(rows))  # as many standard normal numbers in each class, so AUROC is known
                for k in (0, 1):
                    places = np.argsort(np.where(true == k, shared, np.inf))[: int((true == k).sum())]
                    own[places] = normal.ppf((np.arange(len(places)) + 0.5) / len(places))
                score = (3.0 if cell.arm == "both" else 1.0) * true + own + 0.02 * error
                chance = 1.0 / (1.0 + np.exp(-score))
                columns |= {"toxic_pred": (chance > 0.5) * 1.0, "toxic_p_no": 1.0 - chance}
                columns["toxic_p_yes"] = chance
                continue
            columns[f"{target}_pred"] = true + error
            maes[f"{target}_eV"] = float(np.nanmean(np.abs(np.where(np.isfinite(true), error, np.nan))))
        pq.write_table(pa.table(columns), folder / "predictions.parquet")
        base = np.random.default_rng(1).standard_normal((len(rows), 8)).astype(np.float32)
        save_file(
            {"rows": rows, "graph": base + rng.standard_normal(base.shape).astype(np.float32), "fused": base},
            folder / "vectors.safetensors",
        )
        if cell.arm in ("graph", "again"):
            untrained = rng.standard_normal(base.shape).astype(np.float32)
            save_file({"rows": rows, "graph": untrained}, folder / "untrained.safetensors")
        written = {
            "recipe": recipe.fingerprint(),
            "modality": recipe.model.modality,
            "steps": 4,
            "best_step": 4,
            "seconds": 2.0,
            "world": 1,
            "precision": "fp32",
            "parameters": 1000,
            "weights": "0" * 64,
            "units": dict.fromkeys(cell.targets, "eV"),
            "molecules": {"train": recipe.data.train_size or 120, "val": 14, "test": len(rows)},
            "metrics": {f"test/mae/{name}": value for name, value in maes.items()}
            | {f"test/{kind}/toxic": 0.6 + 0.2 * (cell.arm == "both") for kind in CLASS_METRICS},
            "baselines": {
                f"{kind}/{name}": 2.0
                for kind in ("mean", "composition")
                for name in [*(f"mae/{name}" for name in maes), *(f"{kind}/toxic" for kind in CLASS_METRICS)]
            },
        }
        (folder / "metrics.json").write_text(json.dumps(written))
        (folder / "versions.json").write_text('{"torch": "2"}')
        (folder / "data.json").write_text('{"shards": "here", "manifest_sha256": "f00"}')
        (folder / "journal.jsonl").write_text('{"kind": "train", "step": 4, "molecules": 480}\n')


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    shards = make_set(folder / "shards", (140, 100), classes={"toxic": ["no", "yes"]})
    make_split(shards, "kfold", 3)
    recipe = load_recipe(None, [f"data.shards={shards.path}", *WORDS])
    cells = make_grid(recipe)
    save_grid(folder / "study", recipe, cells)
    make_up(folder / "study", cells, shards)
    assert main(["report", str(folder / "study")]) == 0
    return folder / "study", shards, recipe


def numbers(folder: Path, name: str) -> list[dict[str, str]]:
    with open(folder / "report" / "numbers" / f"{name}.csv") as content:
        return list(csv.DictReader(content))


def test_a_gain_of_text_is_found_and_no_other(study):
    folder, _, _ = study
    for name in ("gains", "gains_fusion-film", "gains_mode-lora"):
        rows = numbers(folder, name)
        assert len(rows) == (6 if name == "gains" else 3)
        for row in rows:
            if name == "gains":
                assert row["gain_of_text"] == str(row["target"] == "gap"), row
                assert row["again_marked"] == "False"
            else:
                assert "gain_of_text" not in row  # only the base is tested for marks
            if row["target"] != "mu":
                assert 0 < float(row["over_graph_test_low"]) < 35 and float(row["over_graph_test_high"]) > 25
            assert float(row["over_graph_both_low"]) < 30.0 * (row["target"] != "mu") + 10.0
    text = (folder / "report" / "report.md").read_text()
    assert "gain of text on 1 of 3 targets: gap" in text
    assert "the 6 rows of gains and the 2 rows of differences in AUROC" in text  # one family, named
    assert "Again (the graph arm with another seed) is marked on 0 of 6 rows." in text


def test_a_gain_lands_in_its_step(study):
    """energy gains from any text of its own, gap from the bond graph (20 %) and the name (12.5 % more)."""
    folder, _, _ = study
    rows = {r["step"]: r for r in numbers(folder, "ladder") if r["backbone"] == "all backbones"}
    gap, energy = np.log(0.7) / 3, np.log(0.7) / 3  # of three targets
    bond_graph = np.log(0.8) / 3
    made = {
        "whole": gap + energy,
        "branch": 0.0,
        "identity": energy,
        "composition": 0.0,
        "bond graph": bond_graph,
        "name itself": gap - bond_graph,
        "meaning": gap,
        "nothing": 0.0,
    }
    assert list(rows) == list(made)
    for step, effect in made.items():
        found = rows[step]
        assert float(found["over_reference_test_estimate"]) == pytest.approx(100 * -np.expm1(effect), abs=2.0)
        low, high, p = (float(found[f"over_reference_runs_{key}"]) for key in ("low", "high", "p"))
        assert (p < 0.05) == (low > 0 or high < 0) and (p < 0.05 if effect else p > 0.01), step
    assert (rows["bond graph"]["arm"], rows["bond graph"]["reference"]) == ("fingerprint", "same_formula")
    assert "## What carries the gain" in (folder / "report" / "report.md").read_text()


def test_classes_have_tables_of_their_own(study):
    folder, _, _ = study
    rows = numbers(folder, "class_gains")
    assert [(row["target"], row["backbone"]) for row in rows] == [("toxic", "one"), ("toxic", "two")]
    for row in rows:
        assert row["gain_of_text"] == "True" and row["again_marked"] == "False"
        known = normal.cdf(3 / 2**0.5) - normal.cdf(1 / 2**0.5)  # of two normal distributions
        assert float(row["over_graph_test_estimate"]) == pytest.approx(known, abs=0.02)
        assert 0 < float(row["over_graph_both_low"]) < known < float(row["over_graph_both_high"])
    scores = numbers(folder, "class_scores")
    assert {row["metric"] for row in scores} == set(CLASS_METRICS)
    assert {row["target"] for row in numbers(folder, "errors")} == {"mu", "gap", "energy"}
    others = {row["comparison"] for row in numbers(folder, "class_others")}
    assert {
        "graph + text over zero text",
        "without: title over graph + text",
        "fusion: film over graph",
    } <= others
    text = (folder / "report" / "report.md").read_text()
    assert "higher is better" in text and "gain of text on 1 of 1 classes: toxic (+0." in text


def test_the_primary_endpoint_is_one_number(study):
    """The mean over targets and backbones of the log ratios of the runs, recomputed from their tables."""
    folder, _, _ = study
    mae = {
        (r["backbone"], r["arm"], r["fold"], t): float(r[f"test/mae/{t}_eV"])
        for r in numbers(folder, "runs")
        for t in TARGETS
        if r["variant"] == "base"
    }
    effects = [
        np.mean(
            [np.log(mae[b, "both", f, t] / mae[b, "graph", f, t]) for b in ("one", "two") for t in TARGETS]
        )
        for f in ("0", "1", "2")
    ]
    row = numbers(folder, "primary")[0]
    assert (row["effect"], row["backbone"]) == ("graph + text over graph", "all backbones")
    assert float(row["over_reference_test_estimate"]) == pytest.approx(100 * -np.expm1(np.mean(effects)))
    # the training parts of three folds overlap: n_test / n_train is 80 / 120 in these runs
    t = np.mean(effects) / np.sqrt((1 / 3 + 80 / 120) * np.var(effects, ddof=1))
    assert float(row["over_reference_both_p"]) == pytest.approx(2 * student.sf(abs(t), 2), rel=0.05)
    assert float(row["over_reference_runs_p"]) == pytest.approx(2 * student.sf(abs(t), 2), rel=1e-6)
    text = (folder / "report" / "report.md").read_text()
    assert "The mean gain over 3 distinct targets: mu, gap, energy." in text


def test_every_section_is_there_with_its_numbers(study):
    folder, _, _ = study
    text = (folder / "report" / "report.md").read_text()
    for heading in (
        "When does text help?",
        "Controls",
        "Which field carries the gain?",
        "Fusions and text modes",
        "Learning curve",
        "Where text helps and where it hurts",
        "The gate",
        "Do the architectures agree?",
        "Cost and provenance",
    ):
        assert f"\n## {heading}\n" in text, heading
    without = {(r["field"], r["backbone"], r["target"]): r for r in numbers(folder, "fields_without")}
    assert len(without) == 3 * 3
    assert float(without["title", "one", "gap"]["over_both_test_high"]) < 0  # the one that carried the gain
    assert float(without["synonyms", "one", "gap"]["over_both_test_high"]) > 0
    alone = {(r["field"], r["backbone"], r["target"]): r for r in numbers(folder, "fields_alone")}
    assert float(alone["title", "one", "gap"]["over_graph_test_low"]) > 0
    curve = numbers(folder, "curve_gains")
    assert [int(r["molecules"]) for r in curve[:3]] == [50, 100, 120]
    assert {r["reference"] for r in numbers(folder, "controls")} == {
        "text",
        "width_matched",
        "zero",
        "random",
        "same_formula",
        "fingerprint",
    }
    cka = numbers(folder, "agreement_cka")
    by_arm = {(r["first"], r["second"], r["arm"]): float(r["debiased"]) for r in cka}
    trained = [by_arm["one", "two", arm] for arm in ("graph", "graph + text", "shuffled text")]
    assert min(*trained, by_arm["one", "one", "two trainings"]) > 0.12  # 0.25 but for chance
    assert abs(by_arm["one", "two", "untrained"]) < 0.1
    slopes = {(r["arm"], r["targets"]): r for r in numbers(folder, "curve_slopes")}
    maes = {
        int(r["molecules"]): float(r["mae"])
        for r in numbers(folder, "curve_errors")
        if (r["target"], r["arm"]) == ("mu", "graph")
    }
    expected = np.polyfit(np.log(list(maes)), np.log(list(maes.values())), 1)[0]
    assert float(slopes["graph", "mu"]["slope"]) == pytest.approx(expected, abs=0.02)
    assert slopes["graph", "mu"]["data_limited"] == "False" and "not data-limited" in text
    assert {r["best_is_last"] for r in numbers(folder, "curve_steps")} == {
        "3"
    }  # steps and best step are equal
    gates = numbers(folder, "gate")
    assert all(0.3 < float(r["q05"]) < float(r["mean"]) < float(r["q95"]) < 0.7 for r in gates)
    assert {r["runs"] for r in numbers(folder, "cost")} == {"3"}
    for name in ("errors", "gains", "groups", "runs", "gate_errors", "agreement_errors"):
        assert numbers(folder, name)


def test_energy_is_counted_over_the_ends_of_its_counters(tmp_path, monkeypatch):
    """RAPL begins again at zero: a long session goes around many times, between two looks once at most."""
    package = tmp_path / "intel-rapl:0"
    package.mkdir()
    (package / "max_energy_range_uj").write_text("262143328850\n")

    def counter(value: int) -> None:
        (tmp_path / "new").write_text(f"{value}\n")
        (tmp_path / "new").replace(package / "energy_uj")

    monkeypatch.setattr(energy, "RAPL", tmp_path)
    monkeypatch.setattr(energy, "EVERY", 0.01)
    counter(200_000_000_000)
    with energy.EnergyMeter() as meter:
        for value in (100_000_000_000, 30_000_000_000):  # 0.162 MJ, then 0.192 MJ
            counter(value)
            time.sleep(0.2)
        counter(31_000_000_000)
        assert meter.joules() == {"cpu": round((2 * 262_143_328_850 - 169_000_000_000) / 1e6)}
        (package / "energy_uj").unlink()
        assert meter.joules() == {}


@pytest.mark.parametrize(
    ("sessions", "told"),
    [
        (
            [(["a"], {"cpu": 3600}), (["a"], {"cpu": 3_596_400})],
            "cpu of a meanwhile, all that ran: 1.000 kWh.",
        ),
        ([(["a"], {"gpu": 3_600_000}), (["a", "b"], {})], "1.000 kWh (in 1 of the sessions)."),
        ([(["a", "b"], {})], "Energy of sessions on several nodes was not measured."),
        ([(["a"], {})], "Energy could not be read where they ran."),
    ],
)
def test_the_report_tells_whose_energy_it_was(study, tmp_path, cheap, sessions, told):
    folder, _, _ = study
    lines = [{"seconds": 60.0, "nodes": nodes, "joules": joules} for nodes, joules in sessions]
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "sessions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert told in reported(folder, tmp_path / "part", listed(folder)[:1])


def test_half_a_study_compares_like_with_like(study):
    """Only folds and seeds that both sides have: the gain is that of these molecules."""
    folder, shards, _ = study
    gone = [*folder.glob("cells/one-both-f[12]-*/metrics.json")]
    kept = {path: path.read_text() for path in gone}
    for path in gone:
        path.unlink()
    try:
        assert main(["report", str(folder)]) == 0
        row = next(r for r in numbers(folder, "gains") if (r["backbone"], r["target"]) == ("one", "gap"))
        assert row["over_graph_folds"] == "1"
        true = labels(shards, load_split(shards, "kfold", 0)["test"], ["gap"])[:, 0]
        mae = {}
        for arm in ("graph", "both"):
            table = pq.read_table(folder / f"cells/one-{arm}-f0-s0/predictions.parquet")
            mae[arm] = np.nanmean(np.abs(table["gap_pred"].to_numpy() - true))
        expected = 100 * (1 - mae["both"] / mae["graph"])
        assert float(row["over_graph_test_estimate"]) == pytest.approx(expected)
        assert row["judged"] == "False" and "not judged" in (folder / "report" / "report.md").read_text()
        assert "**Not finished**" in (folder / "report" / "report.md").read_text()
    finally:
        for path, content in kept.items():
            path.write_text(content)


@pytest.mark.parametrize("done", [1, 60, 110])
def test_a_report_at_any_time(study, tmp_path, done):
    """As many runs as a study has done when somebody asks."""
    folder, _, _ = study
    cells = listed(folder)
    assert done < len(cells)
    text = reported(folder, tmp_path / "part", cells[:done])
    assert f"{done} of {len(cells)} runs are done" in text


def listed(folder: Path) -> list[dict[str, Any]]:
    """The cells of a study."""
    return json.loads((folder / "cells.json").read_text())


def reported(folder: Path, other: Path, done: list[dict[str, Any]]) -> str:
    """The report of the same study where only some runs are done, made in another directory."""
    (other / "cells").mkdir(parents=True)
    for path in ("cells.json", "study.yaml"):
        shutil.copy(folder / path, other / path)
    for cell in done:
        (other / "cells" / cell["name"]).symlink_to(folder / "cells" / cell["name"])
    assert main(["report", str(other)]) == 0
    return (other / "report" / "report.md").read_text()


@pytest.fixture
def cheap(monkeypatch):
    """Reports with few resamples, whose figures are made and not drawn: for many of them."""

    def few(*given, **kept):
        return paired_gains(*given[:3], **kept | {"repeats": 20})

    def not_drawn(drawn, name, caption):
        plt.close(drawn)
        return Figure(name, caption, "", b"")

    monkeypatch.setattr(compare, "paired_gains", few)
    monkeypatch.setattr(groups, "paired_gains", few)
    monkeypatch.setattr(compare, "auroc_differences", lambda *given: auroc_differences(*given, repeats=20))
    monkeypatch.setattr(agreement, "LEAST", 3)  # that rank correlations are told of three targets
    monkeypatch.setattr(figures, "_finish", not_drawn)
    monkeypatch.setattr(report, "page", lambda *given: "")


def test_a_report_of_runs_that_have_no_partner_yet(study, tmp_path, cheap):
    """Arrays and Ray end cells in any order, and failed cells leave gaps."""
    folder, _, _ = study
    cells = [cell for cell in listed(folder) if (cell["fold"], cell["seed"]) == (0, 0)]
    kinds = [("one", "zero", "base"), ("two", "both", "base"), ("two", "random", "base")]
    part = [c for c in cells if (c["backbone"], c["arm"], c["variant"]) in kinds]
    assert "## Controls" in reported(folder, tmp_path / "arms", part)
    assert {row["reference"] for row in numbers(tmp_path / "arms", "controls")} == {"random"}
    part = [c for c in cells if c["backbone"] == "two" or c["variant"] != "base"]
    reported(folder, tmp_path / "backbones", part)
    part = [c for c in cells if c["variant"] != "base"]
    text = reported(folder, tmp_path / "variants", part)
    assert "No run of the grid's base is done yet" in text
    assert {row["molecules"] for row in numbers(tmp_path / "variants", "curve_gains")} == {"50", "100"}


@pytest.mark.parametrize("seed", range(8))
def test_a_report_of_any_runs(study, tmp_path, cheap, seed):
    folder, _, _ = study
    cells, draw = listed(folder), random.Random(seed)
    share = draw.choice([0.02, 0.05, 0.2])
    done = [cell for cell in cells if draw.random() < share] or cells[-1:]
    text = reported(folder, tmp_path / "part", done)
    assert f"{len(done)} of {len(cells)} runs are done" in text


def test_runs_that_tested_other_molecules_are_refused(study, capsys):
    folder, _, _ = study
    path = folder / "cells/two-shuffled-f1-s0/predictions.parquet"
    table = pq.read_table(path)
    try:
        pq.write_table(table.take(pa.array(range(1, len(table)))), path)
        assert main(["report", str(folder)]) == 2
        error = capsys.readouterr().err
        assert "two-shuffled-f1-s0 tested other molecules" in error and error.strip().count("\n") == 0
    finally:
        pq.write_table(table, path)
