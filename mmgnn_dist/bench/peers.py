"""What a user would write with PyTorch Geometric: `Data`, `DataLoader`, its networks, Adam.

The edges within the cutoff are computed once and stored in each `Data`, so that a step of the peer does not
pay for a neighbour search; ours searches in every step. PyG's DimeNet++ searches its edges and triplets with
compiled extensions, so its blocks are called here on the stored edges and on our triplets. It has no PaiNN:
schnetpack's modules stand in, where it is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmgnn_dist.config import BackboneConfig, DimeNetPPConfig, PaiNNConfig, SchNetConfig
from mmgnn_dist.data.loading.batch import Batch
from mmgnn_dist.errors import UserError
from mmgnn_dist.models.graph import Graph, edges_within, triplets


class PygSchNetPeer(nn.Module):
    """PyG's SchNet on stored edges: a batch of `Data` -> [B, 1]."""

    def __init__(self, config: SchNetConfig) -> None:
        super().__init__()
        from torch_geometric.nn.models import SchNet

        self.edges: Tensor
        self.net = SchNet(
            config.hidden,
            config.filters,
            config.interactions,
            config.gaussians,
            config.cutoff,
            interaction_graph=self._graph,
        )

    def _graph(self, pos: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        source, receiver = self.edges
        return self.edges, (pos[source] - pos[receiver]).norm(dim=-1)

    def forward(self, data: Any) -> Tensor:
        """Predict one number for each molecule."""
        self.edges = data.edge_index
        return self.net(data.z, data.pos, data.batch)


class PygDimeNetPPPeer(nn.Module):
    """PyG's DimeNet++ on stored edges and our triplets, as in its `forward`: a batch of `Data` -> [B, 1]."""

    def __init__(self, config: DimeNetPPConfig) -> None:
        super().__init__()
        from torch_geometric.nn.models import DimeNetPlusPlus

        self.net = DimeNetPlusPlus(
            hidden_channels=config.hidden,
            out_channels=1,
            num_blocks=config.blocks,
            cutoff=config.cutoff,
            int_emb_size=config.triplet,
            basis_emb_size=config.basis,
            out_emb_channels=config.output,
            num_spherical=config.spherical,
            num_radial=config.radial,
        )

    def forward(self, data: Any) -> Tensor:
        """Predict one number for each molecule."""
        from torch_geometric.utils import scatter

        net, pos = self.net, data.pos
        j, i = data.edge_index
        kj, ji = triplets(i, j, len(pos))
        first, second = pos[i[ji]] - pos[j[ji]], pos[j[ji]] - pos[j[kj]]
        crossed = torch.linalg.cross(first, second).norm(dim=-1)
        angle = torch.atan2(crossed, (first * second).sum(-1))
        distance = (pos[i] - pos[j]).norm(dim=-1)
        rbf, sbf = net.rbf(distance), net.sbf(distance, angle, kj)
        x = net.emb(data.z, rbf, i, j)
        out = net.output_blocks[0](x, rbf, i, num_nodes=len(pos))
        for interaction, output in zip(net.interaction_blocks, net.output_blocks[1:], strict=True):
            x = interaction(x, rbf, sbf, kj, ji)
            out = out + output(x, rbf, i, num_nodes=len(pos))
        return scatter(out, data.batch, dim=0, reduce="sum")


class SchnetpackPaiNNPeer(nn.Module):
    """schnetpack's PaiNN on stored edges, with its usual head: a batch of `Data` -> [B, 1]."""

    def __init__(self, config: PaiNNConfig) -> None:
        super().__init__()
        try:
            from schnetpack.nn.cutoff import CosineCutoff
            from schnetpack.nn.radial import BesselRBF, GaussianRBF
            from schnetpack.representation.painn import PaiNN
        except ImportError:
            raise UserError(
                "bench train: PaiNN is compared with schnetpack's: pip install schnetpack"
            ) from None

        basis = BesselRBF if config.basis == "bessel" else GaussianRBF
        self.net = PaiNN(
            config.hidden,
            config.interactions,
            basis(config.radial, config.cutoff),
            CosineCutoff(config.cutoff),
        )
        half = config.hidden // 2
        self.head = nn.Sequential(nn.Linear(config.hidden, half), nn.SiLU(), nn.Linear(half, 1))

    def forward(self, data: Any) -> Tensor:
        """Predict one number for each molecule."""
        from schnetpack import properties
        from torch_geometric.utils import scatter

        j, i = data.edge_index
        read = {
            properties.Z: data.z,
            properties.Rij: data.pos[j] - data.pos[i],
            properties.idx_i: i,
            properties.idx_j: j,
        }
        return scatter(self.head(self.net(read)["scalar_representation"]), data.batch, dim=0, reduce="sum")


def pyg_peer(config: BackboneConfig) -> nn.Module:
    """Make PyG's (PaiNN: schnetpack's) network of the same sizes as a backbone.

    Raises:
        UserError: there is no such network, or schnetpack is not installed.
    """
    if isinstance(config, PaiNNConfig):
        return SchnetpackPaiNNPeer(config)
    if isinstance(config, SchNetConfig):
        return PygSchNetPeer(config)
    if isinstance(config, DimeNetPPConfig):
        return PygDimeNetPPPeer(config)
    raise UserError(
        f"bench train: PyG has no {config.name} to compare with; there are: schnet, dimenetpp, painn"
    )


def pyg_data(batch: Batch, cutoff: float) -> list[Any]:
    """Make a `Data` of each molecule, with the edges within the cutoff, its first target and its tokens."""
    from torch_geometric.data import Data

    out = []
    for row, (first, last) in enumerate(zip(batch.ptr[:-1].tolist(), batch.ptr[1:].tolist(), strict=True)):
        z, pos = batch.z[first:last].clone(), batch.pos[first:last].clone()
        i, j = edges_within(Graph.make(z, pos, torch.tensor([0, len(z)])), cutoff)
        tokens = batch.tokens[batch.token_ptr[row] : batch.token_ptr[row + 1]].tolist()
        y = batch.y[row, :1].float()
        out.append(Data(z=z, pos=pos, y=y, edge_index=torch.stack([j, i]), tokens=tokens))
    return out


def endless(loader: Any) -> Iterator[Any]:
    """Yield the batches of a loader, epoch after epoch."""
    while True:
        yield from loader


def pyg_step(model: nn.Module, values: np.ndarray) -> Callable[[Any], None]:
    """Make a user's training step: L1 loss of standardised targets, Adam as it comes.

    Args:
        model: the network.
        values: the target of the training molecules, for its mean and standard deviation.
    """
    mean, deviation = float(values.mean()), float(values.std())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def step(data: Any) -> None:
        optimizer.zero_grad()
        out = model(data).squeeze(-1)
        (out - (data.y - mean) / deviation).abs().mean().backward()
        optimizer.step()

    return step
