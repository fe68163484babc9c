"""A whole recipe, and which of its parts go together."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, model_validator

from mmgnn_dist.config.backbones import VECTOR_BACKBONES
from mmgnn_dist.config.data import DataConfig
from mmgnn_dist.config.model import Modality, ModelConfig
from mmgnn_dist.config.section import Section
from mmgnn_dist.config.study import StudyConfig
from mmgnn_dist.config.text import TextConfig
from mmgnn_dist.config.train import TrackConfig, TrainConfig
from mmgnn_dist.errors import nearest
from mmgnn_dist.files import write_text


class Recipe(Section):
    """A whole recipe."""

    name: str = Field("run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    targets: list[str] = Field(["homo", "lumo", "gap"], min_length=1)
    twins: list[Modality] = Field([], description="other modalities to train the same way, for the table")
    data: DataConfig = DataConfig()
    text: TextConfig = TextConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    track: TrackConfig = TrackConfig()
    study: StudyConfig | None = Field(None, description="a grid of runs, for `mmgnn study`")

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if len(set(self.targets)) != len(self.targets):
            raise ValueError("targets: each target may stand once")
        for key, chosen in (("model.readout", self.model.readout), ("train.weights", self.train.weights)):
            for name in chosen:
                if name not in self.targets:
                    raise ValueError(
                        f"{key}.{name}: no target of this recipe{nearest(name, self.targets)}; "
                        f"its targets: {', '.join(self.targets)}"
                    )
        backbone = self.model.backbone.name
        for name, form in self.model.readout.items():
            if form == "dipole_vectors" and backbone not in VECTOR_BACKBONES:
                raise ValueError(
                    f"model.readout.{name}=dipole_vectors: {backbone} has no vectors; use "
                    f"model.readout.{name}=dipole, or a backbone that has: {', '.join(VECTOR_BACKBONES)}"
                )
        if self.model.modality in self.twins or len(set(self.twins)) != len(self.twins):
            raise ValueError(
                f"twins: name each modality other than model.modality={self.model.modality} once"
            )
        micro = self.train.micro_batch
        if micro is not None and micro > self.train.batch:
            raise ValueError(f"train.micro_batch={micro} is larger than train.batch={self.train.batch}")
        return self

    @model_validator(mode="after")
    def _fusion(self) -> Recipe:
        model = self.model
        if model.fusion == "none" and {model.modality, *self.twins} != {"graph"}:
            raise ValueError(
                "model.fusion=none never reads text: use it with model.modality=graph and no twins"
            )
        if model.fusion == "none" and model.context:
            raise ValueError("model.fusion=none never reads model.context=true: take another model.fusion")
        if model.fusion == "gate_paper" and model.readout:
            raise ValueError(
                "model.fusion=gate_paper reads every target from one vector a molecule, as published: leave "
                "model.readout out, or take another model.fusion"
            )
        if model.fusion == "cross_attention" and self.text.mode == "frozen":
            raise ValueError(
                "model.fusion=cross_attention reads the states of all tokens, text.mode=frozen keeps one "
                "vector a molecule: use text.mode=lora or full, or another model.fusion"
            )
        return self

    def to_yaml(self) -> str:
        """The canonical YAML form."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

    def save(self, path: Path) -> None:
        """Write the canonical form."""
        write_text(path, self.to_yaml())

    def fingerprint(self) -> str:
        """SHA-256 of what decides the result: without twins, study, tracking, PubChem and deadline."""
        beside: dict[str, Any] = {
            "twins": True, "study": True, "track": True, "data": {"pubchem"}, "train": {"deadline"},
        }  # fmt: skip
        part = self.model_dump(mode="json", exclude=beside)
        return hashlib.sha256(yaml.safe_dump(part, sort_keys=True).encode()).hexdigest()
