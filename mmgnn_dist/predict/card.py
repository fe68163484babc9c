"""The model card of an export: what the model was trained on, how well it does, and what it is not for.

It is the README.md of the folder, with the header that the Hugging Face hub reads. Everything in it is read
from the records of the run.
"""

from __future__ import annotations

import math
from typing import Any

import yaml

from mmgnn_dist.chem.targets import CLASS
from mmgnn_dist.config import Recipe
from mmgnn_dist.files import read_json
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.run_records import ExportRecord, LearnedFrom, RunMetrics
from mmgnn_dist.train.application.conformal import COVERED, radius_of
from mmgnn_dist.train.metrics import metric_unit
from mmgnn_dist.version import __version__

PAPER = "Polat, Kurban, Serpedin and Kurban, arXiv 2505.12137"


def model_card(run: RunDir, recipe: Recipe, about: ExportRecord) -> str:
    """Write the card of a trained model.

    Args:
        run: run directory, or a folder made by `mmgnn export`.
        recipe: its recipe.
        about: description of its export.
    """
    metrics: RunMetrics | None = read_json(run.metrics) if run.metrics.is_file() else None
    parts = [
        _header(recipe, about),
        f"# {recipe.name}",
        _summary(recipe, about),
        "## Targets",
        _targets(about, metrics),
        "## Training data",
        _data(run, about, metrics),
        "## Use",
        _use(recipe, about),
        "## Limits",
        _limits(about),
        "## Licences, versions, citation",
        _origin(run),
    ]
    return "\n\n".join(parts) + "\n"


def _header(recipe: Recipe, about: ExportRecord) -> str:
    tags = ["chemistry", "molecules", "molecular-property-prediction", recipe.model.modality]
    if recipe.model.reads_graph:
        tags.append(about["backbone"]["name"])
    values: dict[str, Any] = {"library_name": "mmgnn_dist", "tags": tags}
    encoder = about["encoder"]
    if encoder is not None and "/" in encoder["name"] and not encoder["name"].startswith(("/", ".", "~")):
        values["base_model"] = encoder["name"]  # a name on the hub
    return f"---\n{yaml.safe_dump(values, sort_keys=False)}---"


def _summary(recipe: Recipe, about: ExportRecord) -> str:
    read = {
        "graph": "the 3D geometry of a molecule",
        "width_matched": "the 3D geometry of a molecule",
        "text": "text on a molecule",
        "both": "the 3D geometry of a molecule and text on it",
    }[recipe.model.modality]
    lines = [f"A model that reads {read} and predicts {', '.join(about['units'])}."]
    if recipe.model.reads_graph:
        lines.append(f"Backbone: {about['backbone']['name']}.")
    if (encoder := about["encoder"]) is not None:
        lines.append(
            f"Language model: {encoder['name']} (`text.mode={recipe.text.mode}`), fields: "
            f"{', '.join(recipe.text.fields)}; joined by `{recipe.model.fusion}`."
        )
    return " ".join(lines)


