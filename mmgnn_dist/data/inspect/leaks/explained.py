"""Labels that a number or a word of the text explains far beyond the composition.

Target and number are both reduced by their least-squares fit on the counts of the elements and the products
of two counts; the squared correlation of what is left is the share that the number explains. Real properties
of a molecule explain some of it (see the limits); a copy of the label, also rounded, scaled, shifted, noisy,
ranked or per atom, nearly all.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import numpy as np

from mmgnn_dist.data.inspect.leaks.content import Content
from mmgnn_dist.data.inspect.leaks.finding import AuditFinding, first_examples
from mmgnn_dist.data.inspect.leaks.numbers_in_text import written_numbers

# shares of the variance left by composition, and what QM9 and the bundled sample reach
NUMBER_LIMIT = 0.9  # a numeric field; 0.8 among 140 molecules, 0.4 among thousands
OTHER_LIMIT = 0.6  # a number in a sentence, the length or presence of a text, the placement; 0.3
JOINT_LIMIT = 0.8  # all numeric fields together, also per atom and squared; 0.5
JOINT_LEAST = 300  # molecules for that
WORD_LIMIT = 0.25  # a word; 0.1, and one that says "above the median" from 0.3 to 0.6
CHANCE = 20  # divided by the number of molecules: what the best of all words explains by chance
PLACES = 4  # numbers of a text that are looked at
LEAST = 50  # molecules
WORDS = 200  # most frequent words of a field
ROWS = 20_000  # molecules in which words are looked at
COMMON = 0.3  # share of the molecules that have a numeric field
ABOUND = 10  # molecules for each product of counts
KIND, WORD_KIND = "labels follow from a number", "labels follow from a word"
_WORD = re.compile(r"[^\W\d_]{3,}")


def explained_labels(content: Content) -> Iterator[AuditFinding]:
    """Yield a finding for each number that explains a target, and for all numeric fields together."""
    for name, values, limit in _numbers(content):
        rows = np.flatnonzero(np.isfinite(values))
        if len(rows) >= LEAST and np.ptp(values[rows]) > 0:
            shares = _shares(content, rows, _forms(values[rows], content.sizes[rows]))[:, 0]
            yield from _explained(content, name, rows, shares, limit)
    table = np.stack(list(content.context.values()))
    table = table[np.isfinite(table).mean(axis=1) > COMMON]
    rows = np.flatnonzero(np.isfinite(table).all(axis=0))
    if len(table) > 1 and len(rows) >= JOINT_LEAST:
        given = table[:, rows]
        forms = np.concatenate([given, given * content.sizes[rows], given**2])
        yield from _explained(
            content, "all numeric fields", rows, _joint_shares(content, rows, forms), JOINT_LIMIT
        )


def _explained(
    content: Content, name: str, rows: np.ndarray, shares: np.ndarray, limit: float
) -> Iterator[AuditFinding]:
    for column, target in enumerate(content.shards.targets):
        if shares[column] > limit:
            yield AuditFinding(
                KIND,
                "leak",
                f"{target} from {name}",
                len(rows),
                len(content.sizes),
                first_examples(content.ids[rows]),
                f"it explains {shares[column]:.0%} of what composition leaves open: see where it comes from, "
                "and leave it out of the text",
            )


def telling_words(content: Content) -> Iterator[AuditFinding]:
    """Yield a finding for each word that explains a target."""
    for field, texts in content.prose.items():
        step = -(-len(texts) // ROWS)
        rows = np.array([row for row in range(0, len(texts), step) if texts[row]], np.int64)
        if len(rows) < LEAST:
            continue
        words, present = _frequent_words([texts[row] for row in rows.tolist()])
        share = _shares(content, rows, [present]) if words else np.zeros((0, 0))
        limit = WORD_LIMIT + CHANCE / len(rows)
        for place, column in np.argwhere(limit < share.T).tolist():
            target, word = content.shards.targets[column], words[place]
            yield AuditFinding(
                WORD_KIND,
                "leak",
                f"{target} from '{word}' in {field}",
                int(present[place].sum()),
                len(rows),
                first_examples(content.ids[rows[present[place] == 1]]),
                f"it explains {share[column, place]:.0%} of what composition leaves open: leave {field} out "
                "of text.fields, or take the word out",
            )


def _frequent_words(texts: list[str]) -> tuple[list[str], np.ndarray]:
    """Return frequent words that not nearly all texts have, and which texts have them, float64 [W, n]."""
    sets = [set(_WORD.findall(text.casefold())) for text in texts]
    counts = Counter(word for words in sets for word in words).most_common(WORDS)
    words = [word for word, count in counts if LEAST / 2 <= count <= len(texts) - LEAST / 2]
    place = {word: column for column, word in enumerate(words)}
    present = np.zeros((len(words), len(texts)))
    for row, one in enumerate(sets):
        for word in one & place.keys():
            present[place[word], row] = 1
    return words, present


def _numbers(content: Content) -> Iterator[tuple[str, np.ndarray, float]]:
    """Yield (name, values [N], NaN where missing, limit) of all numbers that text and placement give."""
    for name, values in content.context.items():
        yield name, values, NUMBER_LIMIT
    for name, values in _other_numbers(content):
        yield name, values, OTHER_LIMIT + CHANCE / np.isfinite(values).sum().clip(1)


def _other_numbers(content: Content) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (name, values) of numbers that are no properties."""
    rows = len(content.sizes)
    for field, values in content.context.items():
        yield f"the presence of {field}", np.isfinite(values).astype(np.float64)
    for field, texts in content.prose.items():
        numbers = written_numbers(texts)
        for place in range(PLACES):
            yield f"number {place + 1} in {field}", numbers.at(place, rows)
        yield f"the length of {field}", np.array([len(text) or np.nan for text in texts])
        yield f"the presence of {field}", np.array([float(bool(text)) for text in texts])
    for axis, name in enumerate("xyz"):
        total = np.bincount(content.owner, weights=content.pos[:, axis], minlength=rows)
        yield f"the {name} of the centre of the atoms", total / content.sizes


