"""Read-out and scale: fused atom vectors -> targets in their units.

The form of the read-out follows the physics of the target (`chem/targets.py` sets it; the recipe can override
it). With s_i, a_i, q_i linear in one hidden layer of atom i, in scaled units:

    sum             sum_i s_i
    mean            mean_i s_i
    attention       sum_i w_i s_i,  w = softmax of a over the atoms of the molecule
    dipole          mean_i s_i + |sum_i (q_i - mean q) r_i|      neutral atom charges as in PhysNet
    dipole_vectors  mean_i s_i + |sum_i (q_i - mean q) r_i + sum_c p_ic v_ic|
    dipole_norm     |sum_i (q_i - mean q) r_i + sum_c p_ic v_ic|       without v if there are no vectors
    r2              sum_i s_i + sum_i q_i |r_i - r_c|^2          r_c the centre of mass

`dipole_vectors` adds atomic dipoles from the vectors v_ic of the backbone, as PaiNN does (Schütt, Unke,
Gastegger 2021, arXiv 2102.03150). `dipole_norm` is the norm alone, as there: the scaler adds no mean to it.
It is never negative, and zero where symmetry forbids a dipole. r2 is SchNetPack's form of the electronic
spatial extent (ElectronicSpatialExtent, also used by PaiNN), plus a term for the extent of the atoms
themselves. All s, a, p and the q of r2 start at zero: training starts at the prediction of mean and
references, and attention starts as the mean. `Scaler` holds the values fitted on the training part and
converts scaled values to target units, in float64 (float32 has too few digits for energies near -1e4 eV):

    extensive   y = std * s + sum_i reference[z_i]           least squares on composition
    r2          y = std * s + sum_i (reference[z_i] + extent[z_i] |r_i - r_c|^2)
    others      y = std * s + mean                           mean 0 for dipole_norm

Dipole and r2 read the positions even in a model of text alone; only its learned part ignores them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from mmgnn_dist.chem.elements import MASSES
from mmgnn_dist.models.graph import Graph, sum_molecules
from mmgnn_dist.models.heads import Heads
from mmgnn_dist.models.readout_forms import attention_weights, dipole_norms, squared_distances

FORMS = frozenset({"sum", "mean", "attention", "dipole", "dipole_vectors", "dipole_norm", "r2"})
PLACES = {
    "attended": "attention",
    "dipoles": "dipole",
    "vector_dipoles": "dipole_vectors",
    "norms": "dipole_norm",
    "extents": "r2",
}
EXTENT = 10.0  # Å^2, squared distance of a typical atom: gives both terms of r2 the same scale


class ReadOut(nn.Module):
    """Read-out: fused atom vectors [N, H] -> scaled targets [B, T].

    Args:
        width: H, the width of the atom vectors.
        forms: one form per target: sum, mean, attention, dipole, dipole_vectors, dipole_norm or r2.
        dropout: dropout between the layers.
        vectors: number of equivariant vectors per atom, for dipole_vectors and dipole_norm.
    """

    summed: Tensor
    masses: Tensor
    attended: Tensor
    dipoles: Tensor
    vector_dipoles: Tensor
    norms: Tensor
    extents: Tensor

    def __init__(self, width: int, forms: Sequence[str], dropout: float, vectors: int = 0) -> None:
        super().__init__()
        if not FORMS.issuperset(forms):
            raise ValueError(f"read-outs {list(forms)}: each is one of {sorted(FORMS)}")
        self.hidden = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Dropout(dropout))
        self.contribution = _from_zero(width, len(forms))
        summed = torch.tensor([form in ("sum", "r2") for form in forms])
        self.register_buffer("summed", summed, persistent=False)
        self.register_buffer("masses", torch.tensor(MASSES), persistent=False)
        for name, form in PLACES.items():
            places = torch.tensor(
                [i for i, target_form in enumerate(forms) if target_form == form], dtype=torch.int64
            )
            self.register_buffer(name, places, persistent=False)
        if len(self.dipoles):
            # does not start at zero: the norm has no gradient if every charge vanishes
            self.charge = nn.Linear(width, len(self.dipoles))
        if len(self.vector_dipoles):
            if not vectors:
                raise ValueError("dipole_vectors needs a backbone with vectors")
            self.vector_charge = nn.Linear(width, len(self.vector_dipoles))
            self.moment = _from_zero(width, len(self.vector_dipoles) * vectors)
        if len(self.norms):
            self.norm_charge = nn.Linear(width, len(self.norms))
            self.norm_moment = _from_zero(width, len(self.norms) * vectors) if vectors else None
        if len(self.attended):
            self.score = _from_zero(width, len(self.attended))
        if len(self.extents):
            self.density = _from_zero(width, len(self.extents))

    def forward(self, atoms: Tensor, graph: Graph, vectors: Tensor | None = None) -> Tensor:
        """Compute the scaled targets.

        Args:
            atoms: fused atom vectors [N, H].
            graph: the batch.
            vectors: vectors of the backbone [N, 3, V] for dipole_vectors; None if it has none.

        Returns:
            Scaled targets [B, T].
        """
        hidden = self.hidden(atoms)
        contribution = self.contribution(hidden)
        total = sum_molecules(contribution, graph)
        counts = (graph.ptr[1:] - graph.ptr[:-1]).unsqueeze(-1)
        out = torch.where(self.summed, total, total / counts)
        if len(self.attended):
            weights = attention_weights(self.score(hidden), graph)
            attended = contribution.index_select(1, self.attended)
            out = out.index_copy(1, self.attended, sum_molecules(weights * attended, graph))
        if len(self.dipoles):
            out = out.index_add(1, self.dipoles, dipole_norms(self.charge(hidden), graph))
        if len(self.vector_dipoles):
            moments = _moments(self.moment(hidden), vectors, len(self.vector_dipoles))
            norms = dipole_norms(self.vector_charge(hidden), graph, moments)
            out = out.index_add(1, self.vector_dipoles, norms)
        if len(self.norms):
            layer = self.norm_moment
            added = None if layer is None else _moments(layer(hidden), vectors, len(self.norms))
            norms = dipole_norms(self.norm_charge(hidden), graph, added, from_zero=True)
            out = out.index_copy(1, self.norms, norms)
        if len(self.extents):
            distances = squared_distances(graph, self.masses) / EXTENT
            out = out.index_add(1, self.extents, sum_molecules(self.density(hidden) * distances, graph))
        return out


@cache
def _exact_masses(device: torch.device) -> Tensor:
    """Masses of the elements, float64 [119], copied to a device once."""
    return torch.tensor(MASSES, dtype=torch.float64, device=device)


def _moments(weights: Tensor, vectors: Tensor | None, count: int) -> Tensor:
    """Atomic dipoles [N, K, 3] from weights [N, K * V] and the vectors [N, 3, V] of the backbone."""
    weights = weights.unflatten(1, (count, -1))
    if vectors is None:  # a model of text alone has no vectors, but the same parameters
        vectors = weights.new_zeros(len(weights), 3, weights.shape[-1])
    return torch.einsum("nkv,nxv->nkx", weights, vectors)


def _from_zero(inward: int, outward: int) -> nn.Linear:
    """A linear layer that starts at zero."""
    layer = nn.Linear(inward, outward)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


@dataclass
class Scaler:
    """Scale, mean and references of T targets, float64.

    Attributes:
        std: scale of each target [T].
        mean: mean of each target [T], zero for targets with references and for a dipole_norm.
        reference: reference of each element [119, T], zero for targets without references.
        extent: factor of each element per Å^2 from the centre of mass [119, T], zero except for r2.
    """

    std: Tensor
    mean: Tensor
    reference: Tensor
    extent: Tensor

    def to(self, device: torch.device) -> Scaler:
        """Copy the scaler to a device."""
        return Scaler(*(value.to(device) for value in vars(self).values()))

    def of_targets(self, heads: Heads) -> Scaler:
        """Scaler of T targets, with the labels of classes left as they are."""
        places = [heads.outputs(place).start for place in range(len(heads.classes))]
        scaler = Scaler(*(value[..., places].clone() for value in vars(self).values()))
        for place in heads.classed:
            scaler.mean[place] = 0.0
        return scaler

    def offset(self, graph: Graph) -> Tensor:
        """Offset of the prediction: mean and summed references, float64 [B, T]."""
        exact = Graph(graph.z, graph.pos.double(), graph.ptr, graph.molecule)
        masses = _exact_masses(graph.z.device)
        contributions = self.reference[graph.z] + self.extent[graph.z] * squared_distances(exact, masses)
        return self.mean + sum_molecules(contributions, graph)

    def scaled(self, y: Tensor, graph: Graph) -> Tensor:
        """Scale targets: in target units, float64 [B, T] -> scaled, float32 [B, T]."""
        return ((y - self.offset(graph)) / self.std).float()

    def units(self, scaled: Tensor, graph: Graph) -> Tensor:
        """Convert scaled targets [B, T] to target units, float64 [B, T]."""
        return scaled.double() * self.std + self.offset(graph)
