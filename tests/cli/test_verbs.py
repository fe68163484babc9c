"""Every verb is called in the same way: overrides by position, `--json` for one valid object."""

from __future__ import annotations

import argparse
import errno
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from small_set import make_set

from mmgnn_dist.cli.common import json_values, print_result
from mmgnn_dist.cli.main import GROUPS, main, make_parser
from mmgnn_dist.files import write_json


def leaves(parser: argparse.ArgumentParser, name: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """The verbs that do something, with all words of their names."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield name, parser
    for action in below:
        for word, child in action.choices.items():
            yield from leaves(child, f"{name} {word}".strip())


VERBS = dict(leaves(make_parser()))
DATA = ("data prepare", "data enrich", "data inspect")
TAKES_RECIPE = (*DATA, "train", "submit", "sweep", "doctor", "predict", "plan", "study")


def test_the_parser_tree_is_walked():
    assert {"data split", "recipe", "train", "export", "logs", "bench", "report", "cancel", "sync"} <= set(
        VERBS
    )


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_json_and_a_line_of_help(verb):
    by_option = {option: action for action in VERBS[verb]._actions for option in action.option_strings}
    assert by_option["--json"].help == "print one JSON object"
    assert verb.split()[-1] in VERBS[verb].format_usage()


@pytest.mark.parametrize("verb", TAKES_RECIPE)
def test_overrides_are_positional(verb):
    """As an argument of their own, or among the sources."""
    parser = VERBS[verb]
    names = {action.dest for action in parser._actions if not action.option_strings}
    assert names & {"overrides", "sources"}
    assert parser.get_default("overrides") is not None or "overrides" in names
    assert not any("--set" in action.option_strings for action in parser._actions)


def test_each_group_of_verbs_is_a_file_with_one_function():
    folder = Path(GROUPS[0].__file__).parent
    with_verbs = {path.stem for path in folder.glob("*.py") if "def add_verbs(" in path.read_text()}
    assert with_verbs == {group.__name__.rpartition(".")[2] for group in GROUPS}


def test_numbers_that_json_does_not_have_become_null(capsys):
    result = {
        "loss": math.nan,
        "rates": [math.inf, -math.inf, 1.5],
        "array": np.array([1.0, np.nan]),
        "one": np.float32(2.0),
        "count": np.int64(3),
        "flag": True,
        "deep": {"tuple": (math.nan, Path("a/b")), 7: None},
    }
    print_result(True, result, ["not printed"])
    printed = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert printed == {
        "loss": None,
        "rates": [None, None, 1.5],
        "array": [1.0, None],
        "one": 2.0,
        "count": 3,
        "flag": True,
        "deep": {"tuple": [None, "a/b"], "7": None},
    }
    assert json_values("text") == "text"


def test_text_is_printed_without_json(capsys):
    print_result(False, {"a": 1}, ["one", "two"])
    print_result(False, {"a": 1}, lambda: print("three"))
    assert capsys.readouterr().out == "one\ntwo\nthree\n"


def test_split_says_whether_it_wrote(tmp_path, capsys):
    shards = make_set(tmp_path / "shards")
    words = ["data", "split", str(shards.path), "--name", "mine", "--json"]
    for written in (True, False):
        assert main(words) == 0
        told = json.loads(capsys.readouterr().out)
        assert told == {"split": str(shards.path / "splits" / "mine.parquet"), "written": written}


def test_audit_prints_one_object_and_inspect_reads_overrides(tmp_path, capsys):
    shards = str(make_set(tmp_path / "shards").path)
    assert main(["data", "split", shards, "--json"]) == 0
    capsys.readouterr()
    made_up = "--allow=text contradicts the structure"  # names and formulas are of other molecules
    assert main(["data", "audit", shards, "--json", "--max-scaffold", "1", made_up]) == 0
    assert set(json.loads(capsys.readouterr().out, parse_constant=pytest.fail)) >= {"overlaps", "above"}
    assert main(["data", "inspect", shards, "text.field_token=8"]) == 2
    assert "did you mean 'field_tokens'" in capsys.readouterr().err


def test_logs_are_lines_of_one_object(tmp_path, capsys):
    log = tmp_path / "7_%t_log.out"
    Path(str(log).replace("%t", "0")).write_text("one\ntwo\nthree\n")
    (tmp_path / "slurm").mkdir()
    write_json(tmp_path / "slurm" / "job.json", {"job": "7", "log": str(log)})
    assert main(["logs", str(tmp_path), "--lines", "2"]) == 0
    assert capsys.readouterr().out == "two\nthree\n"
    assert main(["logs", str(tmp_path), "--lines", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["rank"], told["lines"]) == (0, ["two", "three"])
    assert main(["logs", str(tmp_path), "--follow", "--json"]) == 2
    assert "give one of them" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "error", "printed"), [(0, float("nan"), None), (0, 1.5, 1.5), (3, None, None)]
)
def test_train_prints_one_object_whatever_its_end(tmp_path, capsys, monkeypatch, code, error, printed):
    from mmgnn_dist.train.report.table import ComparisonRow
    from mmgnn_dist.train.session import TrainedTable

    row = ComparisonRow(
        target="gap",
        unit="eV",
        mean=2.0,
        composition=1.0,
        errors={"both": error},
        of_baseline=0.5,
        gain_percent=None,
    )
    table = None if code else TrainedTable(tmp_path, [row], "title", "note", tmp_path / "report.md")

    def session(*_, **__):
        print("a note of a library")
        return code, table

    monkeypatch.setattr("mmgnn_dist.train.session.train_with_twins", session)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: x")
    assert main(["train", str(recipe), "--json"]) == code
    captured = capsys.readouterr()
    told = json.loads(captured.out, parse_constant=pytest.fail)
    rows = [
        {"target": "gap", "unit": "eV", "mean": 2.0, "composition": 1.0, "both": printed, "of_baseline": 0.5}
    ]
    assert told == {"run": "runs/x", "table": None if code else rows}
    assert "a note of a library" in captured.err


@pytest.mark.parametrize(
    ("words", "action", "says"),
    [
        (["predict", "run", "mine.sdf", "-o", "out.csv"], "predict._predict", "the same command continues"),
        (["evaluate", "run"], "train._evaluate", "starts anew"),
        (["train", "mine.yaml"], "train._train", "the same command continues"),
    ],
)
def test_an_interrupted_verb_says_whether_it_continues(monkeypatch, capsys, words, action, says):
    def interrupted(arguments: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"mmgnn_dist.cli.{action}", interrupted)
    assert main(words) == (3 if says.endswith("continues") else 130)
    assert says in capsys.readouterr().err


def test_a_fault_of_the_disk_is_one_line_and_others_are_not_hidden(monkeypatch, capsys):
    def fails(arguments: argparse.Namespace) -> int:
        raise OSError(number, os.strerror(number), "/some/file")

    monkeypatch.setattr("mmgnn_dist.cli.train._train", fails)
    number = errno.EROFS
    assert main(["train", "mine.yaml"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "/some/file cannot be read or written (Read-only file system)" in told
    number = errno.ECHILD
    with pytest.raises(ChildProcessError):
        main(["train", "mine.yaml"])
