"""The verb of the command line for W&B: sync."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from mmgnn_dist.errors import EXIT_DONE


def add_verbs(verbs: Any) -> None:
    """Add the parser."""
    sync = verbs.add_parser("sync", help="write a run's W&B record again from its journal, every step once")
    sync.add_argument("run", type=Path, metavar="RUN")
    sync.add_argument("--online", action="store_true", help="and upload it (key: WANDB_API_KEY)")
    sync.add_argument("--json", action="store_true", help="print one JSON object")
    sync.set_defaults(action=_sync)


def _sync(arguments: argparse.Namespace) -> int:
    from mmgnn_dist.train.tracking.wandb_sync import sync

    found = sync(arguments.run, arguments.online)
    if arguments.json:
        print(json.dumps(found))
        return EXIT_DONE
    state = "finished" if found["finished"] else "not finished"
    print(f"{found['steps']} new steps, up to step {found['last']} ({state}), W&B run {found['id']}")
    for path in found["segments"]:
        print(f"  {path}")
    print(
        "uploaded" if found["uploaded"] else f"upload: WANDB_API_KEY=... mmgnn sync {arguments.run} --online"
    )
    return EXIT_DONE
