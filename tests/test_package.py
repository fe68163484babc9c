"""The package as a user gets it: what a wheel holds, and one's own data from the wheel alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import mmgnn_dist
from mmgnn_dist.bundled import bundled_file, bundled_names
from mmgnn_dist.cli.main import main
from mmgnn_dist.errors import EXTRAS

ROOT = Path(__file__).parents[1]
MODULE_OF = {"torch_geometric": "torch_geometric", "pyyaml": "yaml"}  # import names that differ
HANDLED = {"pubchempy", "py2opsin"}  # their modules say themselves what is missing
BUILD = """
import sys
from setuptools import build_meta
folder = sys.argv[1]  # setuptools puts its own words there
build_meta.build_sdist(folder)
build_meta.build_wheel(folder)
"""


def requirements() -> dict[str, set[str]]:
    """The extras that install each optional package, by its import name."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    found: dict[str, set[str]] = {}
    for extra, texts in extras.items():
        for text in texts if extra not in ("all", "dev", "docs") else ():
            name = text.split(">")[0].split("[")[0].replace("-", "_").lower()
            found.setdefault(MODULE_OF.get(name, name), set()).add(extra)
    return found


def test_every_optional_package_has_the_extra_that_installs_it():
    wanted = requirements()
    assert set(EXTRAS) >= set(wanted) - HANDLED
    assert not {name for name, extra in EXTRAS.items() if extra not in wanted[name]}


def test_bundled_recipes_are_found_from_anywhere(tmp_path, monkeypatch, capsys):
    assert {"launch/demo.yaml", "slurm/generic.yaml"} <= set(bundled_names())
    assert bundled_file("../launch/demo.yaml") is None and bundled_file("launch/NAME.yaml") is None
    monkeypatch.chdir(tmp_path)
    command = ["data", "prepare", "none.csv", "--to", "shards", "--recipe", "launch/demo.yaml"]
    assert main(command) == 2  # there is no such source
    told = capsys.readouterr().err
    assert "launch/demo.yaml is not in this folder: that of mmgnn_dist is read" in told
    assert "none.csv" in told.splitlines()[-1]
    (tmp_path / "launch").mkdir()
    (tmp_path / "launch" / "demo.yaml").write_text("nam: own\n")
    assert main(command) == 2  # the user's own goes before
    assert "unknown key nam" in capsys.readouterr().err


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the sdist and the wheel that is built from it."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    left = shutil.ignore_patterns(".*", "runs", "shards", "build", "dist", "*.egg-info", "tests", "docs")
    shutil.copytree(ROOT, source / "mmgnn", ignore=left)
    subprocess.run(
        [sys.executable, "-c", BUILD, str(out)], check=True, cwd=source / "mmgnn", capture_output=True
    )
    return out


@pytest.mark.slow
def test_sdist_and_wheel_hold_recipes_profiles_and_data(built):
    recipes = {path.relative_to(ROOT).as_posix() for path in (ROOT / "launch").rglob("*.yaml")}
    recipes |= {path.relative_to(ROOT).as_posix() for path in (ROOT / "slurm").glob("*.yaml")}
    [wheel], [sdist] = built.glob("*.whl"), built.glob("*.tar.gz")
    in_wheel = set(zipfile.ZipFile(wheel).namelist())
    assert {f"mmgnn_dist/{name}" for name in recipes} <= in_wheel
    assert {
        "mmgnn_dist/py.typed",
        "mmgnn_dist/sample/molecules.parquet",
        "mmgnn_dist/sample/README.md",
    } <= in_wheel
    assert {name.split("/")[0] for name in in_wheel} == {
        "mmgnn_dist",
        f"mmgnn_dist-{mmgnn_dist.__version__}.dist-info",
    }
    with tarfile.open(sdist) as archive:
        in_sdist = {name.partition("/")[2] for name in archive.getnames()}
    assert recipes | {"setup.py", "pyproject.toml"} <= in_sdist


@pytest.mark.slow
def test_own_molecules_to_predictions_from_the_wheel_alone(built, tmp_path):
    """Six commands, the installation among them, and no file edited."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    [site] = venv.glob("lib/python*/site-packages")
    import torch

    packages = Path(torch.__file__).parents[1]  # what the extras install, seen but not installed again
    (site / "shared.pth").write_text(f"{packages}\n")
    work = tmp_path / "work"
    work.mkdir()
    alcohols = [f"{'C' * n}O" for n in range(1, 11)] + [f"CC({'C' * n})O" for n in range(1, 11)]
    rows = [
        f"m{k},{smiles},{10 + 0.1 * k:.1f}"
        for k, smiles in enumerate([*alcohols, *("N" + s for s in alcohols)])
    ]
    (work / "mine.csv").write_text("\n".join(["id,smiles,ip (eV)", *rows]) + "\n")
    (work / "new.csv").write_text("id,smiles\nx,CCCCO\n")
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def run(*words: object, cwd: Path) -> str:
        done = subprocess.run(
            list(map(str, words)),
            check=False,
            cwd=cwd,
            env=clean,
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    mmgnn, project = venv / "bin" / "mmgnn", work / "project"
    run(venv / "bin" / "pip", "install", "--no-deps", "--no-index", *built.glob("*.whl"), cwd=work)
    run(mmgnn, "init", "project", "--data", "mine.csv", cwd=work)
    run(
        mmgnn,
        "data",
        "prepare",
        "../mine.csv",
        "--to",
        "shards/project",
        "--recipe",
        "recipe.yaml",
        cwd=project,
    )
    run(mmgnn, "train", "recipe.yaml", "train.max_steps=4", cwd=project)
    run(mmgnn, "show", "runs/project", cwd=project)
    run(mmgnn, "predict", "runs/project", "../new.csv", "-o", "out.csv", cwd=project)
    assert (project / "out.csv").read_text().startswith('"id","ip"')
    assert "<svg" in (project / "runs" / "project" / "page.html").read_text()
    place = run(venv / "bin" / "python", "-c", "import mmgnn_dist; print(mmgnn_dist.__file__)", cwd=work)
    assert place.startswith(str(venv))


def test_containers_copy_what_is_there_and_install_the_same(built_from=("Dockerfile", "slurm/mmgnn.def")):
    docker, apptainer = ((ROOT / name).read_text() for name in built_from)
    copied = re.findall(r"^COPY (.+) \S+$", docker, re.MULTILINE)
    copied += re.findall(r"^    (\S+) /src/\S+$", apptainer, re.MULTILINE)
    assert copied and all((ROOT / name).exists() for names in copied for name in names.split())
    extras = [set(re.search(r"EXTRAS=(\S+)", text)[1].split(",")) for text in (docker, apptainer)]
    known = {extra for names in requirements().values() for extra in names}
    assert extras[0] == extras[1] <= known
    user, entry = docker.index("\nUSER "), docker.index("\nENTRYPOINT")
    assert user < entry and "\nUSER root" not in docker
