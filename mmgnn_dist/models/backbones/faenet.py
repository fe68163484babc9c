"""FAENet: a network on raw edge vectors, made invariant by frame averaging.

Duval, Schmidt, Hernández-García, Miret, Malliaros, Bengio, Rolnick: "FAENet: Frame Averaging Equivariant
GNN for Materials Modeling", ICML 2023 (arXiv 2305.05577), as in the authors' code. In each frame, with
r = x_j - x_i and rbf(d) Gaussians of the distance, act = SiLU:

    e_ij  = act Lin act [Lin r ; Lin rbf(d)]                     edge embedding
    h_i   = act Lin act Lin [element ; properties ; period ; group]
    f_ij  = act Lin [e_ij ; h_j ; h_i]                           filter
    m_i   = act Lin act norm sum_j act(Lin h_j) * f_ij           message
    h_i  += m_i, or act Lin m_i                                  `update_layers` 1 or 2

`frames: full` averages the atom vectors over the 8 frames of a molecule. This makes them invariant to
rotation and reflection (`frame_averaging.py` says what happens if the axes are not unique). `stochastic`
draws one frame per molecule in training and averages over all frames in evaluation. `none` reads the raw
coordinates and is not invariant. The authors average the outputs of their head instead of atom vectors.

The norm is PyG's GraphNorm over the atoms of one molecule. The authors call it without the batch vector: it
then runs over all atoms of the batch, and the output of a molecule depends on the rest of the batch.

`skip: concat` reads all layers: a linear map takes the concatenated vectors of the layers to one atom
vector. The authors instead feed the h of each layer to one shared head and mix its outputs. There is no
limit on the number of neighbours. In the published form the output jumps when a pair crosses the cutoff;
`envelope: polynomial` multiplies f_ij by an envelope.
"""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import silu
from torch_geometric.nn.models.schnet import GaussianSmearing

from mmgnn_dist.config import ELEMENT_PROPERTIES, FAENetConfig
from mmgnn_dist.models.backbones.base import ELEMENTS, AtomFeatures, Backbone
from mmgnn_dist.models.backbones.frame_averaging import in_frames
from mmgnn_dist.models.backbones.radial import polynomial_envelope
from mmgnn_dist.models.graph import Graph, pairs_within

PERIODS, GROUPS = 8, 20  # 0 unused; group 19: elements without one (lanthanides, actinides)
NORMALISED_BY = 85  # mean 0 and deviation 1 over this many first elements, as in the authors' code


def element_table() -> tuple[Tensor, Tensor, Tensor]:
    """Read the periods, groups and scaled properties of the elements from `element_properties.csv`.

    The table has the columns of mendeleev 0.14.0 (MIT) that FAENet's authors read: radii in pm, volume in
    cm3/mol, density in g/cm3, polarizability in a0^3, energies in eV.

    Returns:
        period, group: int64 [119].
        properties: float64 [119, 14], 0 where the table has a gap.
    """
    text = (files("mmgnn_dist.models") / "element_properties.csv").read_text(encoding="utf-8")
    table = np.genfromtxt(text.splitlines(), delimiter=",", skip_header=1)
    period, group = torch.zeros(2, ELEMENTS, dtype=torch.int64)
    period[1:] = torch.from_numpy(table[:, 1])
    group[1:] = torch.from_numpy(np.nan_to_num(table[:, 2], nan=GROUPS - 1))
    values, first_elements = table[:, 3:], table[:NORMALISED_BY, 3:]
    scaled = (values - np.nanmean(first_elements, 0)) / np.nanstd(first_elements, 0, ddof=1)
    properties = torch.zeros(ELEMENTS, ELEMENT_PROPERTIES, dtype=torch.float64)
    properties[1:] = torch.from_numpy(np.nan_to_num(scaled))
    return period, group, properties


