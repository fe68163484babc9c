"""A packed environment: complete, moved to its new place, checked, ours alone, and gone afterwards."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

import pytest
import submitit
from command_line import mmgnn
from jobs import changed, finish, held, reach, same_end, state, tasks

from mmgnn_dist.cluster.doctor.clean import find_leftovers
from mmgnn_dist.cluster.slurm.profile import Profile
from mmgnn_dist.cluster.staging.pack import Stage, check_stage, pack_stage
from mmgnn_dist.cluster.staging.unpack import unpack
from mmgnn_dist.errors import UserError
from mmgnn_dist.process import remove_owned_folder

PACKAGES = Path(submitit.__file__).parents[1]  # with torch and the rest


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Path:
    """A small environment: a package, a program, a folder of packages beside it, an editable checkout."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder / "venv", symlinks=True)
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    (packages / "own_one.py").write_text("WHERE = __file__\n")
    program = folder / "venv" / "bin" / "told"
    program.write_text(f"#!{folder}/venv/bin/python\nimport own_one, sys\nprint(own_one.WHERE)\n")
    program.chmod(0o777)
    for name in ("more/site-packages", "checkout"):
        (folder / name).mkdir(parents=True)
        (folder / name / f"{name[:4]}_one.py").write_text("WHERE = __file__\n")
    (packages / "more.pth").write_text(f"{folder}/more/site-packages\n{folder}/checkout\n")
    (folder / "code").mkdir()
    (folder / "code" / "frozen.py").write_text("")
    return folder


def pack(environment: Path, to: Path) -> Stage:
    profile = Profile(python=str(environment / "venv" / "bin" / "python"))
    return pack_stage(profile, sys.executable, environment / "code", to, quiet=True)


def test_a_packed_environment_works_where_it_is_unpacked(environment, tmp_path):
    stage = pack(environment, tmp_path)
    assert stage.elsewhere == [str(environment / "checkout")] and stage.packed_now
    again = pack(environment, tmp_path)
    assert again.archive == stage.archive and not again.packed_now
    previous = os.umask(0)
    try:
        unpack(stage.archive, stage.record["sha256"], tmp_path / "mmgnn_stage-7")
    finally:
        os.umask(previous)
    there = tmp_path / "mmgnn_stage-7"
    assert there.stat().st_mode & 0o777 == 0o700 and (there / "code" / "frozen.py").is_file()
    assert not [path for path in there.rglob("*") if path.lstat().st_mode & 0o022 and not path.is_symlink()]
    environment.joinpath("venv").rename(environment / "away")  # nothing is read there
    try:
        said = subprocess.run([there / "env/bin/told"], check=True, capture_output=True, text=True).stdout
        code = "import more_one, chec_one, sys; print(more_one.WHERE, chec_one.WHERE, sys.prefix)"
        words = [there / "env" / "bin" / "python", "-c", code]
        found = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
    finally:
        environment.joinpath("away").rename(environment / "venv")
    assert said.startswith(str(there / "env"))
    assert found[0] == str(there / "extra/0/more_one.py") and found[2] == str(there / "env")
    assert found[1] == str(environment / "checkout/chec_one.py")


def test_a_damaged_archive_is_refused_and_leaves_nothing(environment, tmp_path):
    stage = pack(environment, tmp_path)
    content = bytearray(stage.archive.read_bytes())
    with pytest.raises(ValueError, match="not what was packed"):
        unpack(stage.archive, "0" * 64, tmp_path / "mmgnn_stage-7")
    content[len(content) // 2] ^= 4
    stage.archive.write_bytes(content)
    with pytest.raises(ValueError, match="not what was packed"):
        unpack(stage.archive, stage.record["sha256"], tmp_path / "mmgnn_stage-7")
    stage.archive.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="not what was packed"):
        unpack(stage.archive, stage.record["sha256"], tmp_path / "mmgnn_stage-7")
    assert not list(tmp_path.glob("mmgnn_stage-*"))


