"""Pages of runs as a user makes and reads them: what is on them, and that they load nothing."""

from __future__ import annotations

import json
import re
import threading
import urllib.error
import urllib.request
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmgnn_dist.cli.main import main
from mmgnn_dist.config import Recipe
from mmgnn_dist.html_style import STYLE
from mmgnn_dist.show import charts
from mmgnn_dist.show.serve import make_server
from mmgnn_dist.train.report.scores import number_scores

TARGETS = {"homo": "eV", "cv": "cal/mol/K"}


@pytest.fixture
def make_run(few_shards, tmp_path):
    """Write a run directory as training leaves it, with predictions of our own."""

    def make(name, seed=0, finished=True, modality="both"):
        folder = tmp_path / "runs" / name
        recipe = Recipe.model_validate(
            {
                "name": name,
                "targets": list(TARGETS),
                "data": {"shards": str(few_shards.path)},
                "model": {"modality": modality},
            }
        )
        folder.mkdir(parents=True)
        recipe.save(folder / "recipe.yaml")
        lines = [{"kind": "train", "step": k, "loss": 1 / k, "rate": 100.0} for k in range(1, 21)]
        lines += [
            {"kind": "validation", "step": k, "val/mae/homo_eV": 1 / k, "val/score": 1.0} for k in (10, 20)
        ]
        (folder / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        if not finished:
            return folder
        rng, rows = np.random.default_rng(seed), np.arange(40)
        columns = {"id": pa.array(few_shards.ids(rows))}
        for target in TARGETS:
            true = rng.normal(size=40)
            columns |= {
                f"{target}_true": true,
                f"{target}_pred": true + 0.1,
                f"{target}_gate": np.full(40, 0.6),
            }
        columns["homo_pred"][3] = columns["homo_true"][3] + 5
        pq.write_table(pa.table(columns), folder / "predictions.parquet")
        facts = {
            "parameters": 10,
            "steps": 20,
            "best_step": 20,
            "seconds": 3.0,
            "world": 1,
            "precision": "fp32",
        }
        facts |= {"units": TARGETS, "molecules": {"train": 320, "val": 40, "test": 40}, "metrics": {}}
        facts |= {"shards_sha256": "a", "split_sha256": "b", "recipe": "c", "modality": modality}
        names = {"homo": "homo_eV", "cv": "cv_cal_per_mol_per_K"}
        metrics = [f"{kind}/mae/{name}" for kind in ("mean", "composition") for name in names.values()]
        facts["baselines"] = dict.fromkeys(metrics, 1.0)
        (folder / "metrics.json").write_text(json.dumps(facts))
        return folder

    return make


class Tags(HTMLParser):
    """Checks that tags are closed in order, and keeps addresses that a browser would load."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.loads = [], []

    def handle_starttag(self, tag, attrs):
        self.loads += [
            value for name, value in attrs if name in ("src", "href") and not value.startswith("#")
        ]
        if tag not in ("meta", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        pass


def read(page):
    text, tags = page.read_text(encoding="utf-8"), Tags()
    tags.feed(text)
    assert not tags.open and not tags.loads and "<script" not in text and len(text) < 3_000_000
    return text


def test_scores_against_a_worked_example():
    """Labels 1 2 3 4 and none, predictions 1 2 4 3: errors 0 0 1 1, variance 5, two ranks exchanged."""
    found = number_scores(np.array([1, 2, 3, 4, np.nan]), np.array([1, 2, 4, 3, 9.0]))
    assert (found.count, found.mae, found.largest) == (4, 0.5, 1.0)
    assert found.rmse == pytest.approx(0.5**0.5) and found.r2 == pytest.approx(1 - 2 / 5)
    assert found.spearman == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert number_scores(np.full(3, np.nan), np.zeros(3)).count == 0
    assert np.isnan(number_scores(np.ones(3), np.arange(3.0)).r2)
    # a tie shares its ranks: 1 2.5 2.5 against 1 2 3, so the correlation is 1.5 / sqrt(1.5 * 2)
    assert number_scores(np.array([0, 5, 5.0]), np.array([1, 2, 3.0])).spearman == pytest.approx(1.5 / 3**0.5)


def test_the_page_of_a_run(make_run, few_shards, capsys):
    folder = make_run("demo")
    assert main(["show", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "better than the mean and than a linear fit on atom counts for 2 of 2 targets" in said
    text = read(folder / "page.html")
    worst = few_shards.ids(np.array([3]))[0]
    true = pq.read_table(folder / "predictions.parquet")["homo_true"][3].as_py()
    assert f"<title>{worst}: {true:.5g}, predicted {true + 5:.5g}</title>" in text
    drawn = text[text.index("Largest errors</h2>") :]
    assert drawn.index(worst) < drawn.index("</figure>")  # the first that is drawn
    smiles = few_shards.column("smiles")[3].as_py()
    assert f'aria-label="{smiles}"' in drawn
    for title in (
        "Learning curves",
        "Errors by kind of molecule",
        "Gate",
        "Cost",
        "Recipe",
        "without iupac_name",
    ):
        assert title in text


def test_an_unfinished_run_and_one_without_its_shards(make_run, few_shards, capsys):
    started = make_run("started", finished=False)
    assert main(["show", str(started)]) == 0
    assert "not finished: 20 steps are done" in capsys.readouterr().out
    assert "Parity</h2>" not in read(started / "page.html")
    moved = make_run("moved")
    recipe = moved / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(str(few_shards.path), "nowhere"))
    assert main(["show", str(moved)]) == 0
    assert "is not here" in capsys.readouterr().out and "Parity</h2>" in read(moved / "page.html")
    assert main(["show", str(moved.parent)]) == 2
    assert "is no run directory" in capsys.readouterr().err


def test_runs_side_by_side(make_run, tmp_path, capsys):
    one, other = make_run("one"), make_run("other", seed=1, modality="graph")
    page = tmp_path / "compare.html"
    assert main(["compare", str(one), str(other), "--html", str(page), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["errors"]["homo (eV)"] == pytest.approx([0.1 + 4.9 / 40] * 2)
    assert found["differ"]["model.modality"] == ["both", "graph"] and not found["notes"]
    assert "Where the recipes differ" in read(page)
    metrics = other / "metrics.json"
    metrics.write_text(metrics.read_text().replace('"split_sha256": "b"', '"split_sha256": "z"'))
    assert main(["compare", str(one), str(other)]) == 0
    assert "errors do not compare" in capsys.readouterr().out
    assert main(["compare", str(one)]) == 2


def test_a_folder_of_runs_in_the_browser(make_run):
    folder = make_run("live", finished=False).parent
    with make_server(folder, 0) as server:
        assert server.server_address[0] == "127.0.0.1"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        home = f"http://127.0.0.1:{server.server_address[1]}"
        assert '<a href="/live">live</a>' in urllib.request.urlopen(home).read().decode()
        page = urllib.request.urlopen(f"{home}/live").read().decode()
        assert 'http-equiv="refresh"' in page and "training loss" in page
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{home}/../../etc/passwd")
        server.shutdown()


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2.1."""
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_text_and_lines_have_the_contrast_of_wcag():
    """4.5 for text, 3 for lines of a chart, in both modes."""
    for pattern in (r"^:root \{(.*?)\}", r"dark\) \{\s*:root \{(.*?)\}"):
        found = {}
        for style in (STYLE, charts.STYLE):
            for block in re.findall(pattern, style, re.MULTILINE | re.DOTALL):
                found |= dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))
        page = luminance(found["page"])
        names = ("text", "soft", "link", "bar", *(f"s{k}" for k in range(charts.COLOURS)))
        for name in names:
            lights = sorted((luminance(found[name]), page))
            ratio = (lights[1] + 0.05) / (lights[0] + 0.05)
            assert ratio >= (4.5 if name in ("text", "soft", "link") else 3.0), name
