import fcntl
import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmgnn_dist.cli.main import main
from mmgnn_dist.config import DataConfig
from mmgnn_dist.data.prepare import duplicates, pipeline, ray_run
from mmgnn_dist.data.prepare.chunks import Staging
from mmgnn_dist.data.prepare.in_process import is_small
from mmgnn_dist.data.prepare.pipeline import prepare
from mmgnn_dist.data.prepare.plan import make_prepare_plan
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.errors import TryAgain, UserError

UNITS = {"energy": "eV", "gap": "eV"}


def settings(**changes):
    return DataConfig(**{"units": UNITS, "rows_per_shard": 50, **changes})


def hashes(path):
    return [
        (entry["name"], entry["sha256"])
        for entry in json.loads((path / "manifest.json").read_text())["shards"]
    ]


def quarantine(path):
    return {
        (row["id"], row["row"]): row["reason"]
        for row in pq.read_table(path / "quarantine.parquet").to_pylist()
    }


@pytest.fixture
def planted(columns, save):
    """300 molecules, 14 of them bad."""
    made = columns(300)
    made["positions"][7][2] = float("nan")
    made["atomic_numbers"][60][0] = 0
    made["atomic_numbers"][61], made["positions"][61] = [], []
    made["id"][299] = made["id"][3]
    for k in range(200, 210):
        made["id"][k] = made["id"][100]
    return save(made), made


def test_bad_molecules_do_not_stop_the_others(planted, tmp_path):
    path, made = planted
    seen = []
    result = prepare([str(path)], tmp_path / "set", data=settings(), progress=lambda *step: seen.append(step))
    assert result.counts == {
        "in": 300,
        "kept": 286,
        "set_aside": 14,
        "reasons": {"duplicate id": 11, "non-finite coordinates": 1, "unknown element": 1, "zero atoms": 1},
    }
    assert result.lines[-1].startswith("300 in, 286 kept, 14 set aside (11 duplicate id")
    assert quarantine(tmp_path / "set") == {
        ("made-00007", 7): "non-finite coordinates",
        ("made-00060", 60): "unknown element",
        ("made-00061", 61): "zero atoms",
        ("made-00003", 299): "duplicate id",
        **{("made-00100", row): "duplicate id" for row in range(200, 210)},
    }
    bad = {7, 60, 61, 299, *range(200, 210)}
    kept = [k for k in range(300) if k not in bad]
    shards = ShardSet.open(tmp_path / "set")
    assert shards.ids().tolist() == [made["id"][k] for k in kept]
    assert np.concatenate([shard.y for shard in shards.shards])[:, shards.targets.index("gap")].tolist() == [
        made["gap"][k] for k in kept
    ]
    assert shards.column("z").to_pylist() == [made["atomic_numbers"][k] for k in kept]
    flat = np.concatenate([made["positions"][k] for k in kept]).reshape(-1, 3)
    assert np.array_equal(np.concatenate([shard.pos for shard in shards.shards]), flat.astype(np.float32))
    assert seen[0][:2] == (0, 0) and seen[1][:2] == (0, 300) and seen[-1][:2] == (300, 300)
    assert not (tmp_path / "set.partial").exists()


def test_the_manifest_says_what_is_in_the_shards(planted, tmp_path):
    prepare([str(planted[0])], tmp_path / "set", data=settings())
    shards = ShardSet.open(tmp_path / "set")
    manifest = shards.manifest
    y = np.concatenate([shard.y for shard in shards.shards])
    for place, name in enumerate(shards.targets):
        stats = manifest["target_stats"][name]
        assert stats["count"] == shards.rows == manifest["rows"]
        assert (stats["mean"], stats["std"]) == pytest.approx((y[:, place].mean(), y[:, place].std()))
        assert (stats["min"], stats["max"]) == (y[:, place].min(), y[:, place].max())
    context = np.concatenate([shard.context for shard in shards.shards])
    assert manifest["coverage"]["tpsa"] == (~np.isnan(context[:, 5])).sum()
    names = shards.column("iupac_name")
    assert manifest["coverage"]["iupac_name"] == len(names) - names.null_count
    assert manifest["coverage"]["title"] == 0
    assert manifest["elements"] == ["H", "C", "N", "O"]
    assert manifest["max_atoms"] == max(np.diff(shard.ptr).max() for shard in shards.shards)
    assert sum(entry["atoms"] for entry in manifest["shards"]) == sum(len(shard.z) for shard in shards.shards)


