import json
import pickle
import shutil

import numpy as np
import pytest

from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.errors import UserError


@pytest.fixture
def copy(sample_shards, tmp_path):
    return shutil.copytree(sample_shards.path, tmp_path / "copy")


def test_views_are_the_file_itself(sample_shards):
    for shard in sample_shards.shards:
        assert shard.ptr[0] == 0 and shard.ptr[-1] == len(shard.z) == len(shard.pos)
        assert (shard.z.dtype, shard.pos.dtype, shard.ptr.dtype) == (np.uint8, np.float32, np.int64)
        assert (shard.y.dtype, shard.context.dtype) == (np.float64, np.float32)
        assert shard.y.shape == (shard.rows, len(sample_shards.targets))
        for view in (shard.z, shard.pos, shard.ptr, shard.y, shard.context):
            assert not view.flags.owndata and not view.flags.writeable


def test_ids_by_global_row(sample_shards):
    ids = sample_shards.ids()
    rows = np.array([0, sample_shards.rows - 1, int(sample_shards.starts[1]), 5])
    assert sample_shards.ids(rows).tolist() == ids[rows].tolist()
    assert len(set(ids)) == sample_shards.rows == sample_shards.starts[-1]


def test_another_process_can_have_it(sample_shards):
    other = pickle.loads(pickle.dumps(sample_shards))
    assert np.array_equal(other.shards[-1].pos, sample_shards.shards[-1].pos)
    shard = pickle.loads(pickle.dumps(sample_shards.shards[0]))
    assert np.array_equal(shard.y, sample_shards.shards[0].y, equal_nan=True)


def test_any_flipped_byte_is_found(copy):
    path = copy / "shard-00001.arrow"
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(whole), 100):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"shard-00001.arrow is altered"):
            ShardSet.open(copy)
    path.write_bytes(whole)
    ShardSet.open(copy)


def test_a_truncated_or_missing_shard_is_found(copy):
    path = copy / "shard-00000.arrow"
    path.write_bytes(path.read_bytes()[:-100])
    for verify in (True, False):
        with pytest.raises(UserError, match=r"shard-00000.arrow is truncated"):
            ShardSet.open(copy, verify=verify)
    path.unlink()
    with pytest.raises(UserError, match=r"shard-00000.arrow is missing"):
        ShardSet.open(copy)


def test_what_is_no_shard_set_is_told(copy, tmp_path):
    with pytest.raises(UserError, match="no shard set at"):
        ShardSet.open(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="not a shard set"):
        ShardSet.open(tmp_path / "empty")
    manifest = json.loads((copy / "manifest.json").read_text())
    for change, message in [({"schema": 99}, "update mmgnn_dist"), ({"kind": "x"}, "another kind")]:
        (copy / "manifest.json").write_text(json.dumps(manifest | change))
        with pytest.raises(UserError, match=message):
            ShardSet.open(copy)
    for name in ("shards", "rows", "targets"):
        (copy / "manifest.json").write_text(json.dumps({k: v for k, v in manifest.items() if k != name}))
        with pytest.raises(UserError, match=f"lacks {name}: prepare the molecules again"):
            ShardSet.open(copy)
    (copy / "manifest.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        ShardSet.open(copy)
