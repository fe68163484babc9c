"""Data and statistics of a recipe, shared by training, evaluation and the checks before them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from mmgnn_dist.checksums import VerifiedFiles
from mmgnn_dist.chem.elements import MAX_Z
from mmgnn_dist.chem.targets import readout_for
from mmgnn_dist.config import Recipe
from mmgnn_dist.config.sweep import CLASS_METRICS
from mmgnn_dist.data.loading.balance import Costs
from mmgnn_dist.data.loading.context import fit_context
from mmgnn_dist.data.loading.loader import Loader
from mmgnn_dist.data.loading.text_input import TextChoice
from mmgnn_dist.data.shardset.references import REFERENCED, check_labels, fit_references, labels
from mmgnn_dist.data.shardset.shards import CONTEXT_FIELDS, ShardSet
from mmgnn_dist.data.shardset.splits import load_split, nested, split_sha256
from mmgnn_dist.data.text.encoder_files import EncoderFiles, resolve_encoder
from mmgnn_dist.data.text.token_cache import TokenSet
from mmgnn_dist.errors import UserError, nearest
from mmgnn_dist.models.balance import predict_costs
from mmgnn_dist.models.fused import FusedModel, TextSource
from mmgnn_dist.models.heads import Heads
from mmgnn_dist.models.matched import Matched, match_width
from mmgnn_dist.models.readout import Scaler
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.run_records import ExportRecord, Origin
from mmgnn_dist.train.application.targets import with_model_targets
from mmgnn_dist.train.metrics import metric_unit
from mmgnn_dist.train.provenance import origin
from mmgnn_dist.train.ranks import Ranks
from mmgnn_dist.train.stored.recipe import sidecar_folder
from mmgnn_dist.train.tracking.wandb_sink import check_tracking

EVALUATED = 64  # largest evaluation batch of a rank without train.micro_batch, molecules


@dataclass
class Inputs:
    """The data of a recipe.

    Attributes:
        recipe: the recipe.
        shards: the opened shard set.
        split: rows of train, val and test.
        files: files of the encoder; None if the modality reads no text.
        split_sha256: SHA-256 of the stored split, before `data.train_size` takes a part of it; None without a
            split.
        verified: checksums of the data files, each computed once.
    """

    recipe: Recipe
    shards: ShardSet
    split: dict[str, np.ndarray]
    files: EncoderFiles | None
    split_sha256: str | None
    verified: VerifiedFiles

    @property
    def origin(self) -> Origin:
        """Origin of results and checkpoints that are made from these inputs."""
        assert self.split_sha256 is not None
        return origin(self.recipe, self.shards, self.split_sha256)

    @property
    def units(self) -> list[str]:
        """The unit of each target."""
        return [self.shards.units[name] for name in self.recipe.targets]

    @property
    def metrics(self) -> list[str]:
        """The name of each target that is a number with its unit, as in names of metrics: `homo_eV`."""
        chosen = [(self.recipe.targets[place], self.units[place]) for place in self.heads.numbers]
        return [f"{name}_{metric_unit(unit)}" for name, unit in chosen]

    @property
    def class_metrics(self) -> list[str]:
        """The names of the metrics of each target that is a class: `auroc/toxic`."""
        classes = [
            name for name, kind in zip(self.recipe.targets, self.kinds, strict=True) if kind == "class"
        ]
        return [f"{metric}/{name}" for name in classes for metric in CLASS_METRICS]

    @cached_property
    def heads(self) -> Heads:
        """The outputs of the model by target."""
        return Heads.of(self.shards, self.recipe.targets)

    @property
    def kinds(self) -> list[str]:
        """The kind of each target: extensive, intensive, dipole, r2, class."""
        return [self.shards.kinds[name] for name in self.recipe.targets]

    @property
    def forms(self) -> list[str]:
        """The read-out of each output: the default of its target's kind, or the choice of the recipe."""
        model = self.recipe.model
        return [
            readout_for(name, kind, model.wanted_readout(name, kind))
            for name, kind, repeats in zip(self.recipe.targets, self.kinds, self.heads.repeats, strict=True)
            for _ in range(repeats)
        ]

    def tokens(self, progress: Callable[[int, int, str], None], checked: bool = True) -> TokenSet | None:
        """Open the token sidecars, or make them, and check the text if asked; None if no text is read."""
        config = self.recipe.text
        if self.files is None:
            return None
        tokens = TokenSet.ensure(
            self.shards,
            list(config.fields),
            self.files,
            config.field_tokens,
            progress,
            config.budgets,
            config.template,
            config.sample_synonyms,
            self.verified.sha256,
            config.selected_fields,
            config.total_tokens,
        )
        if checked:
            tokens.check_length()
            tokens.check_unknown(config.max_unknown)
        return tokens

    def model(self, text: TextSource | None, autocast: torch.dtype | None) -> FusedModel:
        """Make the model of the recipe with initial weights; `text` and `autocast` are as in `FusedModel`."""
        model = self.recipe.model
        reads = model.context and model.reads_text
        context = fit_context(self.shards, self.split["train"]) if reads else None
        return FusedModel(self.built, self.forms, text, autocast, context, self.shards.has_states)

    @cached_property
    def matched(self) -> Matched | None:
        """The widened recipe of modality `width_matched`; None for any other modality."""
        matches = self.recipe.model.modality == "width_matched"
        return match_width(self.recipe, self.forms, self.shards.has_states) if matches else None

    @property
    def built(self) -> Recipe:
        """The recipe with the final width, from which the model is built."""
        return self.matched.recipe if self.matched else self.recipe

    @property
    def backbone_values(self) -> dict[str, Any]:
        """The section of the backbone as built, with the width of `width_matched`, as plain values."""
        return self.built.model.backbone.model_dump(mode="json")

    def training(self, tokens: TokenSet | None, ranks: Ranks) -> Loader:
        """Make the loader of the training part: this rank's share of each shuffled global batch."""
        train = self.recipe.train
        divided = ranks.world > 1 or train.micro_batch  # else there is nothing to balance
        return self._loader(
            self.split["train"],
            tokens,
            ranks,
            batch=train.batch,
            micro=train.micro_batch,
            choice=TextChoice.of(self.recipe.text, train.seed, training=True),
            costs=self.costs if divided else None,
            stratified=train.sampling == "stratified",
        )

    def ordered(self, part: str, tokens: TokenSet | None, ranks: Ranks) -> Loader:
        """Make an unshuffled loader of a part: a molecule on one rank, the same batches for any number."""
        train = self.recipe.train
        choice = TextChoice.of(self.recipe.text, train.seed, training=False)
        batch = train.micro_batch or min(train.batch, EVALUATED)
        fill = train.zero_stage == 3  # all ranks gather weights together in every pass
        return self._loader(
            self.split[part], tokens, ranks, batch=batch, shuffle=False, choice=choice, fill=fill
        )

    @cached_property
    def costs(self) -> Costs:
        """Predicted cost of each molecule in training."""
        return predict_costs(self.built, self.files, self.shards, self.split["train"])

    def _loader(self, rows: np.ndarray, tokens: TokenSet | None, ranks: Ranks, **options: Any) -> Loader:
        recipe = self.recipe
        fields = list(recipe.text.fields) if tokens else None
        return Loader(
            self.shards,
            rows,
            list(recipe.targets),
            tokens,
            fields,
            seed=recipe.train.seed,
            rank=ranks.rank,
            world=ranks.world,
            **options,
        )