def test_shards_are_the_same_for_any_number_of_workers_and_without_ray(ray_once, planted, tmp_path):
    for workers in (0, 1, 2):  # 0: so small a source is read in this process
        prepare([str(planted[0])], tmp_path / str(workers), data=settings(rows_per_shard=11, workers=workers))
    assert len(hashes(tmp_path / "0")) == 28
    for name in ("manifest.json", "quarantine.parquet"):
        assert len({(tmp_path / str(workers) / name).read_bytes() for workers in (0, 1, 2)}) == 1


def test_a_small_source_starts_no_ray_and_a_large_one_does(columns, save, tmp_path):
    program = (
        "import sys; from mmgnn_dist.cli.main import main\n"
        "code = main(sys.argv[1:]); print('ray' in sys.modules); sys.exit(code)"
    )
    path = save(columns(20), units='{"energy": "eV", "gap": "eV"}')
    words = [sys.executable, "-c", program, "data", "prepare", path, "--to", tmp_path / "set"]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False"
    plan = make_prepare_plan([str(path)], [], DataConfig(units=UNITS))
    source = plan.sources[0]

    def small(rows, **changes):
        return is_small(replace(plan, sources=(replace(source, rows=rows),), **changes))

    assert small(3458) and not small(20_000)
    assert not small(3458, providers=("table", "file", "of_a_package"))
    columns_of_smiles = tuple(name for name in source.columns if name != "positions")
    embedded = replace(source, rows=3458, columns=columns_of_smiles)
    assert not is_small(replace(plan, sources=(embedded,)))


def test_many_files_are_one_set_of_even_shards(columns, save, tmp_path):
    made = columns(130)
    for part, cut in enumerate([slice(0, 7), slice(7, 8), slice(8, 130)]):
        save({name: values[cut] for name, values in made.items()}, f"many/{part}.parquet")
    whole = save(made)
    prepare([str(tmp_path / "many")], tmp_path / "parts", data=settings())
    prepare([str(whole)], tmp_path / "whole", data=settings())
    assert [shard.rows for shard in ShardSet.open(tmp_path / "parts").shards] == [43, 43, 44]
    for name in ("id", "z", "pos", "y", "iupac_name"):
        parts, one = (ShardSet.open(tmp_path / place).column(name) for place in ("parts", "whole"))
        assert parts.to_pylist() == one.to_pylist()


def test_too_many_bad_molecules_are_an_error_and_leave_nothing(planted, tmp_path):
    to = tmp_path / "new" / "folder" / "set"
    with pytest.raises(UserError, match=r"14 of 300 molecules are bad, more than data.max_bad_fraction=0.04"):
        prepare([str(planted[0])], to, data=settings(max_bad_fraction=0.04))
    assert not (tmp_path / "new").exists()
    prepare([str(planted[0])], to, data=settings(max_bad_fraction=0.05))
    assert to.is_dir() and [child.name for child in to.parent.iterdir()] == ["set"]


def test_no_molecule_left_is_an_error(columns, save, tmp_path):
    made = columns(5)
    made["atomic_numbers"] = [[0] * len(z) for z in made["atomic_numbers"]]
    with pytest.raises(UserError, match="no molecule is left of 5: 5 unknown element"):
        prepare([str(save(made))], tmp_path / "set", data=settings(max_bad_fraction=1.0))
    assert not list(tmp_path.glob("set*"))


def test_a_shard_that_lost_all_its_molecules_is_left_out(columns, save, tmp_path):
    made = columns(40)
    for k in range(10, 20):
        made["atomic_numbers"][k] = [0]
    prepare([str(save(made))], tmp_path / "set", data=settings(rows_per_shard=10, max_bad_fraction=0.5))
    assert [name for name, _ in hashes(tmp_path / "set")] == [f"shard-0000{k}.arrow" for k in (0, 2, 3)]
    assert ShardSet.open(tmp_path / "set").rows == 30


