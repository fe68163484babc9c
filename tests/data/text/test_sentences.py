"""Sentences of the text fields: labels, numbers, absent values, accessions."""

from __future__ import annotations

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from small_set import make_set

from mmgnn_dist.config import TEXT_FIELDS
from mmgnn_dist.data.prepare.pipeline import prepare
from mmgnn_dist.data.shardset.shards import CONTEXT_FIELDS, ShardSet
from mmgnn_dist.data.text.sentences import (
    LABELS,
    format_number,
    is_accession,
    plain_names,
    render,
    render_synonyms,
)
from mmgnn_dist.errors import UserError

NAN = float("nan")


def table(**columns):
    rows = len(next(iter(columns.values())))
    context = [[columns.get(name, [NAN] * rows)[i] for name in CONTEXT_FIELDS] for i in range(rows)]
    text = {name: pa.array(values) for name, values in columns.items() if name not in CONTEXT_FIELDS}
    return pa.table({**text, "context": pa.array(context, pa.list_(pa.float32(), 6))})


def test_every_field_of_the_recipe_has_a_label():
    assert set(LABELS) == set(TEXT_FIELDS)


def test_sentences():
    molecules = table(
        iupac_name=["propan-2-one", None, "  "],
        title=["Acetone", "CID 12345", ""],
        synonyms=[["acetone", "67-64-1", "Acetone", "dimethyl ketone [HSDB]"], [], ["NSC 135802"]],
        molecular_weight=[58.08, 46.0, NAN],
        xlogp=[-0.04, 2.15, NAN],
        tpsa=[17.1, 20.0, NAN],
        rotatable_bond_count=[0.0, 10.0, NAN],
    )
    assert render(molecules, "iupac_name") == ["IUPAC name: propan-2-one.", None, None]
    assert render(molecules, "title") == ["Name: Acetone.", None, None]
    assert render(molecules, "synonyms") == ["Synonyms: acetone; dimethyl ketone.", None, None]
    assert render(molecules, "molecular_weight") == [
        "Molecular weight: 58.08.",
        "Molecular weight: 46.",
        None,
    ]
    assert render(molecules, "xlogp")[0] == "XLogP: 0."
    assert render(molecules, "tpsa") == ["Polar surface area: 17.1.", "Polar surface area: 20.", None]
    assert render(molecules, "rotatable_bond_count") == ["Rotatable bonds: 0.", "Rotatable bonds: 10.", None]
    with pytest.raises(UserError, match="did you mean 'iupac_name'"):
        render(molecules, "iupac_nam")


def test_a_recipe_may_word_a_sentence():
    molecules = table(
        iupac_name=["propan-2-one", None],
        xlogp=[2.149, NAN],
        tpsa=[17.07, 20.0],
        synonyms=[["b", "a {x}"], []],
    )
    template = {"iupac_name": "{{IUPAC}} {value}", "xlogp": "logP = {value:+.2f};", "tpsa": "{value} Å²."}
    assert render(molecules, "iupac_name", template) == ["{IUPAC} propan-2-one", None]
    assert render(molecules, "xlogp", template) == ["logP = +2.15;", None]
    assert render(molecules, "tpsa", template) == ["17.1 Å².", "20 Å²."]
    assert render_synonyms(molecules, {"synonyms": "<{value}>"}) == (["<b>", "<a {x}>", None], [2, 1])


def test_rows_of_a_shard_keep_their_order(tmp_path):
    shard = make_set(tmp_path, (30,)).shards[0]
    names = shard.table["iupac_name"].to_pylist()
    assert render(shard.table, "iupac_name") == [name and f"IUPAC name: {name}." for name in names]


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (46.069, 2, "46.07"),
        (46.1, 2, "46.1"),
        (100.0, 1, "100"),
        (100.0, 0, "100"),
        (-0.01, 1, "0"),
        (-1.25, 1, "-1.2"),
    ],
)
def test_numbers(value, decimals, text):
    assert format_number(value, decimals) == text


@pytest.mark.parametrize(
    "name",
    [
        "67-64-1",
        "CAS-67-64-1",
        "CHEBI:15347",
        "UNII-1364PS73AF",
        "1364PS73AF",
        "DTXSID8021482",
        "EINECS 200-662-2",
        "EC 200-662-2",
        "NSC 135802",
        "NSC135802",
        "CID 180",
        "CSCPPACGZOOCGX-UHFFFAOYSA-N",
        "CHEMBL14253",
        "wln: 1v1",
        "cscppacgzoocgx-uhfffaoysa-",
        "8jz",
        "2ygu",
        "usaf kf-21",
        "sdm no. 27",
        "InChI=1S/CH4/h1H4",
        "b89e451f-f83e-471b-8b27-36fc23ef5ca1",
        "agn-pc-00kedz",
    ],
)
def test_accessions(name):
    assert plain_names([name]) == []


