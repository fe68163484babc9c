"""An installed package adds a format of records and a provider of text; no file of ours is touched."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from installed import install
from made_files import archive, packed

from mmgnn_dist import plugins
from mmgnn_dist.chem.readers import formats
from mmgnn_dist.chem.readers.find import find_sources
from mmgnn_dist.config import DataConfig, load_recipe
from mmgnn_dist.data.prepare.plan import make_prepare_plan
from mmgnn_dist.data.prepare.text import providers
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.errors import UserError

MODULE = '''
import pyarrow as pa

from mmgnn_dist.chem.readers.record import Record
from mmgnn_dist.chem.readers.record_format import RecordFormat
from mmgnn_dist.data.prepare.text_provider import TextProvider


class Atoms(RecordFormat):
    """A molecule a line: its energy, then number, x, y, z of each atom."""

    suffixes = (".atoms",)

    def cut(self, stream):
        yield from (line for line in stream if line.strip())

    def columns(self, raw):
        return {"energy": raw.split()[0].decode()}

    def parse(self, raw, name):
        words = raw.decode().split()
        rows = [words[place : place + 4] for place in range(1, len(words), 4)]
        pos = [float(row[axis]) for row in rows for axis in (1, 2, 3)]
        return Record(id=name, z=[int(row[0]) for row in rows], pos=pos, values=self.columns(raw))


class Titles(TextProvider):
    """A title made of the id."""

    name, version, fields = "mine", "7", ("title",)

    def texts(self, molecules):
        return pa.table({"title": [f"molecule {name}" for name in molecules.id.to_pylist()]})


class Short(Titles):
    """Loses a molecule."""

    name = "short"

    def texts(self, molecules):
        return super().texts(molecules).slice(1)


class Taken(Atoms):
    suffixes = (".sdf",)
'''
ADDED = {"readers": {"atoms": "added_here:Atoms"}, "text_providers": {"mine": "added_here:Titles"}}
LINE = b"-40.5 6 0 0 0 1 0 0 1.1 1 0 1.1 0\n"
UNITS = {"energy": "eV"}


def add(site: Path, entries: dict[str, dict[str, str]], version: str = "1.0", module: str = MODULE) -> None:
    """Install the package, in place of what was installed before."""
    for old in site.glob("*.dist-info"):
        shutil.rmtree(old)
    (site / "added_here.py").write_text(module)
    install(site, "added", entries, version)
    for cache in (plugins._installed, formats._loaded):
        cache.cache_clear()


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder where packages can be installed, apart from that of the molecules."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    yield folder
    sys.modules.pop("added_here", None)
    for cache in (plugins._installed, formats._loaded):
        cache.cache_clear()


def fingerprint(source: Path | str, *names: str) -> str:
    return make_prepare_plan([str(source)], [], DataConfig(units=UNITS, providers=list(names))).fingerprint


def test_both_are_used_by_the_command_line(tmp_path):
    """The workers of Ray find them as the command does."""
    site, inner, to = tmp_path / "site", tmp_path / "molecules", tmp_path / "shards"
    site.mkdir()
    inner.mkdir()
    add(site, ADDED)
    (inner / "loose.atoms").write_bytes(LINE * 20 + b"-1 6 0 0\n" + b"word 6 0 0 0\n")
    archive(inner / "more.zip", {"b.atoms": LINE * 3, "c.atoms.gz": gzip.compress(LINE)})
    noise = np.random.default_rng(0).integers(0, 256, 4000, np.uint8).tobytes().hex().encode()
    packed(inner / "cut.atoms.gz", LINE + noise)
    whole = (inner / "cut.atoms.gz").read_bytes()
    (inner / "cut.atoms.gz").write_bytes(whole[: len(whole) // 2])
    words = ["data", "prepare", str(inner), "--to", str(to), "--json", "data.units.energy=eV"]
    words += ["data.providers=[mine,rdkit]", "data.workers=1", "data.max_bad_fraction=0.2"]
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from mmgnn_dist.cli.main import main; sys.exit(main())", *words],
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shards = ShardSet.open(to)
    manifest = shards.manifest
    assert manifest["counts"] == {
        "in": 27,
        "kept": 24,
        "set_aside": 3,
        "reasons": {"damaged file": 1, "unreadable record": 1, "unreadable target": 1},
    }
    assert "molecule b-2" in shards.column("title").to_pylist()
    origins = json.loads(shards.column("field_sources").to_pylist()[0])
    assert origins["title"] == "mine 7" and origins["molecular_formula"].startswith("RDKit")
    assert manifest["prepare"]["providers"] == ["mine", "rdkit"]
    assert [(p["name"], p["package"], p["version"]) for p in manifest["prepare"]["plugins"]] == [
        ("mine", "added", "1.0"),
        ("atoms", "added", "1.0"),
    ]


@pytest.mark.parametrize("name", ["a.atoms", "a.atoms.gz", "a.tgz", "a.zip", "folder"])
def test_a_format_is_read_alone_and_in_folders_and_archives(site, tmp_path, name):
    add(site, ADDED)
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
        (path / "a.ATOMS").write_bytes(LINE * 2)
    elif path.suffix in (".tgz", ".zip"):
        archive(path, {"deep/a.atoms": LINE * 2})
    else:
        packed(path, LINE * 2)
    (source,) = find_sources([str(path)], UNITS)
    molecules = source.convert(source.stream(0).read(source.rows), 0, ["energy"])
    assert source.formats == ("atoms",) and not molecules.fault.any()
    assert [text.rsplit("/", 1)[-1] for text in molecules.id.to_pylist()] == ["a-0", "a-1"]
    assert molecules.z.tolist() == [6, 1, 1] * 2 and molecules.y.tolist() == [[-40.5]] * 2


def test_another_version_or_content_is_another_shard_set(site, tmp_path):
    (tmp_path / "a.atoms").write_bytes(LINE)
    (tmp_path / "a.xyz").write_text("1\nenergy=1\nH 0 0 0\n")
    seen: dict[str, set[str]] = {"format": set(), "provider": set(), "neither": set()}
    changed = MODULE.replace('"7"', '"8"')
    for version, module in (("1.0", MODULE), ("1.1", MODULE), ("1.1", changed)):
        sys.modules.pop("added_here", None)
        add(site, ADDED, version, module)
        seen["format"].add(fingerprint(tmp_path / "a.atoms", "file"))
        seen["provider"].add(fingerprint(tmp_path / "a.xyz", "mine"))
        seen["neither"].add(fingerprint(tmp_path / "a.xyz", "file"))
    assert {what: len(prints) for what, prints in seen.items()} == {"format": 3, "provider": 3, "neither": 1}


def test_the_version_of_a_provider_is_part_of_the_fingerprint(monkeypatch):
    before = fingerprint("sample", "file", "rdkit"), fingerprint("sample", "file")
    monkeypatch.setattr(providers, "rdkit_version", lambda: "1.2.3")
    assert fingerprint("sample", "file", "rdkit") != before[0]
    assert fingerprint("sample", "file") == before[1]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("added_here:Taken", ".sdf is a suffix of SD"),
        ("added_here:Titles", "no subclass"),
        ("gone:X", "gone"),
    ],
)
def test_a_faulty_format_stops_nobody_who_reads_other_files(site, tmp_path, value, says):
    add(site, {"readers": {"faulty": value}})
    (tmp_path / "a.xyz").write_text("1\nenergy=1\nH 0 0 0\n")
    (tmp_path / "a.faulty").write_text("x")
    assert find_sources([str(tmp_path / "a.xyz")], UNITS)[0].rows == 1
    with pytest.raises(UserError, match=says):
        find_sources([str(tmp_path / "a.faulty")], UNITS)


def test_a_wrong_provider_is_told_by_name(site):
    add(site, {"text_providers": {"short": "added_here:Short", "other": "added_here:Titles"}})
    with pytest.raises(UserError, match="did you mean 'short'"):
        load_recipe(None, ["data.providers=[shor]"])
    with pytest.raises(UserError, match="has to be that of its entry point"):
        providers.make_providers(["other"], [])
    (short,) = providers.make_providers(["short"], [])
    (source,) = find_sources(["sample"], {})
    order = [target.name for _, target, _ in source.targets]
    molecules = source.convert(source.stream(0).read(2), 0, order)
    with pytest.raises(UserError, match="short 7 gives no text .* 1 rows for 2 molecules"):
        providers.gather_text(molecules, [short])
