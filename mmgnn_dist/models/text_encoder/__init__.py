"""The language model: packed tokens in, vectors out; frozen vectors kept beside the shards."""