def test_the_same_command_again_does_nothing_and_another_never_overwrites(planted, tmp_path):
    path, to = planted[0], tmp_path / "set"
    first = prepare([str(path)], to, data=settings())
    stamp = (to / "manifest.json").stat().st_mtime_ns
    again = prepare([str(path)], to, data=settings())
    assert again.up_to_date and not first.up_to_date and again.counts == first.counts
    with pytest.raises(UserError, match="other sources or settings"):
        prepare([str(path)], to, data=settings(rows_per_shard=51))
    with pytest.raises(UserError, match="is a shard set already"):
        prepare([str(to)], tmp_path / "other", data=settings())
    assert (to / "manifest.json").stat().st_mtime_ns == stamp
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious.txt").write_text("keep")
    with pytest.raises(UserError, match="is not a shard set"):
        prepare([str(path)], tmp_path / "mine", data=settings())
    (tmp_path / "mine").rename(tmp_path / "fresh.partial")
    with pytest.raises(UserError, match="not ours"):
        prepare([str(path)], tmp_path / "fresh", data=settings())
    assert (tmp_path / "fresh.partial" / "precious.txt").read_text() == "keep"


def test_two_preparations_do_not_mix(planted, tmp_path):
    (tmp_path / "set.partial").mkdir()
    with open(tmp_path / "set.partial" / "lock", "w") as lock:
        (tmp_path / "set.partial" / "plan.json").write_text("{}")
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another preparation is writing"):
            prepare([str(planted[0])], tmp_path / "set", data=settings())
    prepare([str(planted[0])], tmp_path / "set", data=settings())


def test_a_damaged_file_is_the_users_error(columns, save, tmp_path):
    path = save(columns(200))
    content = bytearray(path.read_bytes())
    content[200:1500] = bytes(1300)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"molecules.parquet is damaged"):
        prepare([str(path)], tmp_path / "set", data=settings())
    assert not list(tmp_path.glob("set*"))


def test_values_that_are_no_such_thing_are_one_line(columns, save, tmp_path, capsys):
    made = columns(60)
    made["id"] = [name.encode() for name in made["id"][:-1]] + [b"\xff"]
    path = save(made, units='{"energy": "eV", "gap": "eV"}')
    words = ["data", "prepare", str(path), "--to", str(tmp_path / "set"), "data.rows_per_shard=50"]
    assert main(words) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(f"mmgnn: {path}, rows 30 to 59 (chunk 1), give no molecules (ArrowInvalid")
    assert not list(tmp_path.glob("set*"))


def test_what_is_staged_outlives_a_fault_of_the_machine(columns, save, tmp_path, monkeypatch):
    path, to = save(columns(200)), tmp_path / "set"
    work = pipeline.run_in_process

    def fail_at_the_end(*given):
        work(*given)
        raise TryAgain("Ray does not start on this machine: run the same command again")

    monkeypatch.setattr(pipeline, "run_in_process", fail_at_the_end)
    with pytest.raises(UserError, match="the same command"):
        prepare([str(path)], to, data=settings())
    staged = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "set.partial/set").iterdir()}
    monkeypatch.setattr(pipeline, "run_in_process", work)
    prepare([str(path)], to, data=settings())
    assert len(staged) == 4 and staged.items() <= {f.name: f.stat().st_mtime_ns for f in to.iterdir()}.items()


def test_hash_collisions_cost_no_molecule(planted, tmp_path, monkeypatch):
    prepare([str(planted[0])], tmp_path / "honest", data=settings())
    monkeypatch.setattr(duplicates, "hash_strings", lambda column: np.zeros(len(column), np.uint64))
    prepare([str(planted[0])], tmp_path / "colliding", data=settings())
    assert hashes(tmp_path / "honest") == hashes(tmp_path / "colliding")


