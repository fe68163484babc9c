"""The fused model: backbone, text encoder, fusion, read-out.

    graph   --backbone-->  atoms [N, H] --+
                                          +--fusion--> fused atoms [N, H] --read-out--> targets [B, T]
    tokens  --encoder, Lin--> text [B, H] -+

All modalities of a recipe have the same fusion and the same read-out with the same start: in `graph` the
text side and in `text` the graph side is one learned constant vector. Molecules without text take the
learned absent vector.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmgnn_dist.config import Recipe
from mmgnn_dist.data.batch import Batch
from mmgnn_dist.data.encoder_files import EncoderFiles
from mmgnn_dist.models.backbone import AtomFeatures, make_backbone
from mmgnn_dist.models.fusion import make_fusion
from mmgnn_dist.models.graph import Graph, sum_molecules
from mmgnn_dist.models.readout import ReadOut
from mmgnn_dist.models.text import TextEncoder


@dataclass
class TextSource:
    """What the text branch is built from.

    Attributes:
        files: the encoder's weights. blank: special tokens of an empty text.
        width: of the vectors that a frozen encoder wrote, if it is frozen.
    """

    files: EncoderFiles
    blank: tuple[int, ...]
    width: int | None = None


class FusedModel(nn.Module):
    """Graph and text -> scaled targets [B, T] and the gate of each molecule [B].

    Args:
        recipe: modality, backbone, fusion, text mode, seed.
        forms: the read-out of each target: see `readout.py`.
        text: the source of the text branch; None only for modality `graph`.
        autocast: type in which the language model computes, None for float32.
    """

    def __init__(
        self,
        recipe: Recipe,
        forms: list[str],
        text: TextSource | None,
        autocast: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        config = recipe.model
        self.modality = config.modality
        seed, dropout = recipe.train.seed, config.dropout if recipe.train.dropout else 0.0
        # a seed for each part: the parts that modalities share start from the same weights
        torch.manual_seed(seed)
        backbone = make_backbone(config.backbone, recipe.train.dropout)
        width = backbone.width
        self.backbone = backbone if self.modality != "text" else None
        torch.manual_seed(seed + 1)
        self.fusion = make_fusion(config, width, dropout)
        self.readout = ReadOut(width, forms, dropout, backbone.vector_width)
        self.absent = nn.Parameter(torch.randn(width))
        if self.modality == "text":
            self.no_graph = nn.Parameter(torch.randn(width))
        torch.manual_seed(seed + 2)
        self.encoder: TextEncoder | None = None
        if self.modality != "graph":
            assert text is not None
            if text.width is None:
                self.encoder = TextEncoder(
                    text.files, recipe.text, text.blank, recipe.train.dropout, autocast
                )
            self.project = nn.Linear(text.width or self.encoder_width(), width)

    def encoder_width(self) -> int:
        """Width of the language model."""
        assert self.encoder is not None
        return self.encoder.width

    def forward(self, batch: Batch, embeddings: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Predict.

        Args:
            batch: B molecules.
            embeddings: [B, D], the vectors of a frozen encoder, if it is frozen.

        Returns:
            Scaled targets [B, T]; gate [B] (mean over atoms and channels), None without a gate.
        """
        graph = Graph.make(batch.z, batch.pos, batch.ptr)
        atoms = self._atoms(graph)
        fused, gate = self.fusion(atoms.scalars, self._text(batch, embeddings), graph.molecule)
        scaled = self.readout(fused, graph, atoms.vectors)
        if gate is None:
            return scaled, None
        counts = graph.ptr[1:] - graph.ptr[:-1]
        return scaled, sum_molecules(gate.unsqueeze(-1), graph).squeeze(-1) / counts

    def _atoms(self, graph: Graph) -> AtomFeatures:
        """What the backbone knows of the atoms; a constant without it."""
        if self.backbone is None:
            return AtomFeatures(self.no_graph.expand(len(graph.z), -1))
        return self.backbone.features(graph)

    def _text(self, batch: Batch, embeddings: Tensor | None) -> Tensor:
        """The text vector of each molecule [B, H]."""
        if self.modality == "graph":
            return self.absent.expand(batch.size, -1)
        if self.encoder is not None:
            vectors, present = self.encoder(batch.tokens, batch.token_ptr)
        else:
            assert embeddings is not None
            vectors, present = embeddings, batch.token_ptr[1:] > batch.token_ptr[:-1]
        return torch.where(present.unsqueeze(-1), self.project(vectors), self.absent)

    def branches(self) -> dict[str, list[tuple[str, nn.Parameter]]]:
        """Trainable parameters by branch: backbone, text, fusion (with read-out and constants)."""
        out: dict[str, list[tuple[str, nn.Parameter]]] = {"backbone": [], "text": [], "fusion": []}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                head = name.split(".", 1)[0]
                out[{"backbone": "backbone", "encoder": "text"}.get(head, "fusion")].append((name, parameter))
        return out
