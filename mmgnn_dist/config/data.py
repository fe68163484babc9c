"""Where the molecules and their text come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mmgnn_dist.config.section import ADDED_LATER, ConfigSection
from mmgnn_dist.errors import nearest
from mmgnn_dist.plugins import plugins

PROVIDERS = ("table", "file", "rdkit")


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
    units: dict[str, str] = Field(
        {},
        description="unit in which your file gives each target column, e.g. {gap: eV, energy: Hartree}",
    )
    pubchem: PubChemConfig = PubChemConfig()
    conformers: Annotated[ConformerConfig, ADDED_LATER] = ConformerConfig()
    providers: list[str] = Field(
        ["table", "file"],
        min_length=1,
        description="sources of text fields, the most trusted first: table (--text), file (the molecules' "
        "own), rdkit, or a text provider of an installed package",
    )

    @model_validator(mode="after")
    def _providers(self) -> DataConfig:
        if len(set(self.providers)) != len(self.providers):
            raise ValueError("data.providers: each of table, file and rdkit may stand once")
        for name in self.providers:
            if name not in PROVIDERS and name not in plugins("text_providers"):
                names = [*PROVIDERS, *plugins("text_providers")]
                raise ValueError(
                    f"data.providers: no text provider '{name}'{nearest(name, names)}: "
                    f"name some of {', '.join(map(repr, names))}"
                )
        return self
