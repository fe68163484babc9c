"""The code blocks of README and docs: each is run, or says why not; and all commands are valid.

`tests/support/doc_blocks.py` has the list of pages, `test_howto.py` runs those of docs/howto.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from command_line import Started
from doc_blocks import COMMANDS, HOWTO, LONG, OTHERS, QUICK, RUN, Block, blocks, commands, pages, report
from small_set import make_set

from mmgnn_dist.cli.main import make_parser
from mmgnn_dist.config import load_recipe
from mmgnn_dist.data.shardset.splits import make_split

ROOT = Path(__file__).parents[2]
READS_RECIPE = ("train", "study", "sweep", "plan", "submit")


def test_every_block_has_a_language():
    for page in pages():
        for block in blocks(page):
            assert block.kind in (*COMMANDS, *OTHERS) or block.file, f"{page}: {block.text[:60]!r}"


def test_every_block_is_run_or_says_why_not():
    unknown = [
        f"{block.page}: {block.text.splitlines()[0]}"
        for block in commands()
        if not block.reason and block.page not in RUN
    ]
    assert not unknown
    print(report())  # shown by pytest -s


def lines_of(block: Block) -> list[list[str]]:
    """The commands of a block as words, each with what it is started by, without comments."""
    text = block.text.replace("\\\n", " ").replace("…", "X")
    return [words for line in text.splitlines() if (words := shlex.split(line, comments=True))]


def mmgnn_commands() -> list[tuple[str, list[str]]]:
    """(page, words after `mmgnn`) of every command of every page, of those that are not run, too."""
    found = []
    for block in commands():
        for words in lines_of(block) if block.kind == "sh" else []:
            if words[0] in ("docker", "apptainer"):  # images that are called mmgnn
                continue
            for place, word in enumerate(words):
                if word in ("mmgnn", ".venv/bin/mmgnn"):
                    rest = words[place + 1 :]
                    for stop in (">", "|", ";", "&&"):
                        rest = rest[: rest.index(stop)] if stop in rest else rest
                    found.append((block.page, rest))
    return found


def test_every_command_is_valid(capsys):
    """Verbs, options, recipes and keys of a recipe: of commands that no test can run, too."""
    given = [(page, words) for page, words in mmgnn_commands() if page not in HOWTO]
    assert len(given) > 60
    for page, words in given:
        command = f"{page}: mmgnn {shlex.join(words)}"
        try:
            arguments, late = make_parser().parse_known_args(words)
        except SystemExit:
            pytest.fail(f"{command}\n{capsys.readouterr().err}")
        assert all("=" in word for word in late), command
        for word in words:
            if word.startswith("launch/"):
                assert (ROOT / word).is_file(), command
        recipe = getattr(arguments, "recipe", None)
        if words[0] in READS_RECIPE and str(recipe).startswith("launch/"):
            load_recipe(ROOT / recipe, [*arguments.overrides, *late])


def test_yaml_blocks_are_parts_of_a_recipe(tmp_path):
    found = [block for page in pages() for block in blocks(page) if block.kind == "yaml" and not block.file]
    assert found
    for block in found:
        raw = yaml.safe_load(block.text) | {"name": "part"}
        (tmp_path / "part.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
        load_recipe(tmp_path / "part.yaml")


@pytest.mark.parametrize("page", [page for page in QUICK if page not in HOWTO])
def test_the_page_does_what_it_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "launch").symlink_to(ROOT / "launch")
    demo = yaml.safe_load((ROOT / "launch" / "demo.yaml").read_text(encoding="utf-8"))
    made = make_set(tmp_path / "shards" / "sample", labels=demo["targets"])  # stands for the sample
    make_split(made, kind="kfold", folds=3)
    for block in blocks(page):
        if block.file:
            (tmp_path / block.file).write_text(block.text, encoding="utf-8")
        elif block.kind == "sh" and not block.reason:
            for words in lines_of(block):
                process = Started("mmgnn_dist.cli.main", tuple(words[1:]))
                assert process.wait() == 0, f"{shlex.join(words)}\n{process.output()}"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """A folder as a user has it after cloning, with files that stand for the user's own."""
    import pyarrow.csv as csv
    import pyarrow.parquet as pq
    from rdkit import Chem
    from rdkit.Chem import AllChem

    folder = tmp_path_factory.mktemp("workplace")
    for name in ("launch", "slurm"):
        (folder / name).symlink_to(ROOT / name)
    columns = ["id", "smiles", "gap", "iupac_name"]
    table = pq.read_table(ROOT / "mmgnn_dist/sample/molecules.parquet", columns=columns)
    csv.write_csv(table.slice(1000, 240), folder / "mine.csv")
    with Chem.SDWriter(str(folder / "new.sdf")) as writer:
        for smiles in ("CCO", "CC(=O)C", "c1ccncc1"):
            molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
            AllChem.EmbedMolecule(molecule, randomSeed=1)
            molecule.SetProp("_Name", smiles)
            writer.write(molecule)
    (folder / "bin").mkdir()
    shim = folder / "bin" / "mmgnn"
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mmgnn_dist.cli "$@"\n', encoding="utf-8")
    shim.chmod(0o755)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", LONG)
def test_the_long_page_does_what_it_says(page, workplace):
    """In this order in one folder: a later page uses what an earlier one has made."""
    path = f"{workplace / 'bin'}:{Path(sys.executable).parent}:/usr/bin:/bin"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "WANDB_MODE": "offline"}
    here = [block for block in blocks(page) if block.is_command and not block.reason]
    script = "\n".join(block.text for block in here if block.kind == "python")
    for block in [block for block in here if block.kind == "sh"]:
        run(["bash", "-euo", "pipefail", "-c", block.text], workplace, environment)
    if script:
        run([sys.executable, "-c", script], workplace, environment)


def run(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(command, check=False, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def test_pages_name_no_verb_that_is_not_there():
    """In the prose: `mmgnn VERB`, in code type."""
    parser = make_parser()
    verbs = next(iter(parser._subparsers._group_actions)).choices  # type: ignore[union-attr]
    for page in pages():
        if page in ("CHANGELOG.md",):
            continue
        for verb in re.findall(r"`mmgnn ([a-z][a-z-]*)", (ROOT / page).read_text(encoding="utf-8")):
            assert verb in verbs, f"{page}: mmgnn {verb}"
