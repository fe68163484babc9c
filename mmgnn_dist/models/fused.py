"""The fused model: backbone, text encoder, physical context, fusion, read-out.

    graph   --backbone--> atoms [N, H] --------------------+
                                                           +--fusion--> [N, H] --read-out--> targets [B, T]
    tokens  --encoder, linear--> text [B, W] --+           |
                                               +--join-----+
    context --encoder----------> context [B, W]+

All modalities of a recipe have the same fusion and the same read-out with the same initial weights. One
learned constant vector replaces the text side in `graph` and the graph side in `text` (the text side has one
constant for the text and one for the context, if the recipe has context). Molecules without text or without
context use the same learned vectors. A fusion that reads tokens gets all tokens and the learned vector.
`gate_paper` gets the sum over the atoms and has its own read-out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmgnn_dist.config import Recipe
from mmgnn_dist.data.loading.batch import Batch
from mmgnn_dist.data.loading.context import ContextScaler
from mmgnn_dist.data.text.encoder_files import EncoderFiles
from mmgnn_dist.models.backbones.base import AtomFeatures
from mmgnn_dist.models.backbones.make import make_backbone
from mmgnn_dist.models.context import ContextEncoder, JoinContext
from mmgnn_dist.models.fusions.base import TextSide
from mmgnn_dist.models.fusions.make import check_fusion, make_fusion
from mmgnn_dist.models.fusions.paper_gate import PaperReadOut, paper_projection
from mmgnn_dist.models.graph import Graph, sum_molecules
from mmgnn_dist.models.readout import ReadOut
from mmgnn_dist.models.text_encoder.encoder import TextEncoder


@dataclass
class TextSource:
    """Inputs of the text branch.

    Attributes:
        files: files of the encoder.
        blank: special tokens of an empty text.
        width: width of the stored vectors of a frozen encoder; None if the encoder is not frozen.
    """

    files: EncoderFiles
    blank: tuple[int, ...]
    width: int | None = None


class FusedModel(nn.Module):
    """Fused model: graph and text -> scaled targets [B, T] and the gate of each molecule [B].

    Args:
        recipe: sets modality, backbone, fusion, context, text mode and seed.
        forms: read-out of each target, see `readout.py`.
        text: inputs of the text branch; None only for a modality that reads no text.
        autocast: type in which the language model computes, None for float32.
        context: statistics of the physical context; None if context is not read or is loaded afterwards.
        states: read charge and multiplicity.
    """

    def __init__(
        self,
        recipe: Recipe,
        forms: list[str],
        text: TextSource | None,
        autocast: torch.dtype | None = None,
        context: ContextScaler | None = None,
        states: bool = False,
    ) -> None:
        super().__init__()
        config = recipe.model
        seed, dropout = recipe.train.seed, config.dropout if recipe.train.dropout else 0.0
        # one seed per part: parts that modalities share start from the same weights
        torch.manual_seed(seed)
        backbone = make_backbone(config.backbone, recipe.train.dropout, states and config.reads_graph)
        width = backbone.width
        self.backbone = backbone if config.reads_graph else None
        torch.manual_seed(seed + 1)
        self.fusion = make_fusion(config, width, dropout)
        check_fusion(self.fusion, config, recipe.text.mode)
        pooled, text_width = self.fusion.pooled, self.fusion.text_width
        self.readout: ReadOut | PaperReadOut = (
            PaperReadOut(width, len(forms))
            if pooled
            else ReadOut(width, forms, dropout, backbone.vector_width)
        )
        self.absent = nn.Parameter(torch.randn(text_width)) if text_width else None
        self.join = JoinContext(text_width) if config.context else None
        if not config.reads_graph:
            self.no_graph = nn.Parameter(torch.randn(width))
        torch.manual_seed(seed + 2)
        self.encoder: TextEncoder | None = None
        self.project: nn.Module | None = None
        if config.reads_text:
            assert text is not None
            embedding = text.width
            if embedding is None:
                self.encoder = TextEncoder(
                    text.files, recipe.text, text.blank, recipe.train.dropout, autocast
                )
                embedding = self.encoder.width
            # seeded again: the encoder may have drawn weights here or on another rank
            torch.manual_seed(seed + 2)
            if pooled:
                self.project = paper_projection(embedding, width, text_width)
            else:
                self.project = nn.Linear(embedding, text_width)
        self.text_dropout = nn.Dropout(recipe.text.dropout if recipe.train.dropout else 0.0)
        torch.manual_seed(seed + 3)
        reads_context = config.context and config.reads_text
        self.context = ContextEncoder(context, text_width) if reads_context else None

    def forward(
        self, batch: Batch, embeddings: Tensor | None = None, side: TextSide | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Predict the targets of a batch.

        Args:
            batch: B molecules.
            embeddings: vectors of a frozen encoder [B, D]; None if the encoder is not frozen.
            side: the text side, for molecules of which only the positions change; None computes it.

        Returns:
            Scaled targets [B, T]; gate [B] (mean over atoms and channels), None for a fusion without a gate
            and for a model that reads only one of graph and text.
        """
        graph = Graph.make(batch.z, batch.pos, batch.ptr, batch.charge, batch.multiplicity, batch.neighbours)
        features = self._graph_side(graph)
        side = side or self.text_side(batch, embeddings)
        fused, gate = self.fusion(features.scalars, side, graph)
        scaled = self.readout(fused, graph, features.vectors)
        if gate is None or self.backbone is None or self.project is None:
            return scaled, None
        if self.fusion.pooled:
            return scaled, gate
        counts = graph.ptr[1:] - graph.ptr[:-1]
        return scaled, sum_molecules(gate.unsqueeze(-1), graph).squeeze(-1) / counts

    def _graph_side(self, graph: Graph) -> AtomFeatures:
        """Features of the atoms; for a pooled fusion, their sum over each molecule [B, H]."""
        if self.backbone is None:
            rows = graph.size if self.fusion.pooled else len(graph.z)
            return AtomFeatures(self.no_graph.expand(rows, -1))
        atoms = self.backbone.features(graph)
        return AtomFeatures(sum_molecules(atoms.scalars, graph)) if self.fusion.pooled else atoms

    def text_side(self, batch: Batch, embeddings: Tensor | None = None) -> TextSide:
        """Compute text and context of each molecule, as the fusion reads them; the arguments of `forward`."""
        if self.absent is None:  # the fusion does not read the text side
            return TextSide(batch.pos.new_empty(batch.size, 0))
        side = TextSide(self.absent.expand(batch.size, -1))
        if self.project is not None:
            self._read_text(side, self.project, batch, embeddings)
        if self.join is not None:
            context = self.context(batch.context, batch.context_mask) if self.context else None
            side.vector = self.join(side.vector, context)
        return side

    def _read_text(self, side: TextSide, project: nn.Module, batch: Batch, embeddings: Tensor | None) -> None:
        """Add tokens to the text side, or replace the learned vector by the text vector if a text exists."""
        if self.encoder is None:
            assert embeddings is not None
            vectors, present = embeddings, batch.token_ptr[1:] > batch.token_ptr[:-1]
        else:
            states = self.encoder.states(batch.tokens, batch.token_ptr)
            if self.fusion.reads_tokens:
                side.tokens, side.ptr = project(self.text_dropout(states)), batch.token_ptr
                return
            vectors, present = self.encoder.pool(states, batch.token_ptr)
        side.vector = torch.where(present.unsqueeze(-1), project(self.text_dropout(vectors)), side.vector)

    def branches(self) -> dict[str, list[tuple[str, nn.Parameter]]]:
        """Trainable parameters by branch: backbone, text, fusion (with read-out and constants)."""
        out: dict[str, list[tuple[str, nn.Parameter]]] = {"backbone": [], "text": [], "fusion": []}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                head = name.split(".", 1)[0]
                out[{"backbone": "backbone", "encoder": "text"}.get(head, "fusion")].append((name, parameter))
        return out
