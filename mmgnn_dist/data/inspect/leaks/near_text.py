"""Texts that are equal or nearly so: other case, blanks or signs, or a long text with a few words changed.

Short texts are compared by their letters, digits and primes alone. Long ones, with many words beside locants,
are compared by the set of their pairs of neighbouring words, so that other locants make another name: minimal
hashes (Broder 1997, doi 10.1109/SEQUEN.1997.666900) find the candidates, the sets decide. Large groups of
equal texts are left out: a phrase that many molecules share tells none of them apart.
"""

from __future__ import annotations

import re
from itertools import combinations, pairwise

import numpy as np
import pyarrow as pa

from mmgnn_dist.data.shardset.hashing import hash_strings, mix

NOT_LETTERS = re.compile(r"[^\w'′]+|_+")
WORD = re.compile(r"[^\W\d_]{3,}")
SHORTEST = 4  # letters and digits of a text that is compared
LONG = 8  # words of three letters from which on the words are compared
ALIKE = 0.8  # share of their pairs of words that two long texts have in common (Jaccard)
LARGEST = 5  # molecules in a group of equal texts
BANDS, BAND = 8, 3  # minimal hashes: groups of three that have to agree


def near_equal_texts(texts: list[str]) -> np.ndarray:
    """Return the pairs of texts that are equal or nearly so, int64 [P, 2]."""
    words = [NOT_LETTERS.sub(" ", text.casefold()).split() for text in texts]
    joined = ["".join(one) for one in words]
    present = np.flatnonzero([len(one) >= SHORTEST for one in joined])
    pairs = _grouped(hash_strings(pa.array([joined[row] for row in present], pa.large_string())), present)
    long = np.flatnonzero([sum(map(bool, map(WORD.search, one))) >= LONG for one in words])
    if len(long):
        sets = {row: frozenset(map(" ".join, pairwise(words[row]))) for row in long.tolist()}
        keys = _minimal_hashes([sorted(sets[row]) for row in long.tolist()])
        candidates = {pair for band in keys.T for pair in map(tuple, _grouped(band, long).tolist())}
        pairs = np.concatenate([pairs, _alike(candidates, sets)])
    return np.unique(pairs, axis=0)


def _grouped(keys: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the pairs of rows with one key, in groups that are not too large, int64 [P, 2]."""
    order = np.argsort(keys, kind="stable")
    ends = np.flatnonzero(np.diff(keys[order]))
    pairs = [
        pair
        for group in np.split(rows[order], ends + 1)
        if 2 <= len(group) <= LARGEST
        for pair in combinations(sorted(group.tolist()), 2)
    ]
    return np.array(pairs, np.int64).reshape(-1, 2)


def _minimal_hashes(texts: list[list[str]]) -> np.ndarray:
    """Return the key of each band of each text, uint64 [n, BANDS]."""
    counts = np.array([len(words) for words in texts])
    hashes = hash_strings(pa.array([word for words in texts for word in words], pa.large_string()))
    first = np.cumsum(counts) - counts
    keys = np.zeros((len(texts), BANDS), np.uint64)
    for band in range(BANDS):
        for number in range(BAND):
            salted = mix(hashes ^ np.uint64(band * BAND + number + 1))
            keys[:, band] = mix(keys[:, band] ^ np.minimum.reduceat(salted, first))
    return keys


def _alike(candidates: set[tuple[int, ...]], sets: dict[int, frozenset[str]]) -> np.ndarray:
    alike = [
        (one, other)
        for one, other in candidates
        if len(sets[one] & sets[other]) >= ALIKE * len(sets[one] | sets[other])
    ]
    return np.array(sorted(alike), np.int64).reshape(-1, 2)
