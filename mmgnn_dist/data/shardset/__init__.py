"""The shard set on disk: shards, splits, groups, atom references, checksums."""
