"""mmgnn_dist: train models that read a molecule twice, as a 3D graph and as text.

import mmgnn_dist
model = mmgnn_dist.load("runs/mine")      # or a folder made by 'mmgnn export'
model.predict(["CCO", "c1ccccc1"])        # one row a molecule, as an Arrow table
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmgnn_dist.version import __version__

if TYPE_CHECKING:
    from mmgnn_dist.api.model import Model, load

__all__ = ["Model", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """Import the Python door when it is used: `import mmgnn_dist` loads nothing heavy."""
    if name in ("Model", "load"):
        from mmgnn_dist.api import model

        return getattr(model, name)
    raise AttributeError(f"module 'mmgnn_dist' has no attribute '{name}'")
