"""Leaks put into the bundled molecules are all found, by their kind and place; without them nothing is."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from leaks import DONE, GROUPS, LEAKS, TRAIN, VAL, Columns

from mmgnn_dist.chem.readers.find import sample_path
from mmgnn_dist.cli.main import main
from mmgnn_dist.config import TEXT_FIELDS
from mmgnn_dist.data.inspect.leaks.finding import AuditFinding
from mmgnn_dist.data.inspect.leaks.numbers_in_text import written_numbers
from mmgnn_dist.data.inspect.leaks.search import KINDS, search_leaks
from mmgnn_dist.data.inspect.leaks.stated import units_like
from mmgnn_dist.data.prepare.pipeline import prepare
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.data.shardset.splits import split_names


def molecules() -> Columns:
    """The columns of some molecules of the sample, drawn at random."""
    table = pq.read_table(sample_path())
    rows = np.sort(np.random.default_rng(1).permutation(len(table))[:DONE])
    order = np.random.default_rng(2).permutation(rows)
    return table.take(pa.array(order)).to_pydict()


def prepared(columns: Columns, folder: Path) -> ShardSet:
    """A shard set of these molecules, with a split by the order of their rows."""
    table = pa.table(columns).replace_schema_metadata(pq.read_schema(sample_path()).metadata)
    folder.mkdir(parents=True, exist_ok=True)
    # text comes in a table of its own: a formula beside the atoms that it contradicts sets the molecule aside
    text = [name for name in (*TEXT_FIELDS, "cid", "field_sources") if name in columns]
    pq.write_table(table.select(["id", *text]), folder / "text.parquet")
    pq.write_table(table.drop_columns(text), folder / "molecules.parquet")
    prepare([str(folder / "molecules.parquet")], folder / "set", [folder / "text.parquet"])
    shards = ShardSet.open(folder / "set")
    (shards.path / "splits/random.parquet").unlink()
    parts = ["train" if row < TRAIN else "val" if row < VAL else "test" for row in range(DONE)]
    split = pa.table({"id": columns["id"], "fold_0": parts})
    pq.write_table(split, shards.path / "splits/made.parquet")
    return shards


@pytest.fixture(scope="module")
def group_set(tmp_path_factory):
    """The shard set of each group of leaks."""

    @cache
    def of(group: str) -> ShardSet:
        columns, rng = molecules(), np.random.default_rng(3)
        members = [one for one in LEAKS if one.group == group]
        for one in sorted(members, key=lambda one: "sorted" not in one.name):
            one.put(columns, rng)
        return prepared(columns, tmp_path_factory.mktemp(group))

    return of


@pytest.fixture(scope="module")
def found(group_set):
    """What is found in each group of leaks."""

    @cache
    def of(group: str) -> list[AuditFinding]:
        return search_leaks(group_set(group), ["made"])

    return of


def test_there_are_more_than_twenty_kinds_and_all_groups_are_known():
    assert len(LEAKS) >= 20 and {one.group for one in LEAKS} == set(GROUPS)
    assert {one.kind for one in LEAKS} == set(KINDS)


@pytest.mark.parametrize("one", LEAKS, ids=lambda one: one.name)
def test_each_leak_is_found(found, one):
    findings = found(one.group)
    hits = [finding for finding in findings if finding.kind == one.kind and one.where in finding.where]
    assert hits, "\n".join(finding.sentence for finding in findings)
    assert 0 < hits[0].count <= hits[0].of and hits[0].examples and "\n" not in hits[0].sentence


def test_all_copies_of_geometries_are_counted(found):
    (copies,) = [finding for finding in found("texts") if finding.kind == "geometry in two parts"]
    assert copies.count == 15 and copies.severity == "leak"


@pytest.mark.slow
@pytest.mark.parametrize("one", LEAKS, ids=lambda one: one.name)
def test_each_leak_alone_is_found(one, tmp_path):
    columns = molecules()
    one.put(columns, np.random.default_rng(3))
    findings = search_leaks(prepared(columns, tmp_path), ["made"])
    assert any(finding.kind == one.kind and one.where in finding.where for finding in findings)


def test_nothing_is_found_without_leaks(tmp_path):
    assert search_leaks(prepared(molecules(), tmp_path), ["made"]) == []


@pytest.mark.slow
def test_nothing_is_found_in_the_sample(sample_shards):
    assert search_leaks(sample_shards, split_names(sample_shards)) == []


@pytest.mark.slow
@pytest.mark.shared
def test_nothing_is_found_in_qm9_with_its_real_text(shared, tmp_path):
    text = shared / "data/pubchem/qm9_pubchem_text.parquet"
    table = pq.read_table(shared / "data/qm9/qm9.parquet")
    known = pa.compute.is_in(table["inchikey"], value_set=pq.read_table(text)["inchikey"].combine_chunks())
    pq.write_table(table.filter(known), tmp_path / "some.parquet")
    prepare([str(tmp_path / "some.parquet")], tmp_path / "set", [text])
    shards = ShardSet.open(tmp_path / "set")
    assert shards.rows > 1000 and search_leaks(shards, split_names(shards)) == []


def test_the_verb_says_what_to_do_and_fails(group_set, capsys):
    words = ["data", "audit", str(group_set("digits").path)]
    assert main(words) == 2
    said = capsys.readouterr()
    assert re.search(
        r"leak: labels in digits, gap \[eV\] in title: \d+ of \d+ molecules \(such as mm-", said.out
    )
    assert (
        said.err.startswith("mmgnn: labels in digits") and said.err.count("\n") == 1 and "--allow" in said.err
    )
    assert main([*words, "--json", *(f"--allow={kind}" for kind in KINDS)]) == 0
    findings = json.loads(capsys.readouterr().out)["findings"]
    (finding,) = [one for one in findings if one["where"] == "gap [eV] in title"]
    assert finding["kind"] == "labels in digits" and finding["severity"] == "leak" and finding["count"] > 490
    assert main([*words, "--allow", "labels in digit"]) == 2
    assert "did you mean 'labels in digits'" in capsys.readouterr().err


def test_numbers_are_read_with_their_precision():
    numbers = written_numbers(["gap -5.350 eV, 2,3-dimethyl", "", "E=1.2e-3; CAS 64-17-5 (0.05)"])
    assert numbers.row.tolist() == [0, 0, 0, 2, 2, 2, 2, 2]
    assert numbers.place.tolist() == [0, 1, 2, 0, 1, 2, 3, 4]
    assert numbers.value == pytest.approx([5.35, 2, 3, 1.2e-3, 64, 17, 5, 0.05])
    assert numbers.half == pytest.approx([5e-4, 0.5, 0.5, 5e-5, 0.5, 0.5, 0.5, 5e-3])
    assert numbers.digits.tolist() == [4, 1, 1, 2, 2, 2, 1, 1]
    assert written_numbers(["5,35 eV"]).value == pytest.approx([5.35])
    spoken = written_numbers(["propan-2-one of minus one two point three five eV"])
    assert spoken.value == pytest.approx([2, 12.35]) and spoken.digits.tolist() == [1, 4]


def test_units_of_a_dimension():
    units = units_like("eV")
    assert units["Hartree"] == pytest.approx(27.211386) and units["kcal/mol"] == pytest.approx(0.0433641)
    assert units_like("furlong") == {"furlong": 1.0}
