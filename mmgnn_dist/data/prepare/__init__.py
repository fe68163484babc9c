"""From sources of molecules to a shard set, through Ray Data."""
