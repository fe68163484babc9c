"""What a shard set holds: overlaps between parts, counts, distributions, and the page that shows them."""
