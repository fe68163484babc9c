"""What the parts of a split have in common, or by what they differ, beyond the molecules themselves."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator

import numpy as np

from mmgnn_dist.data.inspect.leaks.content import SYNONYM_SEPARATOR, Content
from mmgnn_dist.data.inspect.leaks.copies import geometry_copies
from mmgnn_dist.data.inspect.leaks.finding import AuditFinding, Severity, first_examples
from mmgnn_dist.data.inspect.leaks.near_text import near_equal_texts
from mmgnn_dist.data.shardset.groups import string_hashes, structures
from mmgnn_dist.data.shardset.splits import PARTS, load_split, split_folds, split_info

COPY_KIND = "geometry in two parts"
TEXT_KIND = "near-equal texts in two parts"
ID_KIND = "ids of one molecule in two parts"
ORIGIN_KIND = "parts differ in their source"
LABEL_KIND = "parts differ in their labels"
DRAWN = ("random", "kfold", "replicates")  # kinds of split whose parts are alike
SIGMA = 8.0  # standard errors by which parts have to differ
DIFFERENCE = 0.1  # of a share
SHIFT = 0.5  # of a standard deviation
SHARED_TEXTS = 0.002  # share of molecules whose text another one may have, since databases are not exact
FEW_TEXTS = 2  # the same, in molecules
SUFFIX = re.compile(r"[-_.]\d{1,3}$")  # number of a conformer in an id
_MARKS = re.compile(r"\d+")


def leaks_between_parts(content: Content, splits: list[str]) -> Iterator[AuditFinding]:
    """Yield the findings of each split, each kind and place once: for the fold where it is most."""
    copies = geometry_copies(content)
    texts = {name: near_equal_texts(words) for name, words in content.prose.items() if name != "synonyms"}
    if names := content.prose.get("synonyms"):
        texts["synonyms"] = near_equal_texts(
            [SYNONYM_SEPARATOR.join(sorted(one.split(SYNONYM_SEPARATOR))) for one in names]
        )
    known = string_hashes(structures(content.shards))
    other = {
        name: pairs[(known[pairs[:, 0]] != known[pairs[:, 1]]) | (known[pairs[:, 0]] == 0)]
        for name, pairs in texts.items()
    }
    ids, traits = _id_pairs(content, known == 0), list(_traits(content))
    for split in splits:
        found: dict[tuple[str, str], AuditFinding] = {}
        for fold in range(split_folds(content.shards, split)):
            part = np.full(len(content.sizes), -1, np.int8)  # in no part of this fold
            for place, rows in enumerate(load_split(content.shards, split, fold)[name] for name in PARTS):
                part[rows] = place
            findings = [*_pairs(content, split, part, copies, other, ids)]
            if split_info(content.shards, split).get("kind", DRAWN[0]) in DRAWN:
                findings += _differences(content, split, part, traits)
            for finding in findings:
                key = finding.kind, finding.where
                if key not in found or found[key].count < finding.count:
                    found[key] = finding
        yield from found.values()


def _pairs(
    content: Content,
    split: str,
    part: np.ndarray,
    copies: np.ndarray,
    texts: dict[str, np.ndarray],
    ids: np.ndarray,
) -> Iterator[AuditFinding]:
    where = f"split {split}"
    yield from _crossing(
        content, COPY_KIND, where, part, copies, 0, "put copies into one part or remove them"
    )
    for field, pairs in texts.items():
        most = max(FEW_TEXTS, int(SHARED_TEXTS * sum(map(bool, content.texts[field]))))
        advice = "see whether they are one molecule: put them into one part"
        yield from _crossing(content, TEXT_KIND, f"{field} in {where}", part, pairs, most, advice)
    advice = "make the split by 'mmgnn data split' with SMILES or InChIKeys, which keep conformers together"
    yield from _crossing(content, ID_KIND, where, part, ids, 0, advice, "doubt")


def _crossing(
    content: Content,
    kind: str,
    where: str,
    part: np.ndarray,
    pairs: np.ndarray,
    most: int,
    advice: str,
    severity: Severity = "leak",
) -> Iterator[AuditFinding]:
    """Yield a finding if more than `most` molecules of a later part pair with one of an earlier part."""
    first, second = part[pairs[:, 0]], part[pairs[:, 1]]
    across = pairs[(first != second) & (np.minimum(first, second) >= 0)]
    later = np.where(part[across[:, 0]] > part[across[:, 1]], across[:, 0], across[:, 1])
    rows = np.unique(later)
    if len(rows) > most:
        names = (f"{content.ids[one]} = {content.ids[other]}" for one, other in across.tolist())
        yield AuditFinding(
            kind, severity, where, len(rows), int((part > 0).sum()), first_examples(names), advice
        )


def _id_pairs(content: Content, unknown: np.ndarray) -> np.ndarray:
    """Pairs of molecules of `unknown` identity with one id but for a short number, and one composition."""
    stems: dict[str, list[int]] = {}
    for row in np.flatnonzero(unknown).tolist():
        stem = SUFFIX.sub("", str(content.ids[row])).casefold()
        stems.setdefault(stem, []).append(row)
    pairs = []
    for rows in stems.values():
        if len(rows) > 1 and (content.composition[rows] == content.composition[rows[0]]).all():
            pairs += [
                (one, other) for place, one in enumerate(rows) for other in rows[place + 1 : place + 20]
            ]
    return np.array(pairs, np.int64).reshape(-1, 2)


def _traits(content: Content) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (description, which molecules have it) of what may differ between sources."""
    for field, values in content.context.items():
        yield f"presence of {field}", np.isfinite(values)
    for field, texts in content.texts.items():
        yield f"presence of {field}", np.array([bool(text) for text in texts])
    prefixes = [_MARKS.sub("#", str(name)) for name in content.ids.tolist()]
    for prefix, _ in Counter(prefixes).most_common(5):
        yield f"ids like {prefix}", np.array([one == prefix for one in prefixes])
    sources = [
        json.loads(entry) if entry else {} for entry in content.shards.column("field_sources").to_pylist()
    ]
    for field in content.shards.text_fields:
        origins = [_MARKS.sub("#", str(entry.get(field, ""))) for entry in sources]
        for origin, _ in Counter(filter(None, origins)).most_common(3):
            yield f"{field} from '{origin[:60]}'", np.array([one == origin for one in origins])


