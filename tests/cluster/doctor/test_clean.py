"""`mmgnn doctor --clean`: what is ours and dead is listed, and removed only when the user says so."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mmgnn_dist.cli.main import main
from mmgnn_dist.process import LOCK, make_owned_folder


@pytest.fixture
def dead(tmp_path, monkeypatch) -> list[Path]:
    """Things of processes that have ended, beside things of living ones and of others."""
    places = {name: tmp_path / name for name in ("tmp", "here")}
    for place in places.values():
        place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(places["tmp"]))
    monkeypatch.setattr(
        "mmgnn_dist.cluster.doctor.clean.temporary_places", lambda: [*places.values(), places["here"]]
    )
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    found = [places["tmp"] / "r7.0.beef", places["tmp"] / f"wandb-{ended.pid}-{ended.pid}-77"]
    found += [places["tmp"] / "mmgnn-dead", places["here"] / ".predict-dead"]
    for folder in found:
        folder.mkdir()
        (folder / LOCK).write_text(socket.gethostname())
    found.append(places["tmp"] / f"wandb_symon-{ended.pid}-{ended.pid}-5.sock")
    with monkeypatch.context() as inside, socket.socket(socket.AF_UNIX) as left:
        inside.chdir(places["tmp"])  # the path of a socket has a limit of 108 bytes
        left.bind(found[-1].name)
    (places["tmp"] / f"wandb-{os.getppid()}-{os.getppid()}-1").mkdir()  # living
    make_owned_folder(places["tmp"], "mmgnn-")
    for other in ("mmgnn-notes", "matplotlib", "r7", "data"):
        (places["tmp"] / other).mkdir()
    (places["tmp"] / "matplotlib-text").write_text("no folder")
    return sorted(found)


def clean(*words: str, code: int = 0) -> int:
    assert main(["doctor", "--clean", *words]) == code
    return code


def test_a_dry_run_lists_and_yes_removes(dead, capsys):
    before = sorted(dead[0].parents[1].rglob("*"))
    clean("--dry-run", "--json")
    told = json.loads(capsys.readouterr().out)
    assert sorted(Path(item["path"]) for item in told["found"]) == dead and told["removed"] == 0
    assert sorted(dead[0].parents[1].rglob("*")) == before
    clean("--json", code=2)
    assert "--clean --yes removes" in capsys.readouterr().err and all(path.exists() for path in dead)
    clean("--yes")
    assert "removed 5" in capsys.readouterr().out
    assert not any(path.exists() for path in dead)
    clean("--yes", "--json")
    assert json.loads(capsys.readouterr().out) == {"found": [], "removed": 0}


@pytest.mark.parametrize(("answer", "gone"), [("y", True), ("", False)])
def test_somebody_at_a_terminal_is_asked(dead, capsys, monkeypatch, answer, gone):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: print(question) or answer)
    clean()
    assert "remove these 5? [y/N]" in capsys.readouterr().out
    assert all(path.exists() is not gone for path in dead)


def test_only_cleaning_takes_its_options(capsys):
    assert main(["doctor", "--dry-run"]) == 2
    assert "--clean" in capsys.readouterr().err
