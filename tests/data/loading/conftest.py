"""What several tests of loading share."""

from __future__ import annotations

import pytest
from small_set import make_set

from mmgnn_dist.data.shardset.shards import ShardSet


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """A small set of made-up molecules in several shards; its token caches are those of one file of tests."""
    return make_set(tmp_path_factory.mktemp("set"))
