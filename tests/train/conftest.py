"""What several tests of training share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pictures import white_pictures
from worlds import sixty_four


@pytest.fixture(scope="module", autouse=True)
def white() -> Iterator[None]:
    """Runs inside of this process draw white pictures too."""
    patch = white_pictures()
    yield
    patch.undo()


@pytest.fixture(scope="session")
def small_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 molecules to train on, 16 for validation, 17 to test."""
    return sixty_four(tmp_path_factory.mktemp("small"))
