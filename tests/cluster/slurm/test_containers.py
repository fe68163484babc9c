"""Jobs whose ranks run in a container: words that stand in for apptainer and pyxis see what those would."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

import pytest
from command_line import journal
from jobs import changed, finish, status, submit

pytestmark = pytest.mark.slurm
# like apptainer it refuses mounts and images that are not there, and starts what follows the image
APPTAINER = """#!/bin/bash
echo "$@" >> {seen}
[ "$1" = exec ] && shift || exit 9
while [ "$1" = --bind ]; do [ -e "${{2%%:*}}" ] || exit 9; shift 2; done
[ -f "$1" ] && [ "$2" = python3 ] && shift 2 || exit 9
exec {python} "$@"
"""
# the options that pyxis adds to srun, then srun itself
SRUN = """#!/bin/bash
words=()
for word in "$@"; do
  case $word in --container-*) echo "$word" >> {seen} ;; *) words+=("$word") ;; esac
done
exec {srun} "${{words[@]}}"
"""
PYTHON = """#!/bin/bash
exec {python} "$@"
"""


@pytest.mark.parametrize("kind", ["apptainer", pytest.param("pyxis", marks=pytest.mark.slow)])
def test_ranks_run_in_a_container(cluster, recipe, tmp_path, kind):
    programs, image, seen = tmp_path / "bin", tmp_path / "image.sif", tmp_path / "seen"
    programs.mkdir()
    image.touch()
    for name, text in {"apptainer": APPTAINER, "srun": SRUN, "python3": PYTHON}.items():
        if name == "apptainer" or kind == "pyxis":
            values = {"seen": seen, "python": sys.executable, "srun": shutil.which("srun")}
            (programs / name).write_text(
                text.format(**{key: shlex.quote(str(v)) for key, v in values.items()})
            )
            (programs / name).chmod(0o755)
    run = tmp_path / "run"
    container = {"kind": kind, "image": str(image), "mounts": [f"{tmp_path}:/extra"]}
    profile = changed(tmp_path, container=container, setup=[f"export PATH={programs}:$PATH"])
    job = submit(recipe, run, "train.max_steps=2", "track.wandb=disabled", profile=profile)
    finish(run, job)
    assert status(run)["done"] and len(journal(run)) == 2
    said = seen.read_text()
    shards = Path(recipe.read_text().split("shards: ")[1].split("}")[0])
    for path in (run, shards, recipe.parent / "encoder"):
        assert f"{path}:{path}" in said
    assert str(image) in said and f"{tmp_path}:/extra" in said
