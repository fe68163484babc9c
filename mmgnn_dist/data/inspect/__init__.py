"""Inspection of a shard set: overlaps between parts, counts, distributions, and an HTML page of them."""