def _targets(about: ExportRecord, metrics: RunMetrics | None) -> str:
    """A row a target: kind, unit, errors on the test part beside the baselines, radius of its interval."""
    rows = [
        f"| target | kind | unit | MAE | mean | linear fit | {COVERED:.0%} interval |",
        "|---|---|---|---|---|---|---|",
    ]
    calibration = about.get("calibration", {})
    for name, unit in about["units"].items():
        key = f"mae/{name}_{metric_unit(unit)}"
        errors = ["", "", ""]
        if metrics is not None:
            named = metrics["metrics"] | metrics["baselines"]
            errors = [_number(named.get(f"{kind}/{key}")) for kind in ("test", "mean", "composition")]
        radius = radius_of(calibration, name, COVERED)
        words, interval = unit, f"± {_number(radius)}" if math.isfinite(radius) else ""
        if about["kinds"][name] == CLASS:
            words, interval = ", ".join(about.get("classes", {}).get(name, [])), ""
        rows.append(f"| {name} | {about['kinds'][name]} | {words} | {' | '.join(errors)} | {interval} |")
    note = (
        "MAE: mean absolute error on the test part of the run, beside those of the mean of the training part "
        "and of a linear fit on atom counts. Interval: the absolute error below which this share of the "
        "validation part lies (split-conformal)."
    )
    classes = {} if metrics is None else {k: v for k, v in metrics["metrics"].items() if "/mae/" not in k}
    listed = [f"- `{name}`: {_number(value)}" for name, value in classes.items()]
    return "\n".join([*rows, "", note, *(["", *listed] if listed else [])])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _data(run: RunDir, about: ExportRecord, metrics: RunMetrics | None) -> str:
    lines = []
    if metrics is not None:
        counts = metrics["molecules"]
        lines.append("- molecules: " + ", ".join(f"{part} {count}" for part, count in counts.items()))
        lines.append(f"- SHA-256 of the shards: `{metrics['shards_sha256']}`")
        lines.append(f"- SHA-256 of the split: `{metrics['split_sha256']}`")
    lines.append(f"- SHA-256 of the weights: `{about.get('sha256', '')}`")
    learned = about.get("learned_from")
    if learned is not None:
        lines += _learned(learned, about["encoder"] is not None)
    if run.export_trained_on.is_file():
        lines.append("- hashes of the identities of the training molecules: `export/trained_on.safetensors`")
    return "\n".join(lines)


def _learned(learned: LearnedFrom, reads_text: bool) -> list[str]:
    lines = [f"- elements: {', '.join(learned['elements'])}"]
    if "atoms" in learned:
        lines.append("- atoms in a molecule: {} to {}".format(*learned["atoms"]))
    if "charges" in learned and "multiplicities" in learned:
        lines.append(f"- charges: {', '.join(map(str, learned['charges']))}")
        lines.append(f"- multiplicities: {', '.join(map(str, learned['multiplicities']))}")
    if reads_text:
        shares = [f"{name} {share:.0%}" for name, share in learned["coverage"].items() if share]
        lines.append(f"- molecules with text: {', '.join(shares) or 'none'}")
        lines.append(f"- providers of text: {', '.join(learned['providers'] or []) or 'not recorded'}")
    return lines


def _use(recipe: Recipe, about: ExportRecord) -> str:
    text = f', text={{"{recipe.text.fields[0]}": "…"}}' if about["encoder"] is not None else ""
    return (
        '```python\nimport mmgnn_dist\n\nmodel = mmgnn_dist.load("THIS FOLDER")\n'
        f'table = model.predict("CCO"{text})\n```\n\n'
        "or `mmgnn predict THIS_FOLDER molecules.sdf -o out.csv`. Meant for molecules of the kind of the "
        "training data above. `flags` of the result name those that are not."
    )


def _limits(about: ExportRecord) -> str:
    lines = [
        "- Molecules with other elements, charges or multiplicities are refused; those of other sizes are "
        "flagged, and their errors and intervals are not known.",
        "- Errors and intervals hold for geometries made as those of the training data were; conformers from "
        "SMILES are other ones.",
        "- One training: another seed or split gives other errors.",
    ]
    if about["encoder"] is not None:
        lines.append(
            "- Text of another origin, or none, may cost accuracy: `mmgnn predict` says how many have it."
        )
    return "\n".join(lines)


def _origin(run: RunDir) -> str:
    versions = read_json(run.versions) if run.versions.is_file() else {}
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return "\n".join(
        [
            f"- mmgnn_dist {__version__} (MIT). Licences of the training data and of the language model are "
            "those of their sources, and bind whoever passes this model on.",
            *([f"- trained with {listed}"] if listed else []),
            f"- method: {PAPER}, with the changes that the README of mmgnn_dist names",
        ]
    )
