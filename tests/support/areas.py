"""Where the time of a test run goes, by area, and a limit for each area.

An area is a folder of `tests/`. With `--budgets FILE` a run ends with a table of every area's wall time and
processor time, and fails when an area takes more than half as much again as the file allows it. A budget is
processor time (`cpu`, s, of the tests' process and of all that descends from it) where that can be seen: it
does not grow on a busy machine. It is wall time (`wall`, s) where daemons do the work, which descend from
nobody. With pytest-xdist each worker counts its own tests, and the process that reports adds them up.
"""

from __future__ import annotations

import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

TOLERANCE = 1.5  # times its budget that an area may take


class Spent(NamedTuple):
    """What tests took, in seconds."""

    wall: float
    cpu: float


def processor_seconds() -> float:
    """Processor time of this process and of all its descendants, those that ended included."""
    me = psutil.Process()
    seconds = 0.0
    for process in (me, *me.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        seconds += times.user + times.system + times.children_user + times.children_system
    return seconds


def area_of(nodeid: str) -> str:
    """The folder of `tests/` that a test is in; `tests` for a file of its own."""
    folders = nodeid.partition("::")[0].split("/")[:-1]
    return "/".join(folders[:2])


def added(one: dict[str, Spent], other: dict[str, Spent]) -> dict[str, Spent]:
    """The sums of two tables."""
    none = Spent(0, 0)
    return {
        area: Spent(*map(sum, zip(one.get(area, none), other.get(area, none), strict=True)))
        for area in one | other
    }


def over_budget(spent: dict[str, Spent], budgets: dict[str, dict[str, float]]) -> list[str]:
    """A line for each area that passed its budget by more than half, or that has none."""
    lines = []
    for area, took in sorted(spent.items()):
        if area not in budgets:
            lines.append(f"{area} has no budget: give it one")
            continue
        ((kind, limit),) = budgets[area].items()
        seconds = getattr(took, kind)
        if seconds > TOLERANCE * limit:
            lines.append(
                f"{area} took {seconds:.0f} s of {kind} time, its budget is {limit:.0f} s: "
                "make its tests cheaper, or raise its budget with a reason"
            )
    return lines


class AreaClock:
    """The plugin: counts where tests run, adds up and judges where the run is reported.

    Args:
        budgets: the TOML file: a table for each area, with one key, `cpu` or `wall`, in seconds.
    """

    def __init__(self, budgets: Path) -> None:
        self.budgets = tomllib.loads(budgets.read_text())
        self.spent: dict[str, Spent] = {}
        self._mark = Spent(time.perf_counter(), processor_seconds())

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
        """Read the clocks where one area ends and another begins."""
        done = yield
        area = area_of(item.nodeid)
        if nextitem is None or area_of(nextitem.nodeid) != area:
            now = Spent(time.perf_counter(), processor_seconds())
            took = Spent(*(max(0.0, b - a) for a, b in zip(self._mark, now, strict=True)))
            self.spent, self._mark = added(self.spent, {area: took}), now
        return done

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object) -> None:
        """Take what a worker of pytest-xdist counted."""
        counted = getattr(node, "workeroutput", {}).get("areas", {})
        self.spent = added(self.spent, {area: Spent(*took) for area, took in counted.items()})

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Hand over what was counted, or fail a run that took too long."""
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["areas"] = {area: list(took) for area, took in self.spent.items()}
        elif session.exitstatus == pytest.ExitCode.OK and over_budget(self.spent, self.budgets):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table, and the areas that took too long."""
        say = terminalreporter
        say.section("minutes by area")
        say.write_line(f"{'area':24}{'wall':>8}{'cpu':>8}{'budget':>14}")
        for area, took in sorted(self.spent.items(), key=lambda entry: -entry[1].wall):
            budget = "".join(f"{s / 60:.1f} {kind}" for kind, s in self.budgets.get(area, {}).items())
            say.write_line(f"{area:24}{took.wall / 60:8.1f}{took.cpu / 60:8.1f}{budget:>14}")
        for line in over_budget(self.spent, self.budgets):
            say.write_line(line, red=True)
