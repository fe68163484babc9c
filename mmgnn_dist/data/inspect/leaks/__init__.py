"""Search for leaks in a shard set: labels in the text, copies across parts, text of another molecule."""