def open_inputs(
    recipe: Recipe,
    verify: bool = True,
    whole: bool = False,
    verified: VerifiedFiles | None = None,
    run: RunDir | None = None,
    model: ExportRecord | None = None,
) -> Inputs:
    """Open and check everything that a recipe names, before any expensive work.

    Args:
        recipe: the recipe.
        verify: check the checksums of all shards.
        whole: use all molecules as the test part, without a split.
        verified: checksums of files that were read before; None reads every file.
        run: run directory, beside which text sidecars go if neither the shard set can be written nor
            `data.cache` is set.
        model: description of a trained model; the set may then lack some of its targets.

    Raises:
        UserError: a shard set, split or encoder is missing or damaged; a target is unknown, has no labels to
            learn from or a read-out that makes no sense for it; the shard set has charges that the backbone
            does not read; or the recipe uses physical context and the shard set has none.
    """
    if recipe.data.shards is None:
        raise UserError("the recipe names no shard set: give data.shards=DIR (made by 'mmgnn data prepare')")
    verified = verified or VerifiedFiles()
    shards = ShardSet.open(recipe.data.shards, verify, verified.sha256)
    shards = replace(shards, cache=sidecar_folder(recipe, run))
    if model is not None:
        shards = with_model_targets(shards, model)
    for name in recipe.targets:
        if name not in shards.targets:
            allowed = ", ".join(shards.targets)
            raise UserError(
                f"unknown target '{name}'{nearest(name, shards.targets)}: {recipe.data.shards} has {allowed}"
            )
    if whole:
        split, digest = {"test": np.arange(shards.rows)}, None
    else:
        split = load_split(shards, recipe.data.split, recipe.data.fold)
        digest = split_sha256(split)
        if recipe.data.train_size is not None:
            split["train"] = nested(shards, split["train"], recipe.data.train_size)
    if not whole and len(split["train"]) < recipe.train.batch:
        raise UserError(
            f"train.batch={recipe.train.batch} is larger than the {len(split['train'])} training molecules "
            f"of {recipe.data.shards}: lower it, or use another split"
        )
    if not whole:
        _check_parts(recipe, shards, split)
    backbone = recipe.model.backbone
    if shards.has_states and not whole and not backbone.reads_state:
        raise UserError(
            f"{recipe.data.shards} has ions or unpaired electrons, and backbone '{backbone.name}' does not "
            "read charge and multiplicity: take another model.backbone.name, or prepare a set without them"
        )
    if recipe.model.context and not any(shards.manifest["coverage"][name] for name in CONTEXT_FIELDS):
        raise UserError(
            f"model.context=true, but no molecule of {recipe.data.shards} has one of "
            f"{', '.join(CONTEXT_FIELDS)}: join them with 'mmgnn data prepare --text', or set it to false"
        )
    reads = not {recipe.model.modality, *recipe.twins}.isdisjoint(("text", "both"))
    text = recipe.text
    if reads:
        _check_fields(list(text.fields), shards, whole)
    files = resolve_encoder(text.encoder, text.revision, text.random) if reads else None
    if files is not None:
        files = replace(files, digest=verified.sha256)
        files.check_pooling(recipe.text.pooling)
    check_tracking(recipe)
    inputs = Inputs(recipe, shards, split, files, digest, verified)
    _ = inputs.forms  # refuses read-outs that make no physical sense
    return inputs


