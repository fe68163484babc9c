"""From a shard set to batches: order, shares of equal cost, text input, physical context."""
