"""Providers of the text of a molecule: an ordered list, joined field by field.

The recipe's `data.providers` names them, the most trusted first: `table` (the tables of `--text`), `file`
(the text in the molecule's own file), `rdkit` (see `chem.descriptors`), `names` (see `names_provider`), and
those that installed packages add. A field comes from the first provider that has it; `field_sources` records
which one. RDKit and openclatura are asked only for molecules that still lack one of their fields.
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
from mmgnn_dist.chem.readers.source import Spread
from mmgnn_dist.config import TEXT_FIELDS
from mmgnn_dist.config.data import PROVIDERS
from mmgnn_dist.data.prepare.text.join import JOINS, MISFITS, clean_text, join_tables, overlay
from mmgnn_dist.data.prepare.text.names_provider import NamesText
from mmgnn_dist.data.prepare.text_provider import TextProvider
from mmgnn_dist.errors import UserError, nearest
from mmgnn_dist.plugins import Plugin, plugins

GROUP = "text_providers"


class TableText(TextProvider):
    """The tables of text fields that the user gives by `--text`.

    Attributes:
        joined: for each table, the number of requested molecules found by each of `join.JOINS`.
    """

    name, version, fields = "table", "", TEXT_FIELDS
    asks_all = True  # `joined` counts the molecules that the tables have, not those that need them

    def __init__(self, tables: Sequence[Path], own: Sequence[str]):
        self.own = own
        self.tables = list(tables)  # staged, the most important first
        self.joined = np.zeros((len(self.tables), len(JOINS)), np.int64)

    def texts(self, molecules: Molecules) -> pa.Table:
        """The fields of the first table that has them."""
        text, counts = join_tables(molecules, blank_text(len(molecules), self.own), self.tables)
        self.joined += np.array(counts, np.int64).reshape(self.joined.shape)
        return text


class FileText(TextProvider):
    """The text in the molecules' own file."""

    name, version, fields = "file", "", TEXT_FIELDS
    asks_all = True  # it costs nothing

    def texts(self, molecules: Molecules) -> pa.Table:
        """The text that the molecules carry."""
        return molecules.text


class RdkitText(TextProvider):
    """Fields that RDKit computes from SMILES or from the atoms."""

    name, fields = "rdkit", DESCRIPTOR_FIELDS

    def __init__(self) -> None:
        self.version = rdkit_version()

    def texts(self, molecules: Molecules) -> pa.Table:
        """RDKit's descriptors."""
        fields, read = describe(molecules.smiles, molecules.z, molecules.z_count)
        version = f"RDKit {self.version}"
        from_smiles = json.dumps(dict.fromkeys(DESCRIPTOR_FIELDS, version))
        from_atoms = json.dumps(dict.fromkeys(FROM_ATOMS, f"{version} from the atoms"))
        origins = pc.if_else(pa.array(read), from_smiles, from_atoms)
        return fields.append_column("field_sources", origins.cast(pa.large_string()))


def make_providers(
    names: Sequence[str],
    tables: Sequence[Path],
    own: Sequence[str] = (),
    check_names: str = "audit",
    spread: Spread = map,
) -> list[TextProvider]:
    """The providers of `data.providers`, in the same order.

    Args:
        names: names of the providers.
        tables: staged tables of `--text`, the most important first.
        own: text fields of the user (see `join.own_fields`).
        check_names: `data.check_names`.
        spread: maps a function over portions of molecules, perhaps in parallel.

    Raises:
        UserError: there is no such provider, its plugin cannot be used, or its software is not installed.
    """
    built_in = {
        TableText.name: lambda: TableText(tables, own),
        FileText.name: FileText,
        RdkitText.name: RdkitText,
        NamesText.name: lambda: NamesText(check_names, spread),
    }
    return [built_in[name]() if name in built_in else _added(name) for name in names]


def provider_plugins(names: Sequence[str]) -> list[Plugin]:
    """The plugins behind some providers; built-in providers have none."""
    return [
        plugin
        for name, plugin in plugins(GROUP, PROVIDERS).items()
        if name in names and name not in PROVIDERS
    ]


def gather_text(molecules: Molecules, providers: Sequence[TextProvider], own: Sequence[str] = ()) -> pa.Table:
    """The text of some molecules by all providers, in clean form.

    Args:
        molecules: the molecules, with their own text in clean form.
        providers: the providers, the most trusted first.
        own: text fields of the user (see `join.own_fields`).

    Raises:
        UserError: a provider of another package returns no valid text.
    """
    text = blank_text(len(molecules), own)
    for provider in providers:
        if provider.asks_all:
            provider_text = _clean(provider, molecules, own)
        else:
            lacking = np.zeros(len(molecules), bool)
            for name in provider.fields:
                lacking |= np.asarray(text[name].is_null(), dtype=bool)
            places = pa.array(np.cumsum(lacking) - 1, mask=~lacking)
            provider_text = _clean(provider, molecules.keep(lacking), own).take(places)
        text = overlay(provider_text, text)
    return text


def blank_text(rows: int, own: Sequence[str] = ()) -> pa.Table:
    """A text table in clean form in which every field is missing."""
    return clean_text(pa.table({"cid": pa.nulls(rows, pa.large_string())}), "", own)


def _added(name: str) -> TextProvider:
    """The provider of a plugin."""
    added_plugins = plugins(GROUP, PROVIDERS)
    if name not in added_plugins:
        names = [*PROVIDERS, *added_plugins]
        raise UserError(
            f"no text provider '{name}'{nearest(name, names)}: there are {', '.join(names)}; install the "
            "package that adds it, or name others by data.providers"
        )
    plugin = added_plugins[name]
    provider_class = plugin.load()
    if not (isinstance(provider_class, type) and issubclass(provider_class, TextProvider)):
        raise plugin.error(f"{plugin.value} is no subclass of {TextProvider.__module__}.TextProvider")
    provider: TextProvider = provider_class()
    properties = [getattr(provider, word, None) for word in ("name", "version", "fields")]
    if (
        properties[0] != name
        or not isinstance(properties[1], str)
        or not properties[2]
        or not {*properties[2]} <= {*TEXT_FIELDS}
    ):
        raise plugin.error(
            f"its name, version and fields are {properties}; the name has to be that of its entry point, the "
            f"version a string, and the fields some of {', '.join(TEXT_FIELDS)}"
        )
    return provider


def _clean(provider: TextProvider, molecules: Molecules, own: Sequence[str]) -> pa.Table:
    """The text of one provider in clean form.

    Raises:
        UserError: it is not a valid text of these molecules.
    """
    text = provider.texts(molecules)
    origin = f"{provider.name} {provider.version}".strip()
    try:
        if text.schema == blank_text(0, own).schema and len(text) == len(molecules):
            return text
        if len(text) != len(molecules) or not {*text.column_names} <= {*provider.fields, "field_sources"}:
            raise ValueError(f"{len(text)} rows for {len(molecules)} molecules, of {text.column_names}")
        return clean_text(text, origin, own)
    except MISFITS as error:
        raise UserError(
            f"text provider {origin} gives no text ({type(error).__name__}: {error}): it must return a "
            f"table with one row per molecule and columns out of {', '.join(provider.fields)}"
        ) from None