def _forms(values: np.ndarray, sizes: np.ndarray) -> list[np.ndarray]:
    """Forms in which a number may hold a label, each [1, n]: as it is, ranked, per atom, as a logarithm."""
    forms = (values, _ranks(values), values * sizes, np.log(np.abs(values) + 1e-9))
    return [form[None] for form in forms]


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return the average rank of each value, float64 [n]."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - counts / 2)[inverse]


def _shares(content: Content, rows: np.ndarray, forms: list[np.ndarray]) -> np.ndarray:
    """Share of each target that numbers explain beyond composition.

    Args:
        content: the shard set.
        rows: molecules that have the numbers, int64 [n].
        forms: numbers of these molecules in one or several forms, each [C, n]; the second form is of ranks,
            and is also compared with the ranks of the target.

    Returns:
        Largest share over the forms, [T, C].
    """
    shares = np.zeros((content.y.shape[1], len(forms[0])))
    left: dict[bytes, tuple[np.ndarray, list[np.ndarray]]] = {}
    for column in range(content.y.shape[1]):
        labels = content.y[rows, column]
        known = np.isfinite(labels)
        if known.sum() < LEAST:
            continue
        pattern = np.packbits(known).tobytes()
        if pattern not in left:
            basis = _basis(content.composition[rows[known]])
            left = {pattern: (basis, [_beyond(basis, form[:, known]) for form in forms])}
        basis, numbers = left[pattern]
        label = _beyond(basis, labels[known][None])[0]
        explained = [(number @ label) ** 2 for number in numbers]
        if len(forms) > 1:
            explained.append((numbers[1] @ _beyond(basis, _ranks(labels[known])[None])[0]) ** 2)
        shares[column] = np.max(explained, axis=0)
    return shares


def _joint_shares(content: Content, rows: np.ndarray, forms: np.ndarray) -> np.ndarray:
    """Share of each target that numbers explain together beyond composition, [T]; 0 if labels are missing."""
    basis = _basis(content.composition[rows])
    left, singular, _ = np.linalg.svd(_beyond(basis, forms).T, full_matrices=False)
    left = left[:, singular > singular[0] * 1e-6]
    shares = np.zeros(content.y.shape[1])
    for column in range(len(shares)):
        labels = content.y[rows, column]
        if np.isfinite(labels).all():
            shares[column] = ((_beyond(basis, labels[None])[0] @ left) ** 2).sum()
    return shares


def _basis(composition: np.ndarray) -> np.ndarray:
    """Orthonormal functions of the composition, [n, K]: counts, and their products where molecules abound."""
    counts = composition / np.maximum(composition.max(axis=0), 1)
    columns = [np.ones(len(counts)), *counts.T]
    if len(counts) > ABOUND * counts.shape[1] ** 2:
        first, second = np.triu_indices(counts.shape[1])
        columns += [*(counts[:, first] * counts[:, second]).T]
    basis, singular, _ = np.linalg.svd(np.column_stack(columns), full_matrices=False)
    return basis[:, singular > singular[0] * 1e-10]


def _beyond(basis: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Residuals of columns, [C, n], after a fit on a basis, scaled to norm 1; 0 where nothing is left."""
    columns = columns - columns.mean(axis=1, keepdims=True)
    before = np.linalg.norm(columns, axis=1, keepdims=True)
    for _ in range(2):  # twice: once leaves rounding of the size of what is left of an energy
        columns = columns - (columns @ basis) @ basis.T
    after = np.linalg.norm(columns, axis=1, keepdims=True)
    return np.where(after > 1e-9 * before, columns / np.maximum(after, 1e-300), 0.0)
