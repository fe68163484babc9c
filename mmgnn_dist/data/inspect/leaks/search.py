"""All searches for leaks in a shard set and its splits."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mmgnn_dist.data.inspect.leaks import explained, labels, parts, stated, structure
from mmgnn_dist.data.inspect.leaks.content import Content
from mmgnn_dist.data.inspect.leaks.finding import AuditFinding
from mmgnn_dist.data.shardset.shards import ShardSet

KINDS = (
    stated.KIND,
    explained.KIND,
    explained.WORD_KIND,
    labels.FEW_KIND,
    labels.SHARED_KIND,
    structure.KIND,
    structure.IDENTITY_KIND,
    parts.COPY_KIND,
    parts.TEXT_KIND,
    parts.ID_KIND,
    parts.ORIGIN_KIND,
    parts.LABEL_KIND,
)
SEARCHES: tuple[Callable[[Content], Iterator[AuditFinding]], ...] = (
    stated.stated_labels,
    explained.explained_labels,
    explained.telling_words,
    labels.repeated_labels,
    structure.contradicted_structures,
)


def search_leaks(shards: ShardSet, splits: list[str]) -> list[AuditFinding]:
    """Return what a shard set and some of its splits leak, the gravest first.

    Args:
        shards: the shard set.
        splits: names of stored splits.
    """
    content = Content(shards)
    found = [finding for search in SEARCHES for finding in search(content)]
    found += parts.leaks_between_parts(content, splits)
    return sorted(found, key=lambda finding: ("leak", "fault", "doubt").index(finding.severity))