class ElementEmbedding(nn.Module):
    """Embedding of elements: atomic numbers z [N] -> vectors [N, H]."""

    properties: Tensor | None
    period_of: Tensor
    group_of: Tensor

    def __init__(self, config: FAENetConfig) -> None:
        super().__init__()
        period, group, properties = element_table()
        width = config.hidden - 2 * config.period_group
        if config.properties:
            width -= ELEMENT_PROPERTIES
        # kept in float64 and cast in the forward pass, as the module may be cast to float64
        self.register_buffer("properties", properties if config.properties else None, persistent=False)
        self.own = nn.Embedding(ELEMENTS, width)
        self.with_groups = config.period_group > 0
        if self.with_groups:
            self.register_buffer("period_of", period, persistent=False)
            self.register_buffer("group_of", group, persistent=False)
            self.period = nn.Embedding(PERIODS, config.period_group)
            self.group = nn.Embedding(GROUPS, config.period_group)
        self.layers = nn.Sequential(
            nn.Linear(config.hidden, config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, config.hidden),
            nn.SiLU(),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Embed the elements of the atoms."""
        parts = [self.own(z)]
        if self.properties is not None:
            parts.append(self.properties[z].to(parts[0].dtype))
        if self.with_groups:
            parts += [self.period(self.period_of[z]), self.group(self.group_of[z])]
        return self.layers(torch.cat(parts, -1))


class MoleculeNorm(nn.Module):
    """GraphNorm (Cai et al. 2020, arXiv 2009.03294) over the atoms of each molecule, then SiLU.

    [F, N, K] -> [F, N, K]. For a molecule of one atom the result does not depend on the message.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.mean_scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """Normalise each channel, separately in each frame."""
        shifted = x - self.mean_scale * _mean(x, graph)
        return silu(self.weight * shifted / (_mean(shifted.square(), graph) + 1e-5).sqrt() + self.bias)


def _mean(x: Tensor, graph: Graph) -> Tensor:
    """Mean over the atoms of each molecule, repeated for each of its atoms: [F, N, K]."""
    counts = (graph.ptr[1:] - graph.ptr[:-1]).unsqueeze(-1)
    total = x.new_zeros(x.shape[0], graph.size, x.shape[2]).index_add(1, graph.molecule, x)
    return (total / counts).index_select(1, graph.molecule)


def in_both_directions(values: Tensor, edges: int) -> Tensor:
    """Values of the edges j -> i, [F, P, K] -> those of all edges, [F, 2P, K], if these are not all already.

    An edge that is turned round has the opposite vector, which is its own in the frame with all signs
    changed: of the 8 frames of `signs` the last but f is opposite to frame f.
    """
    return values if values.shape[1] == edges else torch.cat([values, values.flip(0)], 1)


class EdgeFilter(nn.Linear):
    """Lin [e; h_j; h_i] of the edges in three parts; the two atom parts are computed once per atom."""

    def __init__(self, hidden: int, filters: int) -> None:
        super().__init__(filters + 2 * hidden, filters)
        self.parts = [filters, hidden, hidden]

    def forward(  # type: ignore[override]
        self, edge: Tensor, h: Tensor, source: Tensor, receiver: Tensor
    ) -> Tensor:
        """Apply the map: edges [F, E, K] or [F, E / 2, K], atoms [F, N, H] -> [F, E, K]."""
        of_edge, of_source, of_receiver = self.weight.split(self.parts, 1)
        return (
            in_both_directions(edge @ of_edge.T, len(source))
            + (h @ of_source.T).index_select(1, source)
            + (h @ of_receiver.T + self.bias).index_select(1, receiver)
        )


class FAENetInteraction(nn.Module):
    """Interaction block: atom vectors h [F, N, H] -> their update."""

    def __init__(self, config: FAENetConfig) -> None:
        super().__init__()
        hidden, filters = config.hidden, config.filters
        self.filter = EdgeFilter(hidden, filters)
        self.down = nn.Linear(hidden, filters)
        self.norm = MoleculeNorm(filters)
        self.up = nn.Linear(filters, hidden)
        self.update = nn.Linear(hidden, hidden) if config.update_layers == 2 else None

    def forward(
        self, h: Tensor, edge: Tensor, envelope: Tensor | None, source: Tensor, receiver: Tensor, graph: Graph
    ) -> Tensor:
        """Compute the update from messages along the edges; `edge` is the result of `FAENet.edges`."""
        weight = self.filter(edge, h, source, receiver)
        weight = silu(weight) if envelope is None else silu(weight) * envelope
        messages = silu(self.down(h)).index_select(1, source) * weight
        empty = messages.new_zeros(messages.shape[0], len(graph.z), messages.shape[2])
        gathered = empty.index_add(1, receiver, messages)
        out = silu(self.up(self.norm(gathered, graph)))
        return out if self.update is None else silu(self.update(out))


class FAENet(Backbone):
    """FAENet backbone: batch -> atom vectors [N, H].

    Args:
        config: widths, number of interactions, frames, the cutoff in Å.
    """

    directed = False

    def __init__(self, config: FAENetConfig) -> None:
        super().__init__()
        self.config = config
        self.width = self.start_width = config.hidden
        self.embedding = ElementEmbedding(config)
        self.smearing = GaussianSmearing(0.0, config.cutoff, config.gaussians)
        self.from_vector = nn.Linear(3, config.filters // 2)
        self.from_distance = nn.Linear(config.gaussians, config.filters - config.filters // 2)
        self.edge = nn.Linear(config.filters, config.filters)
        self.interactions = nn.ModuleList(FAENetInteraction(config) for _ in range(config.interactions))
        self.mix = None
        if config.skip == "concat":
            self.mix = nn.Linear((config.interactions + 1) * config.hidden, config.hidden)

    def layers(self, graph: Graph, pos: Tensor, opposite: bool = False) -> list[Tensor]:
        """Compute the atom vectors after the embedding and after each interaction, each [F, N, H].

        Args:
            graph: the batch; neighbours follow from its positions.
            pos: positions in F frames in Å, [F, N, 3].
            opposite: whether the last frame but f is the opposite of frame f, as in all 8 of `signs`.
        """
        i, j, distance = pairs_within(graph, self.config.cutoff)
        receiver, source = torch.cat([i, j]), torch.cat([j, i])
        edge = self.edges(pos, i, j, distance, opposite)
        envelope = None
        if self.config.envelope == "polynomial":
            envelope = polynomial_envelope(distance, self.config.cutoff).repeat(2).unsqueeze(-1)
        h = self.with_state(self.embedding(graph.z), graph).expand(len(pos), -1, -1)
        out = [h]
        for interaction in self.interactions:
            h = h + interaction(h, edge, envelope, source, receiver, graph)
            out.append(h)
        return out

    def edges(self, pos: Tensor, i: Tensor, j: Tensor, distance: Tensor, opposite: bool) -> Tensor:
        """Compute the embeddings of the edges j -> i, then of the edges i -> j, [F, 2P, K].

        In opposite frames the second half is left out, [F, P, K]; see `in_both_directions`.
        """
        radial = self.from_distance(self.smearing(distance).to(distance.dtype))
        if not opposite:
            i, j, radial = torch.cat([i, j]), torch.cat([j, i]), radial.repeat(2, 1)
        vectors = pos.index_select(1, j) - pos.index_select(1, i)
        parts = [self.from_vector(vectors), radial.expand(len(pos), -1, -1)]
        return silu(self.edge(silu(torch.cat(parts, -1))))

    def positions(self, graph: Graph) -> Tensor:
        """Compute the positions in the configured frames in Å, [F, N, 3]."""
        if self.config.frames == "none":
            return graph.pos.unsqueeze(0)
        single_frame = self.config.frames == "stochastic" and self.training
        return in_frames(graph, "one" if single_frame else "full")

    def features(self, graph: Graph) -> AtomFeatures:
        """Compute atom vectors [N, H], the mean over frames; positions in Å."""
        pos = self.positions(graph)
        layers = self.layers(graph, pos, opposite=len(pos) == 8)
        h = layers[-1] if self.mix is None else self.mix(torch.cat(layers, -1))
        return AtomFeatures(h.mean(0))
