"""Own text fields and chosen fields through `prepare`: every reader, text tables, what is refused."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from without_ray import run_here

from mmgnn_dist.config import DataConfig
from mmgnn_dist.data.prepare import pipeline
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.errors import UserError

WORDS = ["Smells of pears; used as a solvent.", "A gas. Toxic [SEP] at 300 ppm.", "  "]
USES = ["flavouring", None, "fuel"]
SMILES = ["CCO", "N", "C"]
OWN = {"description": "Description", "use": "Pharmacology and use"}
ATOMS = {"N": [(7, 0, 0, 0.1), (1, 0, 0.9, -0.3), (1, 0.8, -0.5, -0.3), (1, -0.8, -0.5, -0.3)]}


@pytest.fixture(autouse=True)
def here(monkeypatch):
    monkeypatch.setattr(pipeline, "run_chunks", run_here)


def run(sources, to, text=(), **data):
    config = DataConfig(max_bad_fraction=1.0, **data)
    return pipeline.prepare([str(s) for s in sources], to, list(text), config)


def parquet(folder, words, uses):
    z = [[7, 1, 1, 1]] * 3
    pos = [[x for _, *p in ATOMS["N"] for x in p]] * 3
    table = {"id": list("abc"), "atomic_numbers": z, "positions": pos, "gap": [1.0, 2, 3]}
    pq.write_table(
        pa.table({**table, **dict(zip(OWN.values(), (words, uses), strict=True))}), folder / "m.parquet"
    )
    return folder / "m.parquet"


def csv(folder, words, uses):
    lines = [f'{s},1.0,"{w}",{u or ""}' for s, w, u in zip(SMILES, words, uses, strict=True)]
    (folder / "m.csv").write_text("\n".join([f"smiles,gap,{','.join(OWN.values())}", *lines]))
    return folder / "m.csv"


def xyz(folder, words, uses):
    atoms = "\n".join(f"{'HN'[z == 7]} {x} {y} {w}" for z, x, y, w in ATOMS["N"])
    frames = [
        f'4\ngap=1.0 Description="{w}"' + (f' "Pharmacology and use"="{u}"' if u else "") + f"\n{atoms}"
        for w, u in zip(words, uses, strict=True)
    ]
    (folder / "m.xyz").write_text("\n".join(frames) + "\n")
    return folder / "m.xyz"


def sdf(folder, words, uses):
    from rdkit import Chem

    rows = "\n".join(f"{x:10.4f}{y:10.4f}{w:10.4f} {'HN'[z == 7]}   0  0" for z, x, y, w in ATOMS["N"])
    block = f"m\n  made\n\n  4  3  0  0  0  0  0  0  0  0999 V2000\n{rows}\n" + "".join(
        f"  1  {k}  1  0\n" for k in (2, 3, 4)
    )
    assert Chem.MolFromMolBlock(block + "M  END\n") is not None
    fields = [
        "".join(f">  <{c}>\n{v}\n\n" for c, v in zip(OWN.values(), pair, strict=True) if v)
        for pair in zip(words, uses, strict=True)
    ]
    text = "".join(
        f"{block.replace('m', f'm{k}', 1)}M  END\n> <gap>\n1\n\n{f}$$$$\n" for k, f in enumerate(fields)
    )
    (folder / "m.sdf").write_text(text)
    return folder / "m.sdf"


def ase(folder, words, uses):
    from ase import Atoms
    from ase.db import connect

    with connect(folder / "m.db") as database:
        for word, use in zip(words, uses, strict=True):
            data = {"Description": word} | ({"use_of_it": use} if use else {})
            database.write(Atoms("NH3", [p for _, *p in ATOMS["N"]]), key_value_pairs={"gap": 1.0, **data})
    return folder / "m.db"


def npz(folder, words, uses):
    z, pos = zip(*((number, place) for number, *place in ATOMS["N"]), strict=True)
    text = dict(zip(OWN.values(), (words, [use or "" for use in uses]), strict=True))
    np.savez(folder / "m.npz", z=z, pos=np.array([pos] * 3), gap=np.ones(3), **text)
    return folder / "m.npz"


@pytest.mark.parametrize("reader", [parquet, csv, xyz, sdf, ase, npz])
def test_every_reader_brings_own_text(reader, tmp_path):
    own = dict(OWN)
    if reader is ase:  # keys have no blanks there
        own["use"] = "use_of_it"
    elif reader is xyz:
        own.pop("use")
    result = run([reader(tmp_path, WORDS, USES)], tmp_path / "set", text_columns=own, units={"gap": "eV"})
    shards = ShardSet.open(tmp_path / "set")
    assert shards.column("description").to_pylist() == [WORDS[0], WORDS[1], None]
    assert "use" not in own or shards.column("use").to_pylist() == USES
    assert shards.manifest["coverage"]["description"] == 2 and shards.manifest["schema"] == 2
    assert shards.text_columns == own and shards.text_fields[-1] == list(own)[-1]
    assert "text field description from 'Description': 2 of 3 molecules" in result.lines
    assert not any("not read" in line and "Description" in line for line in result.lines)
    origins = [json.loads(value or "{}") for value in shards.column("field_sources").to_pylist()]
    assert origins[0]["description"].startswith("m.") and "description" not in origins[2]


def test_a_set_without_own_text_keeps_its_schema(tmp_path):
    run([parquet(tmp_path, WORDS, USES)], tmp_path / "set", units={"gap": "eV"})
    shards = ShardSet.open(tmp_path / "set")
    assert shards.manifest["schema"] == 1 and "text_columns" not in shards.manifest
    assert shards.shards[0].table.column_names[-1] == "field_sources"


def test_a_text_table_brings_own_text_and_chosen_fields(tmp_path):
    table = tmp_path / "text.parquet"
    chosen = ['["IUPAC name", "description"]', "XLogP, colour, Description", ""]
    columns = {"id": list("abc"), "Description": ["by table", None, "c"], "cid": [7, 8, 9]}
    pq.write_table(pa.table(columns | {"selected_fields": chosen}), table)
    source = parquet(tmp_path, WORDS, USES)
    result = run([source], tmp_path / "set", [table], text_columns=OWN, units={"gap": "eV"})
    shards = ShardSet.open(tmp_path / "set")
    assert shards.column("description").to_pylist() == ["by table", WORDS[1], "c"]
    origin = json.loads(shards.column("field_sources").to_pylist()[0])
    assert origin == {"description": "text.parquet", "use": "m.parquet"}  # no text of PubChem
    assert shards.column("selected_fields").to_pylist() == [
        ["iupac_name", "description"],
        ["xlogp", "description"],
        None,
    ]
    assert shards.manifest["selection"] == {"molecules": 2, "unknown": {"colour": 1}}
    assert any("selected_fields: chosen for 2 of 3" in line and "1 colour" in line for line in result.lines)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "npz"])
def test_names_in_another_case_and_numbers_are_own_text_too(suffix, tmp_path):
    """Readers call the column `Title` by its known name; the recipe may use the name in the file."""
    path = tmp_path / f"m.{suffix}"
    if suffix == "npz":
        z, *pos = zip(*ATOMS["N"], strict=True)
        np.savez(path, z=z, pos=[np.transpose(pos)] * 3, gap=np.ones(3), Title=list("abc"), batch=[1, 2, 3])
    else:
        rows = {"SMILES": SMILES, "gap": [1.0, 2, 3], "Title": list("abc"), "batch": [1, 2, 3]}
        (pa_csv.write_csv if suffix == "csv" else pq.write_table)(pa.table(rows), path)
    own = {"label": "Title", "batch": "batch"}
    result = run([path], tmp_path / "set", text_columns=own, units={"gap": "eV"})
    shards = ShardSet.open(tmp_path / "set")
    assert shards.column("label").to_pylist() == list("abc")
    assert shards.column("batch").to_pylist() == ["1", "2", "3"]
    assert shards.text_columns == own and "text field label from 'Title': 3 of 3 molecules" in result.lines


def test_ions_have_own_text_and_states_in_one_schema(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("smiles,gap,Description\nCC(=O)[O-],1,anion\nC,1,gas\n")
    run([path], tmp_path / "set", text_columns={"d": "Description"}, units={"gap": "eV"})
    shards = ShardSet.open(tmp_path / "set")
    assert shards.manifest["schema"] == 2 and shards.has_states
    assert shards.shards[0].table.column_names[-3:] == ["d", "charge", "multiplicity"]
    assert shards.column("d").to_pylist() == ["anion", "gas"] and shards.shards[0].charge.tolist() == [-1, 0]


def test_what_is_refused(tmp_path):
    source = parquet(tmp_path, WORDS, USES)
    with pytest.raises(UserError, match="no source and no table of --text has 'Descripton'.*'Description'"):
        run([source], tmp_path / "set", text_columns={"d": "Descripton"}, units={"gap": "eV"})
    with pytest.raises(UserError, match="'gap' is the target gap and a field"):
        run([source], tmp_path / "set", text_columns={"d": "gap"}, units={"gap": "eV"})
    with pytest.raises(UserError, match="column 'positions' is .* has to be strings or numbers"):
        run([source], tmp_path / "set", text_columns={"d": "positions"}, units={"gap": "eV"})
    with pytest.raises(ValueError, match="a meaning of its own"):
        DataConfig(text_columns={"smiles": "x"})


def test_a_built_in_field_may_come_from_another_column(tmp_path):
    run(
        [parquet(tmp_path, WORDS, USES)],
        tmp_path / "set",
        text_columns={"title": "Description"},
        units={"gap": "eV"},
    )
    shards = ShardSet.open(tmp_path / "set")
    assert shards.column("title").to_pylist()[0] == WORDS[0] and not shards.text_columns
    assert shards.manifest["schema"] == 1


def test_own_text_of_a_set_of_which_a_molecule_is_set_aside_late(tmp_path):
    """A second molecule of one id, found when all chunks are staged, counts for no field any more."""
    source = csv(tmp_path, WORDS, USES)
    lines = source.read_text().splitlines()
    ids = ["id", "a", "b", "a"]
    source.write_text("\n".join(f"{own},{line}" for own, line in zip(ids, lines, strict=True)))
    run([source], tmp_path / "set", text_columns=OWN, units={"gap": "eV"}, rows_per_shard=2)
    manifest = ShardSet.open(tmp_path / "set").manifest
    assert manifest["counts"]["reasons"] == {"duplicate id": 1}
    assert manifest["coverage"]["description"] == 2 and manifest["coverage"]["use"] == 1
