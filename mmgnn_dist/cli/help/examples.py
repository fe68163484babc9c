"""Two examples of each verb, shown at the end of its help; a test parses every one."""

from __future__ import annotations

import argparse

from mmgnn_dist.cli.common import Verbs

EXAMPLES: dict[str, tuple[str, str]] = {
    "init": ("mmgnn init project --data mine.csv", "mmgnn init project data.units.gap=eV --data mine.sdf"),
    "data prepare": (
        "mmgnn data prepare sample --to shards/sample",
        "mmgnn data prepare mine.csv --to shards/mine data.units.gap=eV",
    ),
    "data enrich": (
        "mmgnn data enrich shards/bare --to text.parquet",
        "mmgnn data enrich shards/bare --to text.parquet --bulk Extras",
    ),
    "data fetch": ("mmgnn data fetch qm9 --to downloads", "mmgnn data fetch pcqm4mv2 --to downloads"),
    "data split": (
        "mmgnn data split shards/mine --kind scaffold",
        "mmgnn data split shards/mine --kind kfold --folds 5",
    ),
    "data audit": (
        "mmgnn data audit shards/mine",
        "mmgnn data audit shards/mine --split random --max-identity 0",
    ),
    "data inspect": ("mmgnn data inspect shards/mine", "mmgnn data inspect shards/mine --html mine.html"),
    "train": ("mmgnn train launch/demo.yaml", "mmgnn train launch/demo.yaml --nproc 2 train.epochs=5"),
    "evaluate": ("mmgnn evaluate runs/mine", "mmgnn evaluate runs/mine --data shards/others"),
    "sync": ("mmgnn sync runs/mine", "mmgnn sync runs/mine --online"),
    "verify": ("mmgnn verify runs/mine", "mmgnn verify runs/mine --steps 100:120"),
    "submit": (
        "mmgnn submit recipe.yaml --profile slurm/generic.yaml --dry-run",
        "mmgnn submit recipe.yaml --profile slurm/generic.yaml --seeds 0,1,2",
    ),
    "status": ("mmgnn status", "mmgnn status runs/mine --json"),
    "cancel": ("mmgnn cancel runs/mine", "mmgnn cancel runs/one runs/other"),
    "logs": ("mmgnn logs runs/mine --follow", "mmgnn logs runs/mine --rank 1 --lines 100"),
    "fetch-model": ("mmgnn fetch-model NAME@COMMIT", "mmgnn fetch-model NAME@COMMIT --json"),
    "doctor": ("mmgnn doctor launch/demo.yaml", "mmgnn doctor --profile slurm/generic.yaml"),
    "predict": (
        "mmgnn predict runs/mine new.csv -o out.csv",
        "mmgnn predict runs/mine --smiles CCO --level 0.95",
    ),
    "export": ("mmgnn export runs/mine model", "mmgnn export runs/mine model --json"),
    "show": ("mmgnn show runs/mine", "mmgnn show runs --serve --port 8000"),
    "compare": ("mmgnn compare runs/one runs/other", "mmgnn compare runs/one runs/other --html compare.html"),
    "plan": ("mmgnn plan launch/demo.yaml", "mmgnn plan launch/large.yaml --world 64 --gpu-memory 80GiB"),
    "study": ("mmgnn study launch/quick.yaml", "mmgnn study launch/quick.yaml --cells"),
    "report": ("mmgnn report runs/quick", "mmgnn report runs/quick --json"),
    "sweep": ("mmgnn sweep launch/sweep.yaml", "mmgnn sweep launch/sweep.yaml --dir sweeps/mine"),
    "bench": (
        "mmgnn bench loader --shards shards/mine",
        "mmgnn bench train --shards shards/mine",
    ),
    "recipe": ("mmgnn recipe train.optim", "mmgnn recipe --json-schema"),
    "completion": ("mmgnn completion bash", "mmgnn completion zsh"),
}


def add_examples(verbs: Verbs, above: str = "") -> None:
    """Add its examples to the help of every verb.

    Args:
        verbs: the verbs of a parser.
        above: words before these verbs.
    """
    for word, parser in verbs.choices.items():
        name = f"{above} {word}".strip()
        if name in EXAMPLES:
            parser.epilog = "examples:\n" + "\n".join(f"  {line}" for line in EXAMPLES[name])
            parser.formatter_class = argparse.RawDescriptionHelpFormatter
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                add_examples(action, name)
