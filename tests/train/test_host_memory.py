"""Host memory that a step frees is there for the next step."""

from __future__ import annotations

import sys

import pytest
from command_line import Started

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="settings of glibc")


@pytest.mark.parametrize("stage", [0, 1])
def test_freed_blocks_are_kept_at_stage_0_alone(stage):
    process = Started("host_faults", (stage,))
    assert process.wait() == 0, process.output()
    faults, pages = int(process.texts()[0].splitlines()[-1]), 5 * 48_000_000 // 4096
    assert faults < pages / 100 if stage == 0 else faults > pages / 2
