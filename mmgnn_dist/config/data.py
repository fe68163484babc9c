"""Where the molecules and their text come from."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from mmgnn_dist.config.section import ConfigSection
from mmgnn_dist.errors import nearest
from mmgnn_dist.plugins import plugins

PROVIDERS = ("table", "file", "rdkit")


class PubChemConfig(ConfigSection):
    """PubChem's web service, for `mmgnn data enrich`."""

    base_url: str = Field(
        "https://pubchem.ncbi.nlm.nih.gov/rest/pug", description="PUG REST, or a mirror of it"
    )
    cache: Path | None = Field(
        None, description="SQLite file of its answers; none: pubchem-cache.sqlite beside the output"
    )
    max_age: float = Field(90, ge=0, description="days after which what it did not have is asked again")


class DataConfig(ConfigSection):
    """Where the molecules come from and which part of them trains."""

    shards: Path | None = Field(None, description="shard set made by `mmgnn data prepare`")
    split: str = Field("random", description="stored split, a file of SHARDS/splits/ without its suffix")
    fold: int = Field(0, ge=0, description="which fold of the split")
    train_size: int | None = Field(
        None,
        ge=2,
        description="train on so many molecules of the training part; a smaller draw is within a larger",
    )
    max_bad_fraction: float = Field(0.1, ge=0, le=1, description="prepare fails if more is set aside")
    rows_per_shard: int = Field(4096, ge=1, description="molecules read into one shard")
    workers: int = Field(0, ge=0, description="CPUs for Ray; 0: all of this machine")
    units: dict[str, str] = Field({}, description="unit of each target column of a user's file")
    pubchem: PubChemConfig = PubChemConfig()
    providers: list[str] = Field(
        ["table", "file"],
        min_length=1,
        description="who gives text fields, the most trusted first: table (--text), file (the molecules' "
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