def test_killed_in_the_middle_it_continues(columns, save, tmp_path):
    made = columns(640)
    for k in range(0, 640, 80):
        made["id"][k] = "same"
    path, to = save(made), tmp_path / "killed"
    config = settings(rows_per_shard=10)
    program = (
        "import sys, pathlib; from mmgnn_dist.config import DataConfig;"
        "from mmgnn_dist.data.prepare.pipeline import prepare;"
        "prepare([sys.argv[1]], pathlib.Path(sys.argv[2]), data=DataConfig.model_validate_json(sys.argv[3]))"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(path), str(to), config.model_dump_json()])
    records = tmp_path / "killed.partial" / "records"
    deadline = time.monotonic() + 90
    while len(list(records.glob("0*.json"))) < 5:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    staged = {file: file.stat().st_mtime_ns for file in records.glob("0*.json")}
    print(f"{len(staged)} chunks staged")
    assert 5 <= len(staged) < 64 and not to.exists()
    damaged = min(staged)
    damaged.write_text(re.sub(r'"in": \d', '"in": 9', damaged.read_text(), count=1))
    del staged[damaged]
    kept = {}

    def look(done, total, note):
        if note == "duplicate ids":
            kept.update({file: file.stat().st_mtime_ns for file in staged})

    prepare([str(path)], to, data=config, progress=look)
    assert kept == staged  # what was done was not done again
    prepare([str(path)], tmp_path / "whole", data=config)
    assert hashes(to) == hashes(tmp_path / "whole")
    for name in ("quarantine.parquet", "manifest.json", "splits/random.parquet"):
        assert (to / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert ShardSet.open(to).manifest["counts"]["reasons"] == {"duplicate id": 7}


@pytest.mark.parametrize(
    "plan", ['{"kind": "mmgnn-preparation", "plan": "ab}', None], ids=["damaged", "lost"]
)
def test_begins_anew_where_the_plan_of_the_staged_work_is_not_known(columns, save, tmp_path, capsys, plan):
    path, staging = save(columns(8)), tmp_path / "set.partial"
    (staging / "records").mkdir(parents=True)
    (staging / "records" / "00000.json").write_text("{}")
    (staging / "lock").touch()
    if plan:
        (staging / "plan.json").write_text(plan)
    prepare([str(path)], tmp_path / "set", data=settings())
    assert ("plan.json is damaged" in capsys.readouterr().err) == bool(plan)
    assert ShardSet.open(tmp_path / "set").manifest["counts"]["in"] == 8


def test_shards_that_are_not_seen_here_are_told_with_their_nodes(columns, save, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_run, "SEEN_WITHIN", 0.0)
    plan = make_prepare_plan([str(save(columns(30)))], [], settings(rows_per_shard=10))
    with pytest.raises(
        UserError, match=r"3 of 3 shards were written by node1, node2 and are not seen .*set\.partial"
    ):
        ray_run.see_all(plan, Staging(tmp_path / "set.partial"), ["node1", "node2"])


def test_interrupted_while_setting_duplicates_aside(planted, tmp_path, monkeypatch):
    path, to = planted[0], tmp_path / "set"
    calls = []

    def fail(staging, chunk, record):
        if any(entry["reason"] == duplicates.DUPLICATE for entry in record["quarantine"]):
            calls.append(chunk)
        if len(calls) == 2:
            raise KeyboardInterrupt
        write(staging, chunk, record)

    write = Staging.write_record
    monkeypatch.setattr(Staging, "write_record", fail)
    with pytest.raises(KeyboardInterrupt):
        prepare([str(path)], to, data=settings())
    assert (tmp_path / "set.partial").is_dir()
    monkeypatch.undo()
    prepare([str(path)], to, data=settings())
    prepare([str(path)], tmp_path / "whole", data=settings())
    assert hashes(to) == hashes(tmp_path / "whole")
    assert quarantine(to) == quarantine(tmp_path / "whole")


def test_text_is_joined_by_key_block_and_id(columns, save, tmp_path):
    made = columns(6)
    made["title"] = [" own title ", "", "None", None, "x", "nan"]
    made["inchikey"] = [
        "AAAAAAAAAAAAAA-UHFFFAOYSA-N",
        "BBBBBBBBBBBBBB-STEREOAAAA-N",
        None,
        "DDDDDDDDDDDDDD-UHFFFAOYSA-N",
        None,
        None,
    ]
    text = {
        "inchikey": [
            "AAAAAAAAAAAAAA-UHFFFAOYSA-N",
            "BBBBBBBBBBBBBB-OTHERSTERE-N",
            "BBBBBBBBBBBBBB-UHFFFAOYSA-N",
            None,
            "DDDDDDDDDDDDDD-UHFFFAOYSA-N",
        ],
        "id": [None, None, None, "made-00002", "made-00004"],
        "cid": [11, 12, 13, 14, 15],
        "title": ["given title", "stereo", "flat", "by id", None],
        "molecular_weight": ["16.043", "1e2", "not a number", "nan", ""],
        "synonyms": ['["a", "", "None", " b "]', "[]", "plain", None, '["nan"]'],
        "field_sources": ['{"title": "someone"}', None, None, None, None],
    }
    prepare([str(save(made))], tmp_path / "set", [save(text, "text.parquet")], settings())
    shards = ShardSet.open(tmp_path / "set")
    assert shards.column("title").to_pylist() == ["given title", "flat", "by id", None, "x", None]
    assert shards.column("synonyms").to_pylist() == [["a", "b"], ["plain"], None, None, None, None]
    weight = shards.shards[0].context[:, 0]
    assert weight[0] == np.float32(16.043) and np.isnan(weight[1:]).all()
    origins = [json.loads(entry) if entry else None for entry in shards.column("field_sources").to_pylist()]
    assert origins[0] == {
        "title": "PubChem CID 11 (someone)",
        "molecular_weight": "PubChem CID 11 (text.parquet)",
        "synonyms": "PubChem CID 11 (text.parquet)",
    }
    assert origins[1]["title"] == "PubChem CID 13 (text.parquet)"
    assert origins[1]["iupac_name"] == "molecules.parquet"
    assert [joined["joined"] for joined in shards.manifest["text"]] == [
        {"exact": 2, "first block": 1, "id": 2}
    ]


def test_of_several_text_tables_the_first_wins_field_by_field(columns, save, tmp_path):
    tables = [
        save({"id": ["made-00000", "made-00001"], "title": ["a", None]}, "a.parquet"),
        save({"id": ["made-00001", "made-00000"], "title": ["b", "c"], "xlogp": [1.5, 2.5]}, "b.parquet"),
    ]
    prepare([str(save(columns(3)))], tmp_path / "set", tables, settings())
    shards = ShardSet.open(tmp_path / "set")
    assert shards.column("title").to_pylist() == ["a", "b", None]
    assert shards.shards[0].context[:2, 1].tolist() == [2.5, 1.5]
    assert json.loads(shards.column("field_sources")[0].as_py()) == {
        "title": "a.parquet",
        "xlogp": "b.parquet",
    }


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"title": ["x"]}, "no column to join by"),
        ({"id": ["x"]}, "no text field"),
        (None, "no file"),
        ({"id": ["x"], "tpsa": [[1.0]]}, "'tpsa' is list<.*has to be numbers"),
        ({"id": [b"\xff"], "tpsa": [1.0]}, "text.parquet gives no text .ArrowInvalid"),
    ],
)
def test_wrong_text_tables_are_the_users_error(columns, save, tmp_path, table, message):
    text = save(table, "text.parquet") if table else Path("absent.parquet")
    with pytest.raises(UserError, match=message):
        prepare([str(save(columns(3)))], tmp_path / "set", [text], settings())
    assert not list(tmp_path.glob("set*"))


