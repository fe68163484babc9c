"""Charges and multiplicities of a set, counted per shard: for its manifest, and for the user.

A set whose molecules are all neutral singlets has no entries. Molecules that cannot be what they are stored
as, for want of a statement in their source, are counted: ions by their SMILES, else their formula, else their
name; and molecules with an odd number of electrons.
"""

from __future__ import annotations

from collections import Counter
from typing import TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmgnn_dist.chem.states.electronic_state import proton_counts, smiles_charges
from mmgnn_dist.data.shardset.manifest import ShardManifest, StateCounts, UnstatedCounts
from mmgnn_dist.data.shardset.shards import STATE_FIELDS

FORMULA = r"[-+]\d*$"  # PubChem's `C2H3O2-`, `Ca+2`
# names of one part; a zwitterion has both endings, and a name in parts may be that of a salt or an ester
CATION, ANION = r"^[^\s;]*(?:ium|\(\d\+\))$", r"^[^\s;]*(?:ate|anide|\(\d-\))$"
IN_CATION, IN_ANION = "ium", r"ate|ide|ido|idyl"


class StateSummary(TypedDict):
    """States of one shard."""

    states: StateCounts
    unstated: UnstatedCounts


class StateEntries(TypedDict, total=False):
    """The entries of a manifest that tell of states; see `ShardManifest`."""

    states: StateCounts
    unstated: UnstatedCounts
    assumed_multiplicity: int


def count_states(batch: pa.RecordBatch) -> StateSummary:
    """Count the charges and multiplicities of the molecules of a shard."""
    rows = batch.num_rows
    charge, multiplicity = np.zeros(rows, np.int8), np.ones(rows, np.int8)
    if STATE_FIELDS[0] in batch.schema.names:
        charge, multiplicity = (batch.column(name).to_numpy() for name in STATE_FIELDS)
    z = batch.column("z")
    protons = proton_counts(z.flatten().to_numpy(), np.diff(z.offsets.to_numpy()))
    ions = (charge == 0) & _are_ions(batch)
    odd = ((protons - charge + multiplicity) % 2 == 0) & ~ions
    return {
        "states": {"charge": _numbers(charge), "multiplicity": _numbers(multiplicity)},
        "unstated": {"ions": int(ions.sum()), "odd": int(odd.sum())},
    }


def combine_states(summaries: list[StateSummary], assumed: int) -> StateEntries:
    """Combine the counts of all shards to entries of the manifest; none where all is plain.

    Args:
        summaries: the shards.
        assumed: molecules whose multiplicity is the lowest possible one, for want of a stated one.
    """
    entries: StateEntries = {}
    charge, multiplicity = Counter[int](), Counter[int]()
    for summary in summaries:
        charge.update({int(value): count for value, count in summary["states"]["charge"].items()})
        multiplicity.update({int(value): count for value, count in summary["states"]["multiplicity"].items()})
    if charge.keys() - {0} or multiplicity.keys() - {1}:
        entries["states"] = {"charge": _sorted(charge), "multiplicity": _sorted(multiplicity)}
    unstated: UnstatedCounts = {
        "ions": sum(summary["unstated"]["ions"] for summary in summaries),
        "odd": sum(summary["unstated"]["odd"] for summary in summaries),
    }
    if any(unstated.values()):
        entries["unstated"] = unstated
    if assumed:
        entries["assumed_multiplicity"] = assumed
    return entries


def state_lines(manifest: ShardManifest) -> list[str]:
    """Return the lines about charge and multiplicity for the report of a preparation."""
    lines = []
    if states := manifest.get("states"):
        charge, multiplicity = _listed(states["charge"]), _listed(states["multiplicity"])
        lines.append(f"molecules by charge {charge}; by multiplicity {multiplicity}")
    if assumed := manifest.get("assumed_multiplicity"):
        lines.append(
            f"{assumed} molecules have unpaired electrons and no multiplicity: the lowest possible one is "
            "taken; a column multiplicity says another"
        )
    if unstated := manifest.get("unstated"):
        kinds = []
        if unstated["ions"]:
            kinds.append(f"{unstated['ions']} molecules are ions by SMILES, formula or name")
        if unstated["odd"]:
            kinds.append(f"{unstated['odd']} molecules have an odd number of electrons")
        lines.append(
            f"{' and '.join(kinds)}, and the source gives no charge: they are stored as neutral singlets; "
            "give columns charge and multiplicity"
        )
    return lines


def _are_ions(batch: pa.RecordBatch) -> np.ndarray:
    """Which molecules are ions by SMILES, else by formula, else by name, bool [rows]."""
    written = smiles_charges(batch.column("smiles"))
    formula, name = batch.column("molecular_formula"), batch.column("iupac_name")
    by_formula = _matches(formula, FORMULA)
    by_name = (_matches(name, CATION) & ~_matches(name, IN_ANION)) | (
        _matches(name, ANION) & ~_matches(name, IN_CATION)
    )
    several = np.diff(batch.column("z").offsets.to_numpy()) > 1  # a lone atom has the name of its element
    by_name &= several | _matches(name, r"[-+]\)$")
    unwritten = np.where(np.asarray(formula.is_valid(), dtype=bool), by_formula, by_name)
    return np.where(np.isnan(written), unwritten, written != 0)


def _matches(column: pa.Array, pattern: str) -> np.ndarray:
    return np.asarray(pc.match_substring_regex(column, pattern).fill_null(False), dtype=bool)


def _numbers(values: np.ndarray) -> dict[str, int]:
    found, counts = np.unique(values, return_counts=True)
    return {str(value): count for value, count in zip(found.tolist(), counts.tolist(), strict=True)}


def _sorted(counts: Counter[int]) -> dict[str, int]:
    return {str(value): counts[value] for value in sorted(counts)}


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{value}: {count}" for value, count in counts.items())
