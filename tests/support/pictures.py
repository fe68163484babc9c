"""White pictures for the runs of tests: layout and rendering are a third of a small run's processor time.

All that draws into a figure still runs, and a file is written where the picture would be. A test that looks
at pictures trains with `real_pictures`. An interpreter that starts anew, as in a job, draws real ones.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

REAL = "MMGNN_TEST_REAL_PICTURES"
WHITE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


def _save(figure: Any, path: Path) -> None:
    """In place of `plots.save`: the same file, one pixel large."""
    from mmgnn_dist.files import atomic_path
    from mmgnn_dist.train.report import plots

    with atomic_path(path) as part:
        part.write_bytes(WHITE)
    plots.pyplot().close(figure)


def white_pictures() -> pytest.MonkeyPatch:
    """Let this process draw white pictures, unless real ones are asked for; returns what can undo it."""
    from mmgnn_dist.train.report import plots

    patch = pytest.MonkeyPatch()
    if REAL not in os.environ:
        patch.setattr(plots, "save", _save)
    return patch


@contextmanager
def real_pictures() -> Iterator[None]:
    """Runs that are started meanwhile draw real pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(REAL, "1")
        yield
