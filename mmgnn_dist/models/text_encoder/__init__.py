"""Text encoder: from packed tokens to vectors; vectors of a frozen encoder are stored with the shards."""
