"""Types of the entries of `manifest.json`, the manifest of a shard set.

They describe the dictionaries of the JSON file itself. Entries that older manifests and those of other tools
may lack are `NotRequired`.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict


class ShardEntry(TypedDict):
    """One shard: name of its file, molecules, atoms, size in bytes and SHA-256 of the content."""

    name: str
    rows: int
    atoms: int
    bytes: int
    sha256: str


class TargetEntry(TypedDict):
    """One target: canonical name and unit, and its kind (see `chem.targets`)."""

    name: str
    unit: str
    kind: str


class TargetStatistics(TypedDict):
    """Statistics of one target over the `count` molecules that have it, in its unit; None if none has it."""

    count: int
    mean: float | None
    std: float | None
    min: float | None
    max: float | None


# molecules read, kept and set aside, and the number per reason; `in` is a keyword, so this is no class
MoleculeCounts = TypedDict(
    "MoleculeCounts", {"in": int, "kept": int, "set_aside": int, "reasons": dict[str, int]}
)


class MoleculeStatistics(TypedDict):
    """Statistics of each target, coverage of each text field, elements that occur, most atoms."""

    target_stats: dict[str, TargetStatistics]
    coverage: dict[str, int]
    elements: list[str]
    max_atoms: int


class SourceEntry(TypedDict):
    """One file, archive or folder that was read: its name, size in bytes, and number of molecules."""

    name: str
    bytes: int
    rows: int


class TextTableEntry(TypedDict):
    """One table of `--text`, and the number of molecules that each of `join.JOINS` found in it."""

    name: str
    joined: dict[str, int]


class PrepareEntry(TypedDict):
    """The settings of the preparation, the fingerprint of its plan, and the plugins that took part."""

    rows_per_shard: int
    providers: list[str]
    plan: str
    plugins: NotRequired[list[dict[str, str]]]


class IdentityCounts(TypedDict):
    """Numbers of molecules identified by InChIKey, by SMILES only and by id only, and of distinct ones."""

    inchikey: int
    smiles: int
    id: int
    distinct: int


class StateCounts(TypedDict):
    """Numbers of molecules by charge, such as `-1`, and by multiplicity, in ascending order."""

    charge: dict[str, int]
    multiplicity: dict[str, int]


class UnstatedCounts(TypedDict):
    """Neutral singlets that are ions by SMILES, formula or name; others with an odd number of electrons."""

    ions: int
    odd: int


class ShardManifest(TypedDict):
    """The content of `manifest.json`.

    Attributes:
        kind: `shards.KIND`.
        schema: the oldest version of the schema that has all columns of the set.
        shards: the shards in the order of their rows.
        rows: molecules in all shards.
        targets: the targets in the order of `Shard.y`.
        target_stats: statistics of each target.
        coverage: number of molecules that have each text field.
        elements: symbols of the elements that occur, by atomic number.
        max_atoms: atoms of the largest molecule.
        counts: molecules read, kept and set aside; in = kept + set aside.
        sources: files, archives and folders that were read.
        text: tables of text that were joined, the most important first.
        versions: versions of the software that took part.
        prepare: settings and fingerprint of the preparation.
        identities: number of molecules per kind of identity.
        states: charges and multiplicities, if any molecule is no neutral singlet.
        unstated: molecules that cannot be the neutral singlets that they are stored as.
        assumed_multiplicity: number of molecules with the lowest possible multiplicity, for want of another.
        notes: number of molecules per note of `notes.parquet`; absent without notes.
        conformers: ids name the conformers of one molecule or formula, `GROUP#NUMBER`; absent otherwise.
    """

    kind: str
    schema: int
    shards: list[ShardEntry]
    rows: int
    targets: list[TargetEntry]
    target_stats: NotRequired[dict[str, TargetStatistics]]
    coverage: NotRequired[dict[str, int]]
    elements: NotRequired[list[str]]
    max_atoms: NotRequired[int]
    counts: NotRequired[MoleculeCounts]
    sources: NotRequired[list[SourceEntry]]
    text: NotRequired[list[TextTableEntry]]
    versions: NotRequired[dict[str, str]]
    prepare: NotRequired[PrepareEntry]
    identities: NotRequired[IdentityCounts]
    states: NotRequired[StateCounts]
    unstated: NotRequired[UnstatedCounts]
    assumed_multiplicity: NotRequired[int]
    notes: NotRequired[dict[str, int]]
    conformers: NotRequired[bool]
