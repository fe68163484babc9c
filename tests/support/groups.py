"""Which tests run one after the other on one worker when pytest-xdist shares a run out.

The tests of the cluster are one group, since one dev cluster serves them all. They wait more than they
compute, so they come first. Every other file is a group of its own, so that its fixtures are made once; the
areas with the longest files come before the others. The names of pytest-xdist's own groups (`xdist_group`) do
not reach its scheduler under pytest 9.2, so the groups follow from the path alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    import pytest

CLUSTER = "tests/cluster/"
FIRST = (
    CLUSTER,
    "tests/docs/",
    "tests/train/",
    "tests/study/",
    "tests/sweep/",
    "tests/data/",
    "tests/models/",
)


def group_of(nodeid: str) -> str:
    """The group of a test.

    Args:
        nodeid: of the test, its file first, relative to the project's root.
    """
    file = nodeid.partition("::")[0]
    return CLUSTER if file.startswith(CLUSTER) else file


def long_groups_first(items: list[pytest.Item]) -> None:
    """Sort tests by area.

    Args:
        items: the tests, in the order of their files; changed in place.
    """
    rank = {area: place for place, area in enumerate(FIRST)}
    items.sort(
        key=lambda item: min(
            (p for area, p in rank.items() if item.nodeid.startswith(area)), default=len(rank)
        )
    )


class GroupScheduling(LoadScopeScheduling):
    """Hand out whole groups."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
