"""What several tests of training share."""

from __future__ import annotations

from pathlib import Path

import pytest
from worlds import sixty_four


@pytest.fixture(scope="session")
def small_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 molecules to train on, 16 for validation, 17 to test."""
    return sixty_four(tmp_path_factory.mktemp("small"))
