"""Where the molecules and their text come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from mmgnn_dist.config.section import ADDED_LATER, ConfigSection
from mmgnn_dist.config.text import RESERVED, FieldName
from mmgnn_dist.errors import nearest
from mmgnn_dist.plugins import plugins

PROVIDERS = ("table", "file", "rdkit", "names")

TargetKind = Literal["extensive", "intensive", "dipole", "r2", "class"]


def _unit_of_number(value: object) -> object:
    """Take the number 1, as YAML reads the unit of a number without unit, for its name."""
    return "1" if type(value) in (int, float) and value == 1 else value


UnitName = Annotated[str, BeforeValidator(_unit_of_number)]


class TargetConfig(ConfigSection):
    """One target of your data: where its values stand, in which unit, and how it scales."""

    column: str | None = Field(
        None, min_length=1, description="column or field of its values, in any case; null: its name"
    )
    unit: UnitName | None = Field(
        None,
        description="unit of the column: a known target is converted to its own unit, another one keeps it; "
        "a unit in double quotes inside the string is not checked",
    )
    kind: TargetKind | None = Field(
        None,
        description="extensive (a sum over atoms), intensive, dipole (a norm), r2 (a spatial extent), or "
        "class (labels are numbers, words, true or false; no unit); null: that of a known target, for "
        "another one the one that a fit on composition shows",
    )

    @model_validator(mode="after")
    def _class(self) -> TargetConfig:
        if self.kind == "class" and self.unit is not None:
            raise ValueError(f"data.targets: a target of kind class has no unit, leave out unit={self.unit}")
        return self


Declared = dict[str, str | TargetConfig]  # target -> what is declared of it, or only its unit


class PubChemConfig(ConfigSection):
    """PubChem's web service, for `mmgnn data enrich`."""

    base_url: str = Field(
        "https://pubchem.ncbi.nlm.nih.gov/rest/pug", description="address of PUG REST, or of a mirror of it"
    )
    cache: Path | None = Field(
        None, description="SQLite file that keeps its answers; null: pubchem-cache.sqlite beside the output"
    )
    max_age: float = Field(
        90, ge=0, description="days after which it is asked again for what it did not have"
    )


class ConformerConfig(ConfigSection):
    """Geometries of molecules that come as SMILES."""

    count: int = Field(1, ge=1, le=1000, description="conformers that are made for each SMILES")
    keep: Literal["lowest", "all"] = Field(
        "lowest",
        description="which of them are kept: the one of lowest energy, or all distinct ones, as id-1, id-2, "
        "..., which stay together in every split",
        json_schema_extra={"with": ["data.conformers.count"]},
    )

    @property
    def several(self) -> bool:
        """Whether a SMILES may become several molecules of the set."""
        return self.count > 1 and self.keep == "all"


class DataConfig(ConfigSection):
    """Where the molecules come from and which part of them trains."""

    shards: Path | None = Field(None, description="folder of a shard set, made by `mmgnn data prepare`")
    cache: Annotated[Path | None, ADDED_LATER] = Field(
        None,
        description="folder for tokens and text vectors of a shard set that cannot be written; null: "
        "text-cache beside the run directory",
        json_schema_extra={"with": ["data.shards"]},
    )
    split: str = Field(
        "random",
        description="stored split: the name of a file in SHARDS/splits/ without its suffix",
        json_schema_extra={"with": ["data.shards", "data.fold"]},
    )
    fold: int = Field(0, ge=0, description="number of the fold of the split, counted from 0")
    train_size: int | None = Field(
        None,
        ge=2,
        description="number of molecules drawn from the training part, a smaller draw being part of a larger "
        "one; null: all of them",
        json_schema_extra={"with": ["data.split"]},
    )
    max_bad_fraction: float = Field(
        0.1, ge=0, le=1, description="prepare fails if a larger share of the molecules is bad"
    )
    rows_per_shard: int = Field(4096, ge=1, description="molecules that are read into one shard")
    workers: int = Field(
        0,
        ge=0,
        description="CPUs that prepare and enrich use; 0: all of this machine, or, for small sources, this "
        "process without Ray",
    )
    units: dict[str, UnitName] = Field(
        {},
        description="unit in which your file gives each target column, e.g. {gap: eV, energy: Hartree}: the "
        "short form of data.targets",
    )
    targets: Annotated[dict[str, TargetConfig], ADDED_LATER] = Field(
        {},
        description="targets of your data with column, unit and kind, e.g. {energy: {column: REF_energy, "
        "unit: Hartree}, solubility: {column: logS, unit: log(mol/L), kind: intensive}}",
    )
    max_label_deviation: Annotated[float | None, ADDED_LATER] = Field(
        1000.0,
        gt=0,
        description="prepare sets a molecule aside whose label is farther than this from the median, in "
        "robust standard deviations (after a fit on composition for extensive targets); null: keep all",
    )
    add_hydrogens: Annotated[bool, ADDED_LATER] = Field(
        False,
        description="prepare adds the hydrogens that the bonds of an SD record require and that it lacks, at "
        "RDKit's positions; false: such records are set aside",
    )
    text_columns: Annotated[dict[FieldName, str], ADDED_LATER] = Field(
        {},
        description="own text fields and the column, SD field or key that each is read from, for example "
        "{description: Description, use: 'Pharmacology and use'}; the words of the column are its label",
        json_schema_extra={"with": ["text.fields", "text.template"]},
    )
    check_names: Annotated[Literal["audit", "opsin"], ADDED_LATER] = Field(
        "audit",
        description="what decides whether the provider names keeps a name: audit (openclatura's own), or "
        "opsin (where that abstains, OPSIN reads the name back to the same structure; needs Java)",
        json_schema_extra={"with": ["data.providers"]},
    )
    pubchem: PubChemConfig = PubChemConfig()
    conformers: Annotated[ConformerConfig, ADDED_LATER] = ConformerConfig()
    providers: list[str] = Field(
        ["table", "file"],
        min_length=1,
        description="sources of text fields, the most trusted first: table (--text), file (the molecules' "
        "own), rdkit, names (IUPAC names by openclatura), or a text provider of an installed package",
    )

    @property
    def declared(self) -> Declared:
        """Everything that is declared of targets, by the name of the target."""
        return {**self.units, **self.targets}

    @model_validator(mode="after")
    def _targets(self) -> DataConfig:
        for name in self.targets:
            if name in self.units:
                raise ValueError(f"data.targets.{name} and data.units.{name}: give its unit in one of them")
        return self

    @model_validator(mode="after")
    def _text_columns(self) -> DataConfig:
        for field, column in self.text_columns.items():
            if field in RESERVED:
                raise ValueError(
                    f"data.text_columns.{field}: the name has a meaning of its own; take another"
                )
            if not column.strip():
                raise ValueError(f"data.text_columns.{field}: name the column that holds it")
        return self

    @model_validator(mode="after")
    def _providers(self) -> DataConfig:
        if len(set(self.providers)) != len(self.providers):
            raise ValueError("data.providers: each provider may stand once")
        for name in self.providers:
            if name not in PROVIDERS and name not in plugins("text_providers"):
                names = [*PROVIDERS, *plugins("text_providers")]
                raise ValueError(
                    f"data.providers: no text provider '{name}'{nearest(name, names)}: "
                    f"name some of {', '.join(map(repr, names))}"
                )
        return self