@pytest.mark.parametrize(
    "name",
    [
        "acetone",
        "2-propanone",
        "1,3-dioxolan-2-one",
        "bicyclo[2.2.1]heptane",
        "vitamin B6",
        "N,N-dimethylformamide",
        "(1R,2S)-2-methylcyclohexanol",
        "ethyl 2-methylbutanoate",
        "1H-1,2,4-triazole",
        "cidofovir",
    ],
)
def test_names_stay(name):
    assert not is_accession(name)
    assert plain_names([name]) == [name]


@pytest.mark.shared
def test_real_synonyms_hold_no_accession(shared):
    column = pq.read_table(shared / "data/pubchem/qm9_pubchem_text.parquet")["synonyms"].to_pylist()
    texts = ["; ".join(names) for value in column if value and (names := plain_names(json.loads(value)))]
    assert len(texts) > 600
    bad = re.compile(
        r"\b\d{2,7}-\d{2}-\d\b|chebi|unii|dtxsid|einecs|\bnsc|\bcid\b|[A-Z]{14}-[A-Z]{10}-[A-Z]|\b(none|nan)\b|\[\"|\{",
        re.IGNORECASE,
    )
    assert [text for text in texts if bad.search(text)] == []


# What no text may hold. Names such as [1,3]oxazolo[4,5-c]pyridine have brackets; JSON's stand beside a quote,
# or open a list or an object of several words.
FORBIDDEN = re.compile(
    r"""
    \bnone\b | \bnan\b | \bnull\b | n/a
    | :\s*[.;] | :\s*$ | ^\s*: | \.\s*: | ;\s*; | ;\s*\.$  # a label or a name that is empty
    | ["'][\]}] | [\[{]["'] | \{ | \}
    | \b\d{2,7}-\d{2}-\d\b | \b\d{3}-\d{3}-\d\b | [A-Z]{14}-[A-Z]{8}[SN]A | InChI=
    | chebi | unii | dtxsid | dtxcid | einecs | \bnsc\b | \bcid\b | \bsid\b | chembl | mfcd | akos | hsdb
    | \bbrn\b | zinc\d | molport | drugbank | \bac1 | \bfema\b
    """,
    re.VERBOSE | re.IGNORECASE,
)
WHOLE = re.compile(r"[^:]+: \S.*\S?\.", re.DOTALL)


@pytest.mark.shared
def test_text_of_the_real_pairs(shared, tmp_path):
    """Every sentence of every molecule of QM9 that PubChem knows, and the coverage counted in the source."""
    source = shared / "data/pubchem/qm9_pubchem_text.parquet"
    indices = pq.read_table(source, columns=["gdb_idx"])["gdb_idx"]
    molecules = pq.read_table(
        shared / "data/qm9/qm9.parquet", filters=pc.field("gdb_idx").isin(indices.combine_chunks())
    )
    pq.write_table(molecules, tmp_path / "known.parquet")
    prepare([str(tmp_path / "known.parquet")], tmp_path / "set", [source])
    shards = ShardSet.open(tmp_path / "set")
    aside = set(pq.read_table(tmp_path / "set" / "quarantine.parquet")["id"].to_pylist())
    assert shards.rows + len(aside) == 1196

    # counted in the Parquet file, without any code of ours
    truth = {f"dsgdb9nsd_{row['gdb_idx']:06d}": row for row in pq.read_table(source).to_pylist()}
    kept = [truth[name] for name in shards.ids().tolist()]
    for field in TEXT_FIELDS:
        here = sum(row[field] is not None and row[field] != "[]" for row in kept)
        assert shards.manifest["coverage"][field] == here, field

    sentences = {f: [t for s in shards.shards for t in render(s.table, f)] for f in TEXT_FIELDS}
    for field, texts in sentences.items():
        said = np.array([text is not None for text in texts])
        there = np.array([row[field] is not None for row in kept])
        assert not (said & ~there).any()
        lost = [row[field] for row, gone in zip(kept, there & ~said, strict=True) if gone]
        if field == "title":  # only accessions are left out
            assert all(re.search(r"\d{4}|CID", value) for value in lost) and len(lost) < 10
        elif field == "synonyms":  # only where all synonyms are
            assert all(not re.search(r"[a-z]{8}", value.split("(")[0]) for value in lost) and len(lost) < 10
        else:
            assert not lost
        label = LABELS[field]
        for text in filter(None, texts):
            assert text.startswith(f"{label}: ") and WHOLE.fullmatch(text), text
            assert not FORBIDDEN.search(text), text
    whole = [" ".join(filter(None, row)) for row in zip(*sentences.values(), strict=True)]
    assert sum(map(bool, whole)) > 1150