def _check_parts(recipe: Recipe, shards: ShardSet, split: dict[str, np.ndarray]) -> None:
    """Refuse targets without labels to learn from, or to validate with."""
    y = check_labels(shards, split["train"], recipe.targets)
    for place in Heads.of(shards, recipe.targets).classed:
        if len(np.unique(y[np.isfinite(y[:, place]), place])) < 2:
            raise UserError(
                f"target {recipe.targets[place]} has one class in the training part of {shards.path}: "
                "leave it out of targets, or take another split"
            )
    if np.isnan(labels(shards, split["val"], recipe.targets)).all():
        raise UserError(
            f"no molecule of the validation part of {recipe.data.shards} has a label of "
            f"{', '.join(recipe.targets)}: take another split"
        )


def _check_fields(fields: list[str], shards: ShardSet, whole: bool) -> None:
    """Refuse a text field that the shard set does not have, and training on text that no molecule has."""
    for field in fields:
        if field not in shards.text_fields:
            raise UserError(
                f"text.fields: '{field}' is no text field of {shards.path}"
                f"{nearest(field, shards.text_fields)}: it has {', '.join(shards.text_fields)}; own ones are "
                "declared by data.text_columns when it is prepared"
            )
    coverage = shards.manifest.get("coverage")
    if whole or coverage is None or any(coverage.get(field) for field in fields):
        return
    present = [field for field in shards.text_fields if coverage.get(field)]
    cure = f"take some of {', '.join(present)}" if present else "join text with 'mmgnn data prepare --text'"
    raise UserError(
        f"no molecule of {shards.path} has text in {', '.join(fields)}, so text could teach nothing: {cure}, "
        "or train with model.modality=graph and no twins"
    )


def fit_scaler(inputs: Inputs) -> Scaler:
    """Fit the scaler on the training part: a target has references or a mean; raw scaling has neither."""
    scaler = _fitted_scaler(inputs)
    scaler.mean[[place for place, form in enumerate(inputs.forms) if form == "dipole_norm"]] = 0.0
    for place in inputs.heads.classed:  # prevalence is added to learned logits
        outputs = inputs.heads.outputs(place)
        scaler.std[outputs] = 1.0
        scaler.reference[:, outputs] = scaler.extent[:, outputs] = 0.0
        scaler.mean[outputs] = torch.from_numpy(np.log(class_shares(inputs, place)))
    return scaler


def class_shares(inputs: Inputs, place: int) -> np.ndarray:
    """Share of each class among the labels of the training part, each class counted once more, [K]."""
    y = labels(inputs.shards, inputs.split["train"], [inputs.recipe.targets[place]])[:, 0]
    count = len(inputs.heads.classes[place])
    found = np.bincount(y[np.isfinite(y)].astype(int), minlength=count) + 1.0
    return found / found.sum()


def _fitted_scaler(inputs: Inputs) -> Scaler:
    if inputs.recipe.train.scaling == "raw":
        ones = torch.ones(len(inputs.forms), dtype=torch.float64)
        zeros = ones.new_zeros(MAX_Z + 1, len(ones))
        return Scaler(std=ones, mean=torch.zeros_like(ones), reference=zeros, extent=zeros.clone())
    references = fit_references(inputs.shards, inputs.split["train"], inputs.recipe.targets)
    referenced = np.array([kind in REFERENCED for kind in inputs.kinds])
    repeats = inputs.heads.repeats
    return Scaler(
        std=torch.from_numpy(np.repeat(references.std, repeats)),
        mean=torch.from_numpy(np.repeat(np.where(referenced, 0.0, references.mean), repeats)),
        reference=torch.from_numpy(np.ascontiguousarray(np.repeat(references.atom_ref.T, repeats, axis=1))),
        extent=torch.from_numpy(np.ascontiguousarray(np.repeat(references.extent_ref.T, repeats, axis=1))),
    )