def test_what_a_dead_step_has_unpacked_stays_while_ranks_use_it(environment, tmp_path):
    """Slurm may end the step that holds the folder alone; ranks still import from it."""
    stage = pack(environment, tmp_path)
    left = tmp_path / "mmgnn_stage-6.0-ab"
    left.mkdir(mode=0o700)
    (left / ".lock").write_text(socket.gethostname())
    rank = subprocess.Popen(["sleep", "60"], env={"MMGNN_STAGED": str(left)})
    try:
        remove_owned_folder(unpack(stage.archive, stage.record["sha256"], tmp_path / "mmgnn_stage-7"))
        assert left.is_dir() and left not in [found.path for found in find_leftovers([tmp_path])]
    finally:
        rank.kill()
        rank.wait()
    assert left in [found.path for found in find_leftovers([tmp_path])]
    remove_owned_folder(unpack(stage.archive, stage.record["sha256"], tmp_path / "mmgnn_stage-8"))
    assert not left.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away")
def test_a_folder_that_somebody_else_made_is_refused(environment, tmp_path):
    stage = pack(environment, tmp_path)
    theirs = tmp_path / "mmgnn_stage-7"
    theirs.mkdir(mode=0o700)
    (theirs / "trap").touch()
    os.chown(theirs, 65534, 65534)
    with pytest.raises(PermissionError, match="no folder of this user alone"):
        unpack(stage.archive, stage.record["sha256"], theirs)
    assert list(tmp_path.glob("mmgnn_stage-*")) == [theirs]


def test_what_cannot_be_packed_is_refused(environment, tmp_path):
    base = getattr(sys, "_base_executable", sys.executable)
    with pytest.raises(UserError, match="packs a virtual environment, and .* is none"):
        check_stage(Profile(python=base), sys.executable)
    image = {"kind": "apptainer", "image": "/bin/sh"}
    with pytest.raises(UserError, match="leave --stage out"):
        check_stage(Profile(container=image), sys.executable)


@pytest.mark.slow
@pytest.mark.slurm
def test_a_job_trains_from_its_staged_environment(cluster, recipe, undisturbed, environment, tmp_path):
    """Unpacked at each start, what a killed job has left goes; at the end the disk is as before."""
    linked = tmp_path / "packages"  # not packed: 2 GB
    linked.symlink_to(PACKAGES)
    (packages,) = (environment / "venv").glob("lib/python*/site-packages")
    (packages / "linked.pth").write_text(f"{linked}\n")
    run, scratch = tmp_path / "run", tmp_path / "disk"
    scratch.mkdir()
    python = environment / "venv" / "bin" / "python"
    profile = changed(tmp_path, python=str(python), scratch=str(scratch))
    words = ["submit", recipe, "--profile", profile, "--run", run, "--stage"]
    assert "mmgnn_stage ARCHIVE" in mmgnn(*words, "--dry-run").stdout and not run.exists()
    told = mmgnn(*words, "--json")
    (job,) = json.loads(told.stdout)["jobs"]
    reach(run, 5)
    for pid in tasks(run):
        variables = Path(f"/proc/{pid}/environ").read_text().split("\0")
        (staged,) = [word.partition("=")[2] for word in variables if word.startswith("MMGNN_STAGED=")]
        assert Path(f"/proc/{pid}/cmdline").read_text().startswith(f"{staged}/env/bin/python")
        assert staged.startswith(str(scratch)) and any(f"PYTHONPATH={staged}/code" in v for v in variables)
    with held(run):
        cluster.do("kill", "node2")
    cluster.do("start", "node2")
    finish(run, job["job"])
    same_end(run, undisturbed)
    assert not list(scratch.iterdir()), list(scratch.iterdir())
    (archive,) = (run / "slurm" / "stage").glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        assert {name.split("/")[0] for name in tar.getnames()} == {"env", "code", "about.json", "extra"}
    assert state(job["job"]) == "COMPLETED"
