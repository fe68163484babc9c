"""The manifest of a shard set: what `manifest.json` holds, entry by entry.

These are the dictionaries of the JSON file itself, with types. What older manifests and those of other tools
may lack is marked as such.
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
    """Over the `count` molecules that have a target, in its unit; None where none has it."""

    count: int
    mean: float | None
    std: float | None
    min: float | None
    max: float | None


# molecules that came in, were kept and set aside, and how many for which reason; `in` fits in no class
MoleculeCounts = TypedDict(
    "MoleculeCounts", {"in": int, "kept": int, "set_aside": int, "reasons": dict[str, int]}
)


class MoleculeStatistics(TypedDict):
    """Statistics of each target, molecules that have each text field, elements that occur, most atoms."""

    target_stats: dict[str, TargetStatistics]
    coverage: dict[str, int]
    elements: list[str]
    max_atoms: int


class SourceEntry(TypedDict):
    """One file, archive or folder that was read: its name, size in bytes, and molecules in it."""

    name: str
    bytes: int
    rows: int


class TextTableEntry(TypedDict):
    """One table of `--text`, and how many molecules were found in it by each of `join.JOINS`."""

    name: str
    joined: dict[str, int]


class PrepareEntry(TypedDict):
    """The settings of the preparation, the fingerprint of its plan, and the plugins that took part."""

    rows_per_shard: int
    providers: list[str]
    plan: str
    plugins: NotRequired[list[dict[str, str]]]


class IdentityCounts(TypedDict):
    """Molecules known by their InChIKey, by SMILES alone and by id alone; and how many are distinct."""

    inchikey: int
    smiles: int
    id: int
    distinct: int


class ShardManifest(TypedDict):
    """The whole of `manifest.json`.

    Attributes:
        kind: `shards.KIND`.
        schema: `shards.SCHEMA_VERSION` of the program that wrote it.
        shards: in the order of their rows.
        rows: molecules in all shards.
        targets: in the order of `Shard.y`.
        target_stats: statistics of each target.
        coverage: molecules that have each text field.
        elements: symbols of the elements that occur, by atomic number.
        max_atoms: atoms of the largest molecule.
        counts: in = kept + set aside.
        sources: what was read.
        text: tables of text that were joined, the most important first.
        versions: of the software that took part.
        prepare: settings and fingerprint.
        identities: by what the molecules are told apart.
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
