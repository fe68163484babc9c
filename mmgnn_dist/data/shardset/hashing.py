"""64-bit hashes of string columns without a Python object per string.

A hash depends only on the bytes of its string: it is the same in every process and on every machine, so
orders drawn from it are stable. Equal strings have equal hashes; for equal hashes compare the strings.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

PIECE = 1 << 16  # strings hashed at a time: bounds the temporaries


def hash_strings(column: pa.Array | pa.ChunkedArray, seed: int = 0) -> np.ndarray:
    """Hash of each string, uint64 [n]; a null hashes like the empty string."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    parts = [
        _hash(chunk.slice(start, PIECE).cast(pa.large_string()), seed)
        for chunk in chunks
        for start in range(0, len(chunk), PIECE)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, np.uint64)


def _hash(strings: pa.LargeStringArray, seed: int) -> np.ndarray:
    _, offsets_buffer, data = strings.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int64)[strings.offset : strings.offset + len(strings) + 1]
    first, last = int(offsets[0]), int(offsets[-1])
    size = np.diff(offsets)
    value = np.full(len(strings), seed, np.uint64) ^ size.astype(np.uint64)
    if last > first:
        symbols = np.frombuffer(data, np.uint8)[first:last].astype(np.uint64) + np.uint64(1)
        position = np.arange(last - first) - np.repeat(offsets[:-1] - first, size)
        weighted = symbols * mix(position.astype(np.uint64) + np.uint64(1))
        filled = np.flatnonzero(size)  # reduceat is wrong for empty strings
        value[filled] += np.add.reduceat(weighted, offsets[filled] - first)
    return mix(value)


def uniform(key: Sequence[int], values: np.ndarray) -> np.ndarray:
    """A number in [0, 1) for each of `values`, determined by the value and `key` only, float64."""
    return (draw(key, values) >> np.uint64(11)) * 2.0**-53


def draw(key: Sequence[int], values: np.ndarray) -> np.ndarray:
    """64 random bits for each of `values` (integers), determined by the value and `key` only, uint64."""
    state = np.zeros(1, np.uint64)
    for part in key:
        state = mix(state ^ np.uint64(part))
    return mix(mix(values.astype(np.uint64)) ^ state)


def mix(value: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64, a bijection of uint64."""
    value = (value + np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
