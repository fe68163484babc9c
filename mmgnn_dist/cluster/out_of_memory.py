"""Whether the kernel's out-of-memory killer ended a process of this cgroup; signal 9 alone does not say."""

from __future__ import annotations

import re
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def oom_kills(of: str = "self") -> int:
    """Count the processes of a cgroup that the out-of-memory killer has ended, at its limit or not.

    Args:
        of: process whose cgroup it is.

    Returns:
        The count of `memory.events` (cgroup v2) or `memory.oom_control` (v1), 0 where there is neither.
    """
    for line in Path(f"/proc/{of}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            files = [CGROUPS / "memory" / path.lstrip("/") / "memory.oom_control"]
        elif not controllers:
            files = [place / path.lstrip("/") / "memory.events" for place in (CGROUPS, CGROUPS / "unified")]
        else:
            continue
        for file in files:
            if file.is_file() and (count := re.search(r"^oom_kill (\d+)$", file.read_text(), re.M)):
                return int(count[1])
    return 0
