"""The data verbs as a user calls them: exit codes, what is printed, what is left on disk."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

import mmgnn_dist
from mmgnn_dist.cli.main import main
from mmgnn_dist.data.shardset.shards import ShardSet


@pytest.fixture
def planted(columns, save):
    """200 made molecules, of which five are bad in five ways."""
    made = columns(200)
    made["positions"][3][4] = math.nan
    made["atomic_numbers"][50][0] = 200
    made["atomic_numbers"][70], made["positions"][70] = [], []
    made["id"][120] = made["id"][119]
    made["positions"][199] = made["positions"][199][:-1]
    return save(made)


UNITS = ("data.units.energy=Hartree", "data.units.gap=eV")


def test_bad_molecules_are_set_aside_and_counted(planted, tmp_path, capsys):
    assert main(["data", "prepare", str(planted), "--to", str(tmp_path / "set"), *UNITS]) == 0
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last.startswith("200 in, 195 kept, 5 set aside")
    aside = pq.read_table(tmp_path / "set" / "quarantine.parquet")
    assert sorted(aside["row"].to_pylist()) == [3, 50, 70, 120, 199]
    assert len(set(aside["reason"].to_pylist())) == 5
    assert ShardSet.open(tmp_path / "set").rows == 195


def test_json_is_one_object(planted, tmp_path, capsys):
    assert main(["data", "prepare", str(planted), "--to", str(tmp_path / "set"), "--json", *UNITS]) == 0
    captured = capsys.readouterr()
    counts = json.loads(captured.out)
    assert counts["in"] == counts["kept"] + counts["set_aside"] == 200 and captured.err == ""


def test_where_ray_does_not_start_one_line_says_so(planted, tmp_path):
    words = [
        sys.executable,
        "-m",
        "mmgnn_dist.cli",
        "data",
        "prepare",
        planted,
        "--to",
        tmp_path / "set",
        "data.workers=1",
    ]
    words += UNITS
    nowhere = os.environ | {"RAY_TMPDIR": "/proc/nowhere"}
    done = subprocess.run(words, check=False, capture_output=True, text=True, env=nowhere, timeout=120)
    assert done.returncode == 3 and "Traceback" not in done.stderr
    said = done.stderr.splitlines()[-1]
    assert said.startswith("mmgnn: Ray does not start on this machine") and "RAY_TMPDIR" in said
    assert (
        not (tmp_path / "set").exists() and (tmp_path / "set.partial").is_dir()
    )  # kept for the same command


def test_in_an_allocation_without_srun_one_line_says_so(planted, tmp_path, monkeypatch, capsys):
    """As in a container inside of a job."""
    for name, value in (("JOB_ID", "7"), ("JOB_NUM_NODES", "1"), ("NODEID", "0"), ("PROCID", "0")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("PATH", str(tmp_path))
    words = ["data", "prepare", str(planted), "--to", str(tmp_path / "shards"), "data.workers=1", *UNITS]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "srun, which is not on PATH" in told.splitlines()[-1] and "Traceback" not in told


def test_too_many_bad_molecules_leave_nothing(planted, tmp_path, capsys):
    words = [
        "data",
        "prepare",
        str(planted),
        "--to",
        str(tmp_path / "set"),
        "data.max_bad_fraction=0.02",
        *UNITS,
    ]
    assert main(words) == 2
    assert "max_bad_fraction" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [planted.name]


@pytest.mark.parametrize(
    ("source", "overrides", "says"),
    [
        ("nowhere.parquet", UNITS, "nowhere.parquet"),
        ("molecules.parquet", (), "data.units."),
        ("molecules.parquet", ("data.units.energy=furlong", "data.units.gap=eV"), "furlong"),
        ("molecules.parquet", (*UNITS, "data.row_per_shard=5"), "did you mean 'rows_per_shard'"),
        ("broken.parquet", UNITS, "broken.parquet"),
    ],
)
def test_wrong_input_is_one_line(planted, tmp_path, capsys, source, overrides, says):
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really")
    assert main(["data", "prepare", str(tmp_path / source), "--to", str(tmp_path / "set"), *overrides]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("mmgnn:") == 1 and "Traceback" not in error
    assert not list(tmp_path.glob("set*"))


def test_split_verb_and_an_empty_part(sample_shards, columns, save, tmp_path, capsys):
    to = str(tmp_path / "set")
    assert main(["data", "prepare", str(save(columns(40))), "--to", to, *UNITS]) == 0
    assert main(["data", "split", to, "--kind", "kfold", "--folds", "4"]) == 0
    table = pq.read_table(tmp_path / "set" / "splits" / "kfold.parquet")
    assert table.column_names == ["id", "fold_0", "fold_1", "fold_2", "fold_3"]
    tested = np.stack([table[f"fold_{fold}"].to_numpy(zero_copy_only=False) == "test" for fold in range(4)])
    assert (tested.sum(0) == 1).all()
    assert main(["data", "split", to, "--kind", "kfold", "--folds", "99"]) == 2
    assert main(["data", "split", str(tmp_path), "--kind", "random"]) == 2
    assert "not a shard set" in capsys.readouterr().err


def test_words_after_options_are_overrides_only_where_there_are_any(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["data", "split", "somewhere", "--kind", "random", "seed=3"])
    assert caught.value.code == 2 and "seed=3" in capsys.readouterr().err


def test_a_missing_package_names_its_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    for wing in ("train", "models"):  # put back afterwards, as the modules below
        monkeypatch.setattr(mmgnn_dist, wing, getattr(mmgnn_dist, wing, None), raising=False)
    for name in [name for name in sys.modules if name.startswith(("mmgnn_dist.train", "mmgnn_dist.models"))]:
        monkeypatch.delitem(sys.modules, name)
    assert main(["evaluate", "somewhere"]) == 2
    assert "mmgnn_dist[train]" in capsys.readouterr().err
