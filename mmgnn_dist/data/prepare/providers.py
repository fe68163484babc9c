"""Who gives the text of a molecule: an ordered list of providers, joined field by field.

The recipe's `data.providers` names them, the most trusted first: `table` (the tables given by `--text`),
`file` (what the molecule's own file holds) and `rdkit` (see `chem.descriptors`). A field is taken from the
first that has it, and `field_sources` keeps who that was. RDKit is asked only for molecules that still lack
one of its fields.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmgnn_dist.chem.descriptors import DESCRIPTOR_FIELDS, FROM_ATOMS, describe
from mmgnn_dist.chem.molecules import Molecules
from mmgnn_dist.chem.rdkit_tools import rdkit_version
from mmgnn_dist.data.prepare.join import clean_text, join_tables, overlay


def gather_text(
    molecules: Molecules, own: pa.Table, tables: list[Path], providers: Sequence[str]
) -> tuple[pa.Table, list[list[int]]]:
    """The text of some molecules by all providers.

    Args:
        molecules: whose text is wanted.
        own: what their file holds, in clean form.
        tables: staged tables of `--text`, the most important first.
        providers: names, the most trusted first.

    Returns:
        The text in clean form and, for each table, how many molecules were found by each of `join.JOINS`.
    """
    nothing = clean_text(pa.table({"cid": pa.nulls(len(molecules), pa.large_string())}), "")
    text, counts = nothing, [[0, 0, 0] for _ in tables]
    for provider in providers:
        if provider == "table":
            given, counts = join_tables(molecules, nothing, tables)
        elif provider == "file":
            given = own
        else:
            given = _by_rdkit(molecules, text)
        text = overlay(given, text)
    return text, counts


def _by_rdkit(molecules: Molecules, known: pa.Table) -> pa.Table:
    """RDKit's fields, of the molecules that lack one of them."""
    lacking = np.zeros(len(molecules), bool)
    for name in DESCRIPTOR_FIELDS:
        lacking |= np.asarray(known[name].is_null(), dtype=bool)
    chosen = molecules.keep(lacking)
    fields, read = describe(chosen.smiles, chosen.z, chosen.z_count)
    version = f"RDKit {rdkit_version()}"
    said = {
        flag: json.dumps({name: origin for name in names})
        for flag, names, origin in (
            (True, DESCRIPTOR_FIELDS, version),
            (False, FROM_ATOMS, f"{version} from the atoms"),
        )
    }
    origins = pc.if_else(pa.array(read), said[True], said[False])
    text = clean_text(fields.append_column("field_sources", origins.cast(pa.large_string())), version)
    places = np.cumsum(lacking) - 1
    return text.take(pa.array(places, mask=~lacking))
