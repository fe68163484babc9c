"""PubChem's text for the molecules of a shard set or a file, from PubChem's web service.

A cache keeps the answers, so that nothing is asked twice and an interrupted run continues. The cost is
reported before the first request; for very many molecules, so is the advice to use the bulk files (see
`pubchem.bulk`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmgnn_dist.config import TEXT_FIELDS, PubChemConfig
from mmgnn_dist.data.shardset.shards import CONTEXT_FIELDS
from mmgnn_dist.pubchem.cache import Cache
from mmgnn_dist.pubchem.client import Client, ServiceDown
from mmgnn_dist.pubchem.limits import Limits
from mmgnn_dist.pubchem.lookup import BATCH, KEYS, Compound, Lookup, Report, choose
from mmgnn_dist.pubchem.text_table import (
    ROWS,
    TEXT_SCHEMA,
    EnrichCounts,
    EnrichResult,
    FoundCounts,
    KeyCounts,
    check_output,
    result_lines,
    source_keys,
    valid_keys,
    write_text_table,
)

ADVISE_BULK = 50_000  # number of molecules above which the bulk files are recommended
CACHE_NAME = "pubchem-cache.sqlite"


def enrich(
    source: Path,
    to: Path,
    config: PubChemConfig | None = None,
    report: Report | None = None,
    say: Callable[[str], None] = lambda line: None,
    limits: Limits | None = None,
) -> EnrichResult:
    """Look up molecules in PubChem's web service and write the table of their text.

    Args:
        source: shard set, or Parquet file with a column `inchikey`.
        to: Parquet file to make; one that an earlier enrichment made is replaced.
        config: address of the service, cache, age of negative answers.
        report: called with the number of settled identifiers, their total, and the current step.
        say: called with each line on the cost before the first request.
        limits: pace and patience; None means PubChem's own limits.

    Raises:
        UserError: wrong input, or the cache is in use.
        ServiceDown: the service failed too often; the same command continues later.
    """
    started = time.monotonic()
    config, limits = config or PubChemConfig.model_validate({}), limits or Limits()
    check_output(to)
    cache_path = config.cache or to.parent / CACHE_NAME
    client = Client(config.base_url, limits)
    keys, wanted = _wanted(source)
    with Cache(cache_path, client.base_url) as cache:
        lookup = Lookup(client, cache, config.max_age, report or (lambda done, total, note: None))
        for line in _cost(wanted, len(cache.open_questions(KEYS.kind, keys, config.max_age)), limits):
            say(line)
        try:
            cids_by_key = lookup.cids(keys)
            compounds = lookup.compounds(sorted({cid for cids in cids_by_key.values() for cid in cids}))
        except ServiceDown as error:
            raise ServiceDown(
                f"{error}; what it answered is kept in {cache_path}: run the same command again later"
            ) from None
    chosen = sorted(
        ((choose([compounds[cid] for cid in cids]), key) for key, cids in cids_by_key.items()),
        key=lambda pair: (pair[0].cid, pair[1]),
    )
    found: FoundCounts = {
        **wanted,
        "found": len(chosen),
        "several": sum(len(cids) > 1 for cids in cids_by_key.values()),
        "requests": client.requests,
    }
    tables = (_table(chosen[first : first + ROWS]) for first in range(0, len(chosen), ROWS))
    coverage = write_text_table(to, tables, {"service": client.base_url, **found})
    counts: EnrichCounts = {**found, "coverage": coverage}
    return EnrichResult(to, counts, time.monotonic() - started, result_lines(to, counts))


def _wanted(source: Path) -> tuple[list[str], KeyCounts]:
    """Return (distinct valid InChIKeys, counts of molecules)."""
    molecules, without, distinct = 0, 0, set[str]()
    for keys in source_keys(source):
        valid = valid_keys(keys)
        molecules += len(keys)
        without += len(keys) - len(valid)
        distinct.update(valid.to_pylist())
    return sorted(distinct), {"molecules": molecules, "without_key": without, "keys": len(distinct)}


def _cost(counts: KeyCounts, waiting: int, limits: Limits) -> list[str]:
    """Describe the least and the most requests; text is requested only for the keys that are found."""
    lists = -(-waiting // BATCH)
    least, most = (limits.least_time(times * lists) / 60 for times in (1, 3))
    cached = counts["keys"] - waiting
    lines = [
        f"{counts['molecules']:,} molecules, {counts['keys']:,} InChIKeys, {cached:,} known from the cache: "
        f"{lists:,} to {3 * lists:,} requests, at least {least:.1f} to {most:.1f} minutes"
    ]
    if waiting > ADVISE_BULK:
        lines.append(
            f"more than {ADVISE_BULK:,} molecules: PubChem asks for its bulk files instead; get CID-*.gz of "
            "https://ftp.ncbi.nlm.nih.gov/pubchem/Compound/Extras/ and give their folder with --bulk"
        )
    return lines


def _table(chosen: list[tuple[Compound, str]]) -> pa.Table:
    """Return rows of the output as a table."""
    columns: dict[str, list[Any]] = {name: [] for name in TEXT_SCHEMA.names}
    for compound, key in chosen:
        sources = {}
        for name in TEXT_FIELDS:
            value = compound.fields.get(name)
            if name in CONTEXT_FIELDS:
                value = _number(value)
            elif name != "synonyms":
                value = _text(value)
            columns[name].append(None if value == [] else value)
            if columns[name][-1] is not None:
                sources[name] = "web service, " + time.strftime("%Y-%m-%d", time.gmtime(compound.dates[name]))
        columns["inchikey"].append(key)
        columns["cid"].append(compound.cid)
        columns["smiles"].append(_text(compound.fields.get("smiles")))
        columns["field_sources"].append(json.dumps(sources) if sources else None)
    return pa.table(columns, schema=TEXT_SCHEMA)


def _number(value: Any) -> float | None:
    """Convert a value to a number; PubChem may send it as a string, "180.16"."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _text(value: Any) -> str | None:
    return " ".join(str(value).split()) or None if value is not None else None
