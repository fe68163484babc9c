"""PubChem's bulk files: the join through Ray Data against a plain look-up."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from extras_files import FILES, lines_of, make_extras, plain_look_up
from peak_memory import PeakMemory

from mmgnn_dist.cli.main import main
from mmgnn_dist.config import TEXT_FIELDS
from mmgnn_dist.errors import UserError
from mmgnn_dist.pubchem.bulk import enrich_bulk
from mmgnn_dist.pubchem.extras import ExtrasFile
from mmgnn_dist.pubchem.text_table import TEXT_ABOUT

FIELDS = ("cid", "iupac_name", "title", "molecular_formula", "smiles", "synonyms")


@pytest.fixture(scope="module")
def extras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extras")
    make_extras(folder, 60_000)
    return folder


def some_keys(folder: Path, count: int, absent: int, seed: int = 0) -> list[str]:
    held = sorted({fields[2] for fields in lines_of(folder, "CID-InChI-Key")})
    chosen = random.Random(seed).sample(held, count)
    return [*chosen, *(f"{'A' * 8}{number:06d}-UHFFFAOYSA-N".translate(LETTERS) for number in range(absent))]


LETTERS = str.maketrans("0123456789", "BCDEFGHIJK")


def write_keys(path: Path, keys: list[str | None]) -> Path:
    pq.write_table(pa.table({"inchikey": pa.array(keys, pa.string())}), path)
    return path


def rows_of(to: Path) -> dict[str, dict]:
    return {row.pop("inchikey"): row for row in pq.read_table(to).to_pylist()}


def check(to: Path, folder: Path, truth: dict[str, dict]) -> None:
    rows = rows_of(to)
    assert {key: {name: row[name] for name in FIELDS} for key, row in rows.items()} == truth
    for row in list(rows.values())[:500]:
        sources = json.loads(row["field_sources"])
        assert set(sources) == {name for name in TEXT_FIELDS if row[name] is not None}
        assert row["molecular_weight"] is None  # CID-Mass holds no average weight
    files = json.loads(pq.read_schema(to).metadata[TEXT_ABOUT])["files"]
    for name in FILES:
        path = folder / f"{name}.gz"
        assert files[name]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert files[name]["bytes"] == path.stat().st_size and files[name]["date"].startswith("20")


def test_join_is_a_plain_look_up(ray_once, extras, tmp_path, monkeypatch):
    keys = some_keys(extras, 10_000, 2_000)
    to = tmp_path / "text.parquet"
    source = write_keys(tmp_path / "keys.parquet", [*keys, None, keys[3]])
    truth = plain_look_up(extras, set(keys))
    monkeypatch.setattr("mmgnn_dist.pubchem.bulk_merge.ROWS", 999)  # several windows
    seen = []
    result = enrich_bulk(source, to, extras, 2, lambda done, total, note: seen.append((done, total)))
    check(to, extras, truth)
    assert result.counts["found"] == 10_000 and result.counts["several"] > 100
    assert seen[-1][0] == seen[-1][1]
    assert not (tmp_path / "text.parquet.partial").exists()
    assert pq.read_table(to)["cid"].to_pylist() == sorted(pq.read_table(to)["cid"].to_pylist())
    assert "is up to date" in enrich_bulk(source, to, extras, 2).lines[-1]


def test_command_line_and_missing_files(ray_once, extras, tmp_path, capsys):
    folder = tmp_path / "some"
    folder.mkdir()
    for name in ("CID-InChI-Key", "CID-Title"):
        (folder / f"{name}.gz").symlink_to(extras / f"{name}.gz")
    source = write_keys(tmp_path / "keys.parquet", some_keys(extras, 50, 1))
    to = tmp_path / "text.parquet"
    words = ["data", "enrich", str(source), "--to", str(to), "--bulk", str(folder), "data.workers=2"]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "CID-IUPAC (iupac_name)" in said.err and "PubChem has 50 of 51 InChIKeys" in said.out
    assert all(row["iupac_name"] is None for row in rows_of(to).values())


def test_continues_from_the_files_already_read(ray_once, extras, tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    for name in FILES:
        (folder / f"{name}.gz").write_bytes((extras / f"{name}.gz").read_bytes())
    whole = (folder / "CID-Title.gz").read_bytes()
    (folder / "CID-Title.gz").write_bytes(whole[:-1000])
    keys = some_keys(extras, 300, 0)
    source, to = write_keys(tmp_path / "keys.parquet", keys), tmp_path / "text.parquet"
    with pytest.raises(UserError, match=r"CID-Title.gz is truncated: get it anew"):
        enrich_bulk(source, to, folder, 2)
    assert not to.exists()
    part = tmp_path / "text.parquet.partial" / "CID-InChI-Key.arrow"
    before = part.stat().st_mtime_ns
    read = []
    (folder / "CID-Title.gz").write_bytes(whole)
    enrich_bulk(source, to, folder, 2, lambda done, total, note: read.append(part.stat().st_mtime_ns))
    assert set(read) == {before}  # the key file was not read again
    check(to, folder, plain_look_up(folder, set(keys)))


def test_wrong_source_leaves_nothing(extras, tmp_path):
    source = tmp_path / "bare.parquet"
    pq.write_table(pa.table({"id": ["a"]}), source)
    with pytest.raises(UserError, match="no column 'inchikey'"):
        enrich_bulk(source, tmp_path / "text.parquet", extras)
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"5\ta\n4\tb\n", "not sorted by CID"),
        (b"".join(b"%d\n" % cid for cid in range(11)), "11 lines that are not CID, tab, text"),
    ],
)
def test_wrong_lines_are_refused(content, message, tmp_path):
    path = tmp_path / "CID-Title.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(UserError, match=message):
        list(ExtrasFile(path).lines())


def test_no_gzip_is_refused(tmp_path):
    path = tmp_path / "CID-Title.gz"
    for content in (b"5\ta\n", b""):
        path.write_bytes(content)
        with pytest.raises(UserError, match="is no sound gzip file|is truncated"):
            list(ExtrasFile(path).lines())


def test_lines_of_any_form(tmp_path):
    path = tmp_path / "CID-Title.gz"
    members = [
        b"7\ta\tb\n12\t\n",
        b"x\tb\n13\n1234567890123\ta\n",
        "12\tß\r\n999\t".encode() + b"\xff\xfe bad\n",
        b"1000\tlast",
    ]
    path.write_bytes(b"".join(gzip.compress(member) for member in members))
    cids, texts = [], []
    file = ExtrasFile(path)
    for lines in file.lines():
        cids += lines.cid.tolist()
        texts += lines.texts(np.arange(len(lines.cid))).to_pylist()
    assert cids == [7, 12, 12, 999, 1000]
    assert file.rows == 5 and file.odd == 3
    assert texts == ["a\tb", "", "ß", "\ufffd\ufffd bad", "last"]


@pytest.mark.slow
def test_five_million_rows_under_three_gigabytes(tmp_path):
    folder = tmp_path / "extras"
    make_extras(folder, 5_000_000)
    keys = [fields[2] for k, fields in enumerate(lines_of(folder, "CID-InChI-Key")) if k % 10 == 3]
    sample = random.Random(0).sample(sorted(set(keys)), 10_000)
    source, to = write_keys(tmp_path / "keys.parquet", keys), tmp_path / "text.parquet"
    del keys
    with PeakMemory() as memory:
        result = enrich_bulk(source, to, folder, 2)
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    print(f"{size:.0f} MB of files, {result.seconds:.0f} s, peak {memory.peak / 1e9:.2f} GB, {result.counts}")
    assert memory.peak < 3e9
    rows = rows_of(to)
    truth = plain_look_up(folder, set(sample))
    assert len(truth) == 10_000
    assert {key: {name: rows[key][name] for name in FIELDS} for key in truth} == truth
