"""mmgnn_dist: train models that read a molecule twice, as a 3D graph and as text.

import mmgnn_dist
model = mmgnn_dist.load("runs/mine")      # or a folder made by 'mmgnn export'
model.predict(["CCO", "c1ccccc1"])        # one row a molecule, as an Arrow table
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mmgnn_dist.version import __version__

if TYPE_CHECKING:
    from mmgnn_dist.api.model import TrainedModel as Model
    from mmgnn_dist.api.model import load_model as load
    from mmgnn_dist.api.pyg import MoleculeDataset, to_pyg
    from mmgnn_dist.api.verbs import evaluate_model, prepare_data, study_models, train_model
    from mmgnn_dist.errors import UserError

__all__ = [
    "Model",
    "MoleculeDataset",
    "UserError",
    "__version__",
    "evaluate_model",
    "load",
    "prepare_data",
    "study_models",
    "to_pyg",
    "train_model",
]

_PLACES = {
    "Model": ("api.model", "TrainedModel"),
    "MoleculeDataset": ("api.pyg", "MoleculeDataset"),
    "UserError": ("errors", "UserError"),
    "evaluate_model": ("api.verbs", "evaluate_model"),
    "load": ("api.model", "load_model"),
    "prepare_data": ("api.verbs", "prepare_data"),
    "study_models": ("api.verbs", "study_models"),
    "to_pyg": ("api.pyg", "to_pyg"),
    "train_model": ("api.verbs", "train_model"),
}


def __getattr__(name: str) -> Any:
    """Import the Python door when it is used: `import mmgnn_dist` loads nothing heavy."""
    if name in _PLACES:
        module, inner = _PLACES[name]
        return getattr(import_module(f"mmgnn_dist.{module}"), inner)
    raise AttributeError(f"module 'mmgnn_dist' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