def test_the_bundled_sample_is_sound(sample_shards, sample):
    counts = sample_shards.manifest["counts"]
    assert counts["set_aside"] == 0 and counts["kept"] == pq.read_metadata(sample).num_rows
    assert sample_shards.units == {
        "mu": "D",
        "homo": "eV",
        "lumo": "eV",
        "gap": "eV",
        "zpve": "eV",
        "energy": "eV",
        "cv": "cal/mol/K",
    }
    table = pq.read_table(sample)
    assert sample_shards.column("id").to_pylist() == table["id"].to_pylist()
    for field, count in sample_shards.manifest["coverage"].items():
        assert count == len(table) - table[field].null_count
    y = np.concatenate([shard.y for shard in sample_shards.shards])
    assert np.array_equal(y[:, 1], table["homo"].cast(pa.float64()).to_numpy())


@pytest.mark.shared
def test_all_of_qm9_with_its_text(shared, tmp_path):
    data = shared / "data"
    text = data / "pubchem/qm9_pubchem_text.parquet"
    result = prepare([str(data / "qm9/qm9.parquet")], tmp_path / "set", [text])
    assert result.counts == {
        "in": 73541,
        "kept": 73483,
        "set_aside": 58,
        "reasons": {"uncharacterized": 58},
    }
    shards = ShardSet.open(tmp_path / "set")
    assert len(shards.shards) == 18
    y = dict(zip(shards.targets, np.concatenate([shard.y for shard in shards.shards]).T, strict=True))
    assert np.abs(y["lumo"] - y["homo"] - y["gap"]).max() < 0.006
    assert y["u0"][0] == pytest.approx(-1101.4878, abs=1e-4)
    given = pq.read_table(text)
    known = pa.compute.is_in(given["inchikey"], value_set=shards.column("inchikey").combine_chunks())
    given = given.filter(known)
    for field, count in shards.manifest["coverage"].items():
        if field != "synonyms":
            assert count == len(given) - given[field].null_count
