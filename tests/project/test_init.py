"""`mmgnn init`: what a file shows becomes a recipe that `data prepare` and `train` take as it is."""

from __future__ import annotations

import json

import pytest
import yaml

from mmgnn_dist.cli.main import main
from mmgnn_dist.config import load_recipe
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.project.machine import partitions

ROWS = [
    "name,SMILES,ip_eV,logS [log(mol/L)],polar,Remarks,row",
    "a1,C,12.6,-1.0,no,a small gas of marshes,1",
    "a2,CC,11.5,-1.4,no,a gas that burns well,2",
    "a3,CCC,10.9,-1.8,no,sold in bottles for heating,3",
    "a4,C=C,10.5,-2.0,no,plants make it when ripe,4",
    "a5,C#C,11.4,-1.3,no,burns hot with much light,5",
    "a6,CO,10.8,1.2,yes,its old name is wood spirit,6",
    "a7,CCO,10.5,1.1,yes,the alcohol of wine and beer,7",
    "a8,CN,8.9,1.3,yes,smells of fish and worse,8",
    "a9,C=O,10.9,1.1,yes,keeps specimens in a museum,9",
    "b1,O,12.6,1.7,yes,what the sea is made of,10",
]


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder with a table of one's own, in which commands are given."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.csv").write_text("\n".join(ROWS) + "\n")
    return tmp_path


def test_columns_become_targets_with_units_classes_and_texts(own, monkeypatch, capsys):
    assert main(["init", "project", "--data", "mine.csv"]) == 0
    said = capsys.readouterr().out
    assert "target ip: column 'ip_eV', in eV" in said and "not read: row" in said
    recipe = load_recipe(own / "project" / "recipe.yaml")
    assert recipe.targets == ["ip", "logS", "polar"]
    units = {name: (target.unit, target.kind) for name, target in recipe.data.targets.items()}
    assert units == {"ip": ("eV", None), "logS": ("log(mol/L)", None), "polar": (None, "class")}
    assert recipe.data.text_columns == {"remarks": "Remarks"} and "remarks" in recipe.text.fields
    monkeypatch.chdir(own / "project")
    [prepare] = [line.split()[1:] for line in said.splitlines() if "data prepare" in line]
    assert main([*prepare, "data.providers=[table, file, rdkit]"]) == 0  # names take longer than all the rest
    shards = ShardSet.open(own / "project" / "shards" / "project")
    assert shards.rows == 10 and set(shards.targets) == {"ip", "logS", "polar"}


def test_nothing_is_overwritten(own, capsys):
    assert main(["init", "--data", "mine.csv"]) == 0
    before = (own / "recipe.yaml").read_bytes()
    assert main(["init", "--data", "mine.csv"]) == 2
    assert "recipe.yaml exists and is not overwritten" in capsys.readouterr().err
    assert (own / "recipe.yaml").read_bytes() == before


def test_a_known_target_without_a_unit_is_asked_for_and_one_with_it_is_not(own, capsys):
    (own / "gaps.csv").write_text("smiles,gap\nC,8.1\nCC,7.9\nCCC,7.7\n")
    assert main(["init", "gaps", "--data", "gaps.csv"]) == 2
    assert "data.units.gap=UNIT" in capsys.readouterr().err and not (own / "gaps").exists()
    assert main(["init", "gaps", "data.units.gap=eV", "--data", "gaps.csv"]) == 0
    assert yaml.safe_load((own / "gaps" / "recipe.yaml").read_text())["data"]["targets"] == {
        "gap": {"unit": "eV"}
    }


def test_records_and_the_bundled_molecules_need_no_declaration(own, capsys):
    frame = "3\nhomo={} note=abc\nO 0 0 0.119\nH 0 0.763 -0.477\nH 0 -0.763 -0.477\n"
    (own / "water.xyz").write_text("".join(frame.format(f'"-12.{k} eV"') for k in range(4)))
    assert main(["init", "water", "--data", "water.xyz", "--json"]) == 0
    assert "target homo: as the file says" in json.loads(capsys.readouterr().out)["lines"]
    assert main(["init", "sample"]) == 0
    recipe = load_recipe(own / "sample" / "recipe.yaml")
    assert {"mu", "homo", "lumo", "gap"} <= set(recipe.targets) and not recipe.data.targets


def test_partitions_as_sinfo_lists_them():
    """Lines of `sinfo -h -o '%R|%G|%c|%D|%l'` of a cluster with GPUs."""
    told = (
        "debug|(null)|64|4|30:00\ngpu|gpu:a100:4(S:0-1)|128+|32|2-00:00:00\ngpu|gpu:a100:2|64|1|2-00:00:00\n"
    )
    found = {one.name: (one.gpus, one.cpus, one.nodes) for one in partitions(told)}
    assert found == {"debug": (0, 64, 4), "gpu": (4, 128, 32)}
