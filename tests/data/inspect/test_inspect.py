"""`mmgnn data inspect`: its numbers against the shards, and a page that asks for nothing else."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

from mmgnn_dist.cli.main import main
from mmgnn_dist.data.inspect.overview import histogram, sparkline
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.files import write_json


def run(capsys, *words):
    code = main(["data", "inspect", *map(str, words)])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_numbers(sample_shards, capsys):
    code, out, _ = run(capsys, sample_shards.path, "--json")
    shown = json.loads(out)
    assert (
        code == 0
        and shown["rows"] == sample_shards.rows
        and shown["coverage"] == sample_shards.manifest["coverage"]
    )
    y = np.concatenate([shard.y for shard in sample_shards.shards])
    for place, name in enumerate(sample_shards.targets):
        target = shown["targets"][name]
        assert sum(target["histogram"]["counts"]) == target["count"] == (~np.isnan(y[:, place])).sum()
        assert target["histogram"]["counts"][0] > 0 and target["histogram"]["counts"][-1] > 0
    assert sum(shown["sizes"]["counts"]) == sample_shards.rows
    tokens = shown["tokens"]
    assert tokens["sample"] == sample_shards.rows
    assert tokens["fields"]["tpsa"]["present"] == shown["coverage"]["tpsa"]
    name = tokens["fields"]["iupac_name"]
    assert sum(name["histogram"]["counts"]) == name["present"] == shown["coverage"]["iupac_name"]
    assert name["mean"] <= name["p95"] <= name["max"]


def test_nothing_is_written_into_the_set(sample_shards, tmp_path, capsys):
    shards = ShardSet.open(shutil.copytree(sample_shards.path, tmp_path / "copy"))
    before = sorted(shards.path.rglob("*"))
    assert run(capsys, shards.path, "--html", tmp_path / "page.html")[0] == 0
    assert sorted(shards.path.rglob("*")) == before


def test_a_page_that_cannot_be_written_is_one_line(sample_shards, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for page in (tmp_path / "file" / "page.html", tmp_path):
        code, _, err = run(capsys, sample_shards.path, "--html", page)
        assert (
            code == 2 and err.startswith(f"mmgnn: --html {page} cannot be written") and err.count("\n") == 1
        )


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.names = [], []

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        assert not {"src", "href", "onload"} & {name for name, _ in attrs}
        if tag not in ("meta", "rect", "line"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("rect", "line"):
            assert self.open.pop() == tag


def test_the_page_needs_nothing_else(sample_shards, tmp_path, capsys):
    """Well-formed, without any reference, for narrow screens and both modes; hostile names stay text."""
    shards = ShardSet.open(shutil.copytree(sample_shards.path, tmp_path / "copy"))
    reasons = {"<script>alert(1)</script>": 3, "zero atoms": 2}
    counts = shards.manifest["counts"] | {"reasons": reasons, "set_aside": 5}
    write_json(shards.path / "manifest.json", {**shards.manifest, "counts": counts})
    code, out, _ = run(capsys, shards.path, "--html", tmp_path / "page.html")
    assert code == 0 and "zero atoms" in out and "page written to" in out
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|//|url\(|@import|<script|<link|<img", page)
    assert "&lt;script&gt;" in page and "prefers-color-scheme: dark" in page and 'name="viewport"' in page
    parser = Tags()
    parser.feed(page)
    assert not parser.open
    assert parser.names.count("svg") >= len(shards.targets) + 5
    for shape in re.findall(r'<rect[^>]*height="([^"]*)"', page):
        assert 0 <= float(shape) <= 140
    for name in ("iupac_name", "zero atoms", "homo / eV", "Coverage of text fields"):
        assert name in page


def test_without_an_encoder_the_rest_is_shown(sample_shards, tmp_path, capsys):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("text: {encoder: ./nowhere}\n")
    code, out, _ = run(capsys, sample_shards.path, "--recipe", recipe)
    assert code == 0 and "tokens not counted: no folder ./nowhere" in out and "Coverage" in out


def test_the_terminal_tables_fit_80_columns(sample_shards, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = run(capsys, sample_shards.path)
    assert "…" not in out and max(len(line.rstrip()) for line in out.splitlines()) <= 80


@pytest.mark.parametrize(("low", "high"), [(3, 3), (3, 29), (1, 400)])
def test_histograms_of_whole_numbers_count_everything(low, high):
    values = np.random.default_rng(0).integers(low, high + 1, 500)
    bars = histogram(values)
    assert sum(bars["counts"]) == 500 and len(bars["counts"]) <= 40
    assert bars["low"] == values.min() and bars["high"] > values.max()


def test_sparklines():
    assert sparkline([0, 1, 8]) == " ▁█" and sparkline([]) == "" and sparkline([0, 0]) == "  "
    assert len(sparkline(list(range(40)))) == 10