def _differences(
    content: Content, split: str, part: np.ndarray, traits: list[tuple[str, np.ndarray]]
) -> Iterator[AuditFinding]:
    """Yield what differs between the training and the test part far beyond chance."""
    train, test = np.flatnonzero(part == 0), np.flatnonzero(part == PARTS.index("test"))
    for name, has in traits:
        shares = has[train].mean(), has[test].mean()
        whole = np.concatenate([has[train], has[test]]).mean()
        error = np.sqrt(max(whole * (1 - whole), 1e-12) * (1 / len(train) + 1 / len(test)))
        if abs(shares[0] - shares[1]) > max(DIFFERENCE, SIGMA * error):
            odd = test[has[test] != (shares[0] > shares[1])]
            where = f"{name} in split {split} ({shares[0]:.0%} of train, {shares[1]:.0%} of test)"
            yield _difference(content, ORIGIN_KIND, where, odd, len(test))
    for column, target in enumerate(content.shards.targets):
        first, second = (content.y[rows, column] for rows in (train, test))
        first, second = first[np.isfinite(first)], second[np.isfinite(second)]
        if min(len(first), len(second)) < 2:
            continue
        spread = np.sqrt((first.var() + second.var()) / 2)
        error = np.sqrt(first.var() / len(first) + second.var() / len(second))
        if abs(first.mean() - second.mean()) > max(SHIFT * spread, SIGMA * error):
            where = f"{target} in split {split} (means {first.mean():.4g} and {second.mean():.4g})"
            yield _difference(content, LABEL_KIND, where, test, len(test))


def _difference(content: Content, kind: str, where: str, rows: np.ndarray, of: int) -> AuditFinding:
    advice = "a model may learn the source instead of the molecule: split at random within each source"
    return AuditFinding(kind, "doubt", where, len(rows), of, first_examples(content.ids[rows]), advice)
