"""A run in the hands of others: their rights, their folders, their data; and runs that were refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from bound_rights import read_only
from command_line import metrics, mmgnn, write_recipe
from small_set import make_set

from mmgnn_dist.cli.main import main
from mmgnn_dist.config import load_recipe
from mmgnn_dist.data.shardset.splits import make_split
from mmgnn_dist.data.text.token_cache import TokenSet
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import read_json, write_json
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.train.report.results import done
from mmgnn_dist.train.stored.recipe import stored_recipe

WORDS = ["targets=[mu, gap]", "twins=[graph]", "train.max_steps=2", "text.max_unknown=1"]


def with_coverage(shards, share=1):
    """The shard set with the entry of its manifest on text, as if it had a share of the texts."""
    manifest = read_json(shards.path / "manifest.json")
    manifest["coverage"] = dict.fromkeys(shards.text_fields, share * shards.rows)
    write_json(shards.path / "manifest.json", manifest)
    return shards


@pytest.fixture(scope="module")
def base(tiny_bert, tmp_path_factory):
    """A folder with `small.yaml`, `shards`, and `run`, trained by a relative path."""
    folder = tmp_path_factory.mktemp("anywhere")
    make_split(with_coverage(make_set(folder / "shards")))
    recipe = write_recipe(folder, folder / "shards", encoder=tiny_bert)
    recipe.write_text(recipe.read_text().replace(str(folder / "shards"), "shards"))
    here = Path.cwd()
    os.chdir(folder)
    try:
        told = mmgnn("train", "small.yaml", "--run", "run", *WORDS)
    finally:
        os.chdir(here)
    (folder / "told").write_text(told.stdout)
    return folder


def refuse(tokens: TokenSet, most: float) -> None:
    raise UserError("words of another language")


def train(base: Path, run: Path, *words: str) -> int:
    shards = f"data.shards={base / 'shards'}"
    return main(["train", str(base / "small.yaml"), "--run", str(run), *WORDS, shards, *words])


def error_of(capsys) -> str:
    return capsys.readouterr().err.splitlines()[-1]


def test_others_may_read_what_a_run_writes_as_the_umask_says(base):
    umask = os.umask(0)
    os.umask(umask)
    files = [path for path in base.rglob("*") if path.is_file() and path.name != "told"]
    wrong = {
        str(path): oct(path.stat().st_mode) for path in files if path.stat().st_mode & 0o044 != 0o044 & ~umask
    }
    assert len(files) > 20 and not wrong


def test_only_a_model_that_reads_both_has_a_gate(base):
    both, graph = (
        pq.read_schema(base / run / "predictions.parquet").names for run in ("run", "run/twins/graph")
    )
    assert "gap_gate" in both and not [name for name in graph if name.endswith("_gate")]


def test_the_table_says_first_whether_the_models_beat_the_baselines(base):
    first = " ".join((base / "told").read_text().split("MAE on")[0].split())
    assert "baselines (mean, linear fit on composition)" in first
    assert "baselines" in (base / "run" / "report.md").read_text().splitlines()[2]


def test_where_the_data_lie_is_no_part_of_a_run(base, tmp_path, monkeypatch):
    """A link, an absolute path, another folder, other threads and workers: the run is done already."""
    (tmp_path / "link").symlink_to(base / "shards")
    monkeypatch.chdir(tmp_path)
    before = (base / "run" / "journal.jsonl").stat().st_mtime_ns
    assert train(base, base / "run", "data.shards=link", "train.threads=2", "data.workers=3") == 0
    assert (base / "run" / "journal.jsonl").stat().st_mtime_ns == before
    assert train(base, base / "run", shards := f"data.shards={base / 'shards'}") == 0
    assert train(base, base / "run", shards, "train.seed=9") == 2


def test_a_run_of_an_earlier_version_is_done(base, tmp_path):
    """To its fingerprint the path belonged, as it was written."""
    run = RunDir(shutil.copytree(base / "run", tmp_path / "run"))
    recipe = load_recipe(base / "small.yaml", [*WORDS, "twins=[]"])
    record = read_json(run.data)
    write_json(run.data, {**record, "shards": "shards"})
    write_json(run.metrics, {**read_json(run.metrics), "recipe": recipe.earlier_fingerprint("shards")})
    assert done(run.path, recipe.model_copy(update={"data": recipe.data.model_copy(update={"shards": base})}))
    assert not done(run.path, load_recipe(base / "small.yaml", [*WORDS, "twins=[]", "train.seed=3"]))


def test_a_run_that_moved_with_its_data_finds_them(base, tmp_path):
    there = shutil.copytree(base, tmp_path / "there")
    text = (there / "run" / "recipe.yaml").read_text()
    assert f"shards: {base}/shards" in text
    (there / "run" / "recipe.yaml").write_text(text.replace(str(base), "/gone"))
    write_json(there / "run" / "data.json", {**read_json(there / "run" / "data.json"), "shards": "/gone"})
    assert stored_recipe(RunDir(there / "run")).data.shards.resolve() == there / "shards"


def test_a_finished_run_needs_no_shards(base, tmp_path, capsys):
    there = shutil.copytree(base, tmp_path / "there")
    shutil.rmtree(there / "shards")
    for run in (there / "run", there / "run" / "twins" / "graph"):
        (run / "recipe.yaml").write_text((run / "recipe.yaml").read_text().replace(str(base), str(there)))
        write_json(run / "data.json", {**read_json(run / "data.json"), "shards": "gone"})
    assert train(base, there / "run", f"data.shards={there / 'shards'}") == 0
    assert "MAE on" in capsys.readouterr().out
    assert main(["evaluate", str(there / "run"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {name: told[name] for name in metrics(base / "run")["metrics"]} == metrics(base / "run")["metrics"]
    assert "is not at" in told["notes"][0]


def test_a_refused_run_claims_nothing(base, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert train(base, tmp_path / "new", "train.precision=bf16") == 2
    assert "bf16 instructions" in error_of(capsys) and not (tmp_path / "new").exists()
    with monkeypatch.context() as late:  # what is found only once the text is read
        late.setattr(TokenSet, "check_unknown", refuse)
        assert train(base, tmp_path / "new") == 2
    assert "words of another language" in error_of(capsys)
    assert train(base, tmp_path / "new", "train.seed=4", "twins=[]", "model.modality=graph") == 0
    assert train(base, tmp_path / "new", "train.seed=5", "twins=[]", "model.modality=graph") == 2
    assert "another recipe (train.seed differ)" in error_of(capsys)


def test_text_that_no_molecule_has_is_refused(base, tmp_path, capsys):
    make_split(with_coverage(make_set(tmp_path / "bare"), share=0))
    assert train(base, tmp_path / "run", f"data.shards={tmp_path / 'bare'}") == 2
    assert "text could teach nothing" in error_of(capsys) and not (tmp_path / "run").exists()


def test_what_cannot_be_written_is_one_line(base, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    with read_only(tmp_path / "mine", base / "shards"):
        assert train(base, tmp_path / "mine" / "run") == 2
        assert "mine/run cannot be written by you" in error_of(capsys)
        assert main(["data", "split", str(base / "shards"), "--kind", "kfold"]) == 2
        assert "cannot be read or written (Permission denied)" in error_of(capsys)
        assert main(["export", str(base / "run"), str(tmp_path / "mine" / "model")]) == 2
        assert "cannot be read or written" in error_of(capsys)
        out = ["--data", str(base / "shards"), "--out", str(tmp_path / "mine")]
        assert main(["evaluate", str(base / "run"), *out]) == 2
        assert "--out DIR" in error_of(capsys)


@pytest.mark.parametrize("mode", ["full", "frozen"])
def test_a_set_that_cannot_be_written_is_trained_on_with_text(base, tiny_bert, tmp_path, mode):
    make_split(with_coverage(make_set(tmp_path / "shards")))
    words = [f"data.shards={tmp_path / 'shards'}", "twins=[]", f"text.mode={mode}"]
    with read_only(tmp_path / "shards"):
        if mode == "frozen":
            words.append(f"data.cache={tmp_path / 'cache'}")
        assert train(base, tmp_path / "runs" / "run", *words) == 0
    made = tmp_path / ("cache" if mode == "frozen" else "runs/text-cache")
    assert {path.name for path in made.glob("*/*")} == (
        {"tokens", "embeddings"} if mode == "frozen" else {"tokens"}
    )
    assert not (tmp_path / "shards" / "tokens").exists()
    metrics(tmp_path / "runs" / "run")


def test_an_evaluation_tells_leaks_and_takes_a_set_with_some_of_the_targets(base, tmp_path, capsys):
    """Ids alone identify these molecules: those of the second set have the same ones."""
    other = with_coverage(make_set(tmp_path / "other", (50,), seed=5, labels=["gap"]), share=0)
    split = pq.read_table(base / "shards" / "splits" / "random.parquet").to_pydict()
    learned = [name for name, part in zip(split["id"], split["fold_0"], strict=True) if part == "train"]
    known = np.isin(other.ids().astype(str), learned)
    with read_only(base, tmp_path / "other"):
        words = ["evaluate", str(base / "run"), "--data", str(other.path), "--out", str(tmp_path / "out")]
        assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["trained_on"] == known.sum() and 0 < known.sum() < 50
    assert told["test/mae/mu_eV"] is None
    table = pq.read_table(tmp_path / "out" / "predictions.parquet")
    error = np.abs(table["gap_pred"].to_numpy() - table["gap_true"].to_numpy())
    assert told["test/mae/gap_eV"] == pytest.approx(np.nanmean(error))
    assert told["unknown"]["test/mae/gap_eV"] == pytest.approx(np.nanmean(error[~known]))
    assert any("iupac_name 0% (100% in training)" in note for note in told["notes"])
    nothing = make_set(tmp_path / "nothing", (9,), labels=["alpha"])
    assert main(["evaluate", str(base / "run"), "--data", str(nothing.path)]) == 2
    assert "prepare a set with one of them" in error_of(capsys)
