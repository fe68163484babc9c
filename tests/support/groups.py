"""Which tests run one after the other when pytest-xdist shares a run out among workers.

The files of the dev cluster are one group, since a machine has one cluster at a time. They wait more than
they compute, so they come first, on one worker. The files that prepare with Ray are a group, so that one Ray
serves them. Every other file is a group of its own, so that what it trains once is trained once.
"""

from __future__ import annotations

import pytest


def needs(item: pytest.Item) -> set[str]:
    """The groups that a test asks for."""
    fixtures = getattr(item, "fixturenames", ())
    asked = {"slurm"} if "cluster" in fixtures or item.get_closest_marker("slurm") else set()
    return asked | ({"ray"} if "ray_once" in fixtures else set())


def share_out(items: list[pytest.Item]) -> None:
    """Give each test its group, by its file, and put the long groups in front.

    Args:
        items: the tests, in the order of their files; changed in place.
    """
    asked: dict[object, set[str]] = {}
    for item in items:
        asked.setdefault(item.path, set()).update(needs(item))
    for item in items:
        named = [name for name in ("slurm", "ray") if name in asked[item.path]]
        item.add_marker(pytest.mark.xdist_group(name=named[0] if named else item.nodeid.partition("::")[0]))
    rank = {"slurm": 0, "ray": 1}
    items.sort(key=lambda item: rank.get(item.get_closest_marker("xdist_group").kwargs["name"], 2))
