"""A trained model for one molecule that moves: values and gradients as functions of its positions.

The molecule is prepared once, as `mmgnn predict` prepares it, and so is its text; then only graph, fusion
and read-out are computed, with the smooth form of every radial function, not its table.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mmgnn_dist.models.fused import FusedModel
from mmgnn_dist.models.fusions.base import TextSide
from mmgnn_dist.models.graph import Graph
from mmgnn_dist.models.heads import Heads
from mmgnn_dist.models.readout import ReadOut, Scaler
from mmgnn_dist.predict.preparation import Asked, prepare_molecules
from mmgnn_dist.progress import Progress
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.train.checkpoint.export import load_export
from mmgnn_dist.train.ranks import init_distributed
from mmgnn_dist.train.text_data import open_text_data

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Surface:
    """Values of a molecule at some positions.

    Attributes:
        value: one target in its unit.
        gradient: its derivative with respect to the positions, per Å, float64 [N, 3].
        dipole: dipole moment in the unit of its target, float64 [3]; None if none is asked for.
    """

    value: float
    gradient: np.ndarray
    dipole: np.ndarray | None


class FixedMolecule:
    """A trained model for one molecule whose positions change.

    Args:
        run: run directory, or a folder made by `mmgnn export`.
        source: a file of the molecule, as for `mmgnn data prepare`.
        folder: folder for temporary files, no longer needed when the object is made.
        dtype: number type of the graph, the fusion and the read-out.

    Raises:
        UserError: the model cannot be read, or the molecule is none that it can predict.
    """

    def __init__(self, run: Path, source: str, folder: Path, dtype: torch.dtype = torch.float64) -> None:
        with Progress("molecule", quiet=True) as progress:
            inputs = prepare_molecules(run, [source], folder, Asked(quiet=True), progress)
            ranks = init_distributed(inputs.recipe.train.threads)
            text = open_text_data(inputs, ranks, progress)
        model, scaler, _ = load_export(RunDir(run), inputs.recipe, inputs.forms, text.source)
        (step,) = inputs.ordered("test", text.tokens, ranks).epoch(0)
        (batch,) = step.micro
        vectors = text.embeddings.of(batch.rows) if text.embeddings else None
        self.batch = batch.cloned()
        with torch.no_grad():
            side = model.text_side(self.batch, vectors)
        self.side = _cast(side, dtype)
        self.model = _cast_graph_path(model, dtype)
        self.scaler: Scaler = scaler
        self.heads: Heads = inputs.heads
        self.targets = list(inputs.recipe.targets)
        self.dtype = dtype

    def at(self, positions: np.ndarray, target: str, dipole: str | None = None) -> Surface:
        """Compute a target, its gradient and a dipole at some positions.

        Args:
            positions: in Å, [N, 3], atoms in the order of the molecule.
            target: name of a target that is a number.
            dipole: name of a target whose read-out has a dipole vector; None for no dipole.
        """
        pos = torch.as_tensor(positions, dtype=self.dtype).clone().requires_grad_()
        read: list[tuple[Tensor, Graph, Tensor | None]] = []
        hook = self.model.readout.register_forward_pre_hook(lambda _, inputs: read.append(inputs))
        try:
            scaled, _ = self.model(replace(self.batch, pos=pos), side=self.side)
        finally:
            hook.remove()
        (inputs,) = read
        units = self.scaler.units(scaled, inputs[1])
        value = units[0, self._output(target)]
        (gradient,) = torch.autograd.grad(value, pos, retain_graph=dipole is not None)
        moment = None if dipole is None else self._dipole(dipole, units, inputs)
        return Surface(float(value.detach()), gradient.double().numpy(), moment)

    def _dipole(
        self, target: str, units: Tensor, inputs: tuple[Tensor, Graph, Tensor | None]
    ) -> np.ndarray | None:
        """The vector of the charges, with the length that the model predicts."""
        output = self._output(target)
        if not isinstance(self.model.readout, ReadOut):
            return None
        vector = self.model.readout.dipole_vector(output, *inputs)
        if vector is None:
            return None
        direction = vector[0].detach().double()
        length = direction.norm().clamp(min=torch.finfo(torch.float64).tiny)
        return (direction / length * units[0, output].detach()).numpy()

    def _output(self, target: str) -> int:
        return self.heads.outputs(self.targets.index(target)).start


def _cast(side: TextSide, dtype: torch.dtype) -> TextSide:
    values = {field.name: getattr(side, field.name) for field in fields(side)}
    floating = (name for name, value in values.items() if value is not None and value.is_floating_point())
    return replace(side, **{name: values[name].to(dtype) for name in floating})


def _cast_graph_path(model: FusedModel, dtype: torch.dtype) -> FusedModel:
    """Change the type of the parts that depend on the positions; the text is computed already."""
    parts: list[nn.Module | None] = [model.backbone, model.fusion, model.readout]
    for part in parts:
        if part is not None:
            part.to(dtype)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model
