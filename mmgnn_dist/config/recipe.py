"""A whole recipe, and the checks that its parts go together."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, model_validator

from mmgnn_dist.config.choices import OWN, OWN_BACKBONES, backbone_configs
from mmgnn_dist.config.data import DataConfig
from mmgnn_dist.config.model import Modality, ModelConfig
from mmgnn_dist.config.section import ConfigSection
from mmgnn_dist.config.study import StudyConfig
from mmgnn_dist.config.sweep import CLASS_METRICS, FIXED, SweepConfig
from mmgnn_dist.config.text import TextConfig
from mmgnn_dist.config.train import RESUMABLE_KEYS, TrackConfig, TrainConfig
from mmgnn_dist.errors import nearest
from mmgnn_dist.files import write_text
from mmgnn_dist.plugins import Plugin, plugins


class Recipe(ConfigSection):
    """A whole recipe."""

    name: str = Field(
        "run",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="name of the recipe; the default directories are runs/NAME and sweeps/NAME",
    )
    targets: list[str] = Field(
        ["homo", "lumo", "gap"],
        min_length=1,
        description="what the model learns: targets of the shard set, in its units",
    )
    twins: list[Modality] = Field(
        [], description="other modalities to train in the same way, for the comparison table"
    )
    data: DataConfig = DataConfig()
    text: TextConfig = TextConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    track: TrackConfig = TrackConfig()
    study: StudyConfig | None = Field(
        None,
        description="A grid of runs, for `mmgnn study`.",
        json_schema_extra={"with": ["sweep"]},
    )
    sweep: SweepConfig | None = Field(None, description="The search of `mmgnn sweep`.")

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
        backbone = self.model.backbone
        for name, form in self.model.readout.items():
            if form == "dipole_vectors" and not backbone.has_vectors:
                with_vectors = ", ".join(
                    name for name, kind in backbone_configs().items() if kind.has_vectors
                )
                raise ValueError(
                    f"model.readout.{name}=dipole_vectors: {backbone.name} has no vectors; use "
                    f"model.readout.{name}=dipole, or a backbone that has: {with_vectors}"
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

    @model_validator(mode="after")
    def _sweep(self) -> Recipe:
        if self.sweep is None:
            return self
        if self.study is not None:
            raise ValueError("sections study and sweep in one recipe: make a recipe of each")
        metric, targets = self.sweep.metric, self.targets
        of_targets = [f"val/mae/{name}_" for name in targets]
        of_targets += [f"val/{kind}/{name}" for kind in CLASS_METRICS for name in targets]
        if metric != "val/score" and not metric.startswith(tuple(of_targets)):
            raise ValueError(
                f"sweep.metric={metric}: choose by the validation part alone, val/score, "
                f"val/mae/TARGET_UNIT of a target that is a number, or val/auroc/TARGET of one that is a "
                f"class, here of {', '.join(targets)}"
            )
        for key, dimension in self.sweep.space.items():
            where = f"sweep.space.{key}"
            self._check_key(key, where)
            for value in dimension.corners:
                try:
                    self.changed({key: value})
                except ValidationError as error:
                    message = error.errors()[0]["msg"].removeprefix("Value error, ")
                    raise ValueError(f"{where}: the recipe does not allow {value} ({message})") from None
        return self

    def _check_key(self, key: str, where: str) -> None:
        """Refuse a key that does not exist, or that must be the same in all trials."""
        node: Any = self.model_dump(mode="json")
        above = ""
        for part in key.split("."):
            above = f"{above}.{part}" if above else part
            if above in FIXED:
                raise ValueError(f"{where}: trials that differ in {above} cannot be compared")
            if not isinstance(node, dict) or part not in node:
                names = list(node) if isinstance(node, dict) else []
                raise ValueError(f"{where}: there is no such key{nearest(part, names)}")
            node = node[part]

    def changed(self, values: dict[str, Any]) -> Recipe:
        """Return this recipe without its sweep and with other values, given by dotted key.

        Raises:
            ValidationError: if the values do not go together.
        """
        raw = self.model_dump(mode="json", exclude={"sweep"})
        for key, value in values.items():
            *parents, last = key.split(".")
            node = raw
            for name in parents:
                node = node[name]
            node[last] = value
        return Recipe.model_validate(raw)

    def grouped(self, group: str) -> Recipe:
        """Return this recipe with a W&B group, so that W&B shows runs together; a group that is set stays."""
        track = self.track.model_copy(update={"group": self.track.group or group})
        return self.model_copy(update={"track": track})

    def to_yaml(self) -> str:
        """Return the canonical YAML form."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

    def absolute(self) -> Recipe:
        """Return this recipe with absolute paths of the shard set, its cache, and an encoder in a folder."""
        data, encoder = self.data, Path(self.text.encoder).expanduser()
        places = {name: getattr(data, name) for name in ("shards", "cache")}
        found = {name: path.absolute() for name, path in places.items() if path is not None}
        update: dict[str, Any] = {"data": data.model_copy(update=found)}
        if self.text.encoder != TextConfig().encoder and encoder.is_dir():
            update["text"] = self.text.model_copy(update={"encoder": str(encoder.absolute())})
        return self.model_copy(update=update)

    def save(self, path: Path) -> None:
        """Write the canonical YAML form, with absolute paths, for it may be read from another folder."""
        write_text(path, self.absolute().to_yaml())

    def identity_fields(self) -> dict[str, Any]:
        """Return the values that decide the result; a run may continue if only other values have changed.

        It leaves out twins, study, sweep, tracking, PubChem, where the data lie and who works on them, and
        the keys that may change when a run continues: when it saves and gives up, its threads, and into how
        many passes it splits a batch. Like the number of ranks, threads and passes only change how sums are
        rounded. A key that was added later is left out while it has its default.
        """
        return self.absolute()._identity({"pubchem", "shards", "workers", "cache"}, RESUMABLE_KEYS)

    def _identity(self, data: set[str], train: set[str]) -> dict[str, Any]:
        excluded: dict[str, Any] = {
            "twins": True,
            "study": True,
            "sweep": True,
            "track": True,
            "data": data,
            "train": train,
        }
        return self.without_later_defaults(self.model_dump(mode="json", exclude=excluded))

    def plugins(self) -> list[Plugin]:
        """Return the plugins of other packages that this recipe names."""
        named = {
            "backbones": [self.model.backbone.name],
            "fusions": [self.model.fusion],
            "optimizers": [self.train.optim.name],
            "metrics": self.train.metrics,
        }
        own_names: dict[str, Collection[str]] = {"backbones": OWN_BACKBONES, **OWN}
        return [
            plugins(group)[name]
            for group, names in named.items()
            for name in names
            if name not in own_names[group]
        ]

    def fingerprint(self) -> str:
        """Return the SHA-256 of the values that decide the result."""
        return _sha256(self.identity_fields())

    def earlier_fingerprint(self, shards: str) -> str:
        """Return the fingerprint of this recipe in earlier versions, to which the place of the data belonged.

        Args:
            shards: path of the shard set as it was written then.
        """
        fields = self._identity({"pubchem", "cache"}, RESUMABLE_KEYS - {"threads"})
        fields["data"]["shards"] = shards
        return _sha256(fields)


def _sha256(fields: dict[str, Any]) -> str:
    return hashlib.sha256(yaml.safe_dump(fields, sort_keys=True).encode()).hexdigest()
