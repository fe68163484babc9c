"""Fixtures for the tests of models."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def double():
    """Build in float64: constants such as the width of the Gaussians are worked out while building."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
