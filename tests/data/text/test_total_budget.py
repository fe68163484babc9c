"""One budget for the joined text: whole fields are left out and counted, nothing within a field is cut."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clip_vocabulary import clip_folder
from small_set import NAMES, make_set

from mmgnn_dist.config import TEXT_FIELDS, load_recipe
from mmgnn_dist.data.inspect.overview import look, tables
from mmgnn_dist.data.loading.loader import Loader
from mmgnn_dist.data.shardset.shards import CONTEXT_FIELDS, SELECTED, ShardSet, write_shard
from mmgnn_dist.data.text.encoder_files import resolve_encoder
from mmgnn_dist.data.text.sentences import plain_names, render
from mmgnn_dist.data.text.token_cache import TokenSet
from mmgnn_dist.data.text.tokenizer import load_tokenizer
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import write_json

PAPER = Path(__file__).parents[3] / "launch" / "paper.yaml"
CAT = [49406, 320, 1125, 539, 320, 2368, 49407]  # as CLIP's own tokenizer has it
FIELDS = ["iupac_name", "molecular_formula", "xlogp", "synonyms"]


def with_text(folder: Path, columns: dict[str, list], selected: list | None = None) -> ShardSet:
    """A shard set of made molecules with this text."""
    made = make_set(folder, (len(columns["iupac_name"]),))
    table = made.shards[0].table
    numbers = np.array([columns[name] for name in CONTEXT_FIELDS], np.float32).T
    columns = {**columns, "context": pa.FixedSizeListArray.from_arrays(pa.array(numbers.ravel()), 6)}
    for place, field in enumerate(table.schema):
        if field.name in columns:
            column = columns[field.name]
            array = column if isinstance(column, pa.Array) else pa.array(column)
            table = table.set_column(place, field, array.cast(field.type))
    schema = {}
    if selected is not None:
        table = table.append_column(SELECTED, pa.array(selected, pa.large_list(pa.large_string())))
        schema = {"schema": 2}
    entry = write_shard(folder / "shard-00000.arrow", table.combine_chunks().to_batches()[0])
    write_json(folder / "manifest.json", made.manifest | {"shards": [entry], **schema})
    return ShardSet.open(folder)


def columns_of(count: int) -> dict[str, list]:
    """Names, formulas and numbers of very different lengths."""
    rng = np.random.default_rng(1)
    long = [*NAMES, "-".join(NAMES), None]
    return {
        "iupac_name": [long[i] for i in rng.integers(0, len(long), count)],
        "molecular_formula": ["C6H12O2" if i % 3 else None for i in range(count)],
        "synonyms": [["acetone", "dimethyl ketone", "2-propanone"][: i % 4] for i in range(count)],
        **{name: [round(x, 1) for x in rng.uniform(-4, 90, count)] for name in CONTEXT_FIELDS},
    }


def ids_of(tokenizer, text):
    """The tokens of a text by the tokenizer itself, without the slow layers of transformers."""
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    return tokenizer.backend_tokenizer.encode(text).ids


def expected(shards, fields, tokenizer, total, names_budget, selected=None):
    """For each molecule its text within the budget, and the fields it leaves out: by plain trial of texts."""

    @cache
    def size(text):
        return len(ids_of(tokenizer, text))

    (shard,) = shards.shards
    sentences = {field: render(shard.table, field) for field in fields}
    if "synonyms" in fields:
        bare = size("") + names_budget
        for row, names in enumerate(shard.table.column("synonyms").to_pylist()):
            kept = plain_names(names or [])
            whole = f"Synonyms: {'; '.join(kept)}."
            if len(kept) > names_budget:  # a name has a token at least: save time
                kept = kept[:names_budget]
                whole = f"Synonyms: {'; '.join(kept)}"
            while kept and size(whole) > bare:
                kept = kept[:-1]
                whole = f"Synonyms: {'; '.join(kept)}"
            sentences["synonyms"][row] = whole if kept else None
    texts, left_out = [], []
    for row in range(shards.rows):
        mine = [f for f in fields if sentences[f][row] and (selected is None or f in selected[row])]
        alone = [f for f in mine if size(sentences[f][row]) <= total]
        while size(" ".join(sentences[f][row] for f in alone)) > total:
            alone.pop()
        texts.append(" ".join(sentences[f][row] for f in alone))
        left_out.append([f for f in mine if f not in alone])
    return texts, left_out


def check(shards, tokens, fields, tokenizer, texts, left_out):
    """The loader reads the tokenizer's own encoding of the expected texts; what is left out is counted."""
    read = {}
    for step in Loader(shards, np.arange(shards.rows), ["mu"], tokens, fields, batch=64).epoch(0):
        for batch in step.micro:
            runs = batch.tokens.split(batch.token_ptr.diff().tolist())
            read |= {row: run.tolist() for row, run in zip(batch.rows.tolist(), runs, strict=True)}
    assert read == {row: ids_of(tokenizer, text) if text else [] for row, text in enumerate(texts)}
    assert tokens.left_out == {f: sum(f in fields_out for fields_out in left_out) for f in fields}
    assert tokens.lengths().tolist() == [len(read[row]) for row in range(shards.rows)]


@pytest.mark.parametrize("chosen", [False, True])
def test_whole_fields_are_left_out_from_the_end(tmp_path, minilm, chosen):
    selected = [[f for k, f in enumerate(FIELDS) if row >> k & 1] for row in range(90)] if chosen else None
    shards = with_text(tmp_path / "set", columns_of(90), selected)
    tokens = TokenSet.ensure(shards, FIELDS, minilm, 64, budgets={"synonyms": 12}, total_tokens=32)
    tokenizer = load_tokenizer(minilm)
    texts, left_out = expected(shards, FIELDS, tokenizer, 32, 12, selected)
    assert all(any(f in fields for fields in left_out) for f in ("iupac_name", "synonyms"))
    check(shards, tokens, FIELDS, tokenizer, texts, left_out)
    assert f"left out for {tokens.left_out['synonyms']} by text.total_tokens=32" in tokens.summary()
    assert tokens.counts["iupac_name"]["cut_tokens"] == 0 < tokens.counts["synonyms"]["cut_tokens"]


@pytest.mark.slow
def test_paper_cuts_no_name_formula_or_number_of_qm9(tmp_path, shared):
    """The fields and budgets of launch/paper.yaml with CLIP's own vocabulary, 1,000 molecules of QM9."""
    folder = clip_folder(tmp_path / "clip")
    from rdkit import Chem
    from rdkit.Chem import Descriptors, rdMolDescriptors

    table = pq.read_table(shared / "data" / "pubchem" / "qm9_pubchem_text.parquet")
    rows = np.random.default_rng(0).choice(table.num_rows, 1000, replace=False)
    text = table.take(rows).to_pydict()
    molecules = [Chem.MolFromSmiles(smiles) for smiles in text["pubchem_smiles"]]
    numbers = {
        "molecular_weight": Descriptors.MolWt,
        "xlogp": Descriptors.MolLogP,
        "h_bond_donor_count": rdMolDescriptors.CalcNumHBD,
        "h_bond_acceptor_count": rdMolDescriptors.CalcNumHBA,
        "rotatable_bond_count": rdMolDescriptors.CalcNumRotatableBonds,
        "tpsa": rdMolDescriptors.CalcTPSA,
    }
    columns = {name: [found(m) for m in molecules] for name, found in numbers.items()}
    columns["molecular_formula"] = [rdMolDescriptors.CalcMolFormula(m) for m in molecules]
    columns["synonyms"] = [None if names is None else json.loads(names) for names in text["synonyms"]]
    shards = with_text(tmp_path / "set", {**columns, **{f: text[f] for f in ("iupac_name", "title")}})
    encoder = resolve_encoder(str(folder), None, {})
    tokenizer = load_tokenizer(encoder)
    assert ids_of(tokenizer, "a photo of a cat") == CAT
    config = load_recipe(PAPER).text
    assert config.fields == [f for f in TEXT_FIELDS if f != "title"]
    tokens = TokenSet.ensure(
        shards, config.fields, encoder, 64, budgets=config.budgets, total_tokens=config.total_tokens
    )
    texts, left_out = expected(shards, config.fields, tokenizer, 77, config.budgets["synonyms"])
    check(shards, tokens, config.fields, tokenizer, texts, left_out)
    assert sum(f in fields for fields in left_out for f in ("iupac_name", "molecular_formula")) == 0
    assert tokens.longest <= 77 and sum(map(len, left_out)) > 300
    assert all(tokens.counts[f]["cut_tokens"] == 0 for f in config.fields if f != "synonyms")


def test_budgets_that_cannot_be_met_are_refused(tmp_path, minilm):
    shards = with_text(tmp_path / "set", columns_of(4))
    with pytest.raises(UserError, match=r"total_tokens=513 is more than the 512 tokens .*at most 512"):
        TokenSet.ensure(shards, FIELDS, minilm, 64, total_tokens=513)
    with pytest.raises(UserError, match=r"total_tokens=2 leaves no room beside the 2 special.*at least 3"):
        TokenSet.ensure(shards, FIELDS, minilm, 64, total_tokens=2)
    with pytest.raises(UserError, match=r"text.budgets.xlogp: .* is read whole or not at all"):
        load_recipe(None, ["text.total_tokens=77", "text.budgets.xlogp=8"])


def test_inspect_counts_what_is_left_out(few_shards, tiny_bert):
    words = ["text.total_tokens=60", f"text.fields=[{', '.join(FIELDS)}]", f"text.encoder={tiny_bert}"]
    seen = look(few_shards, load_recipe(None, words).text)
    tokens = TokenSet.ensure(few_shards, FIELDS, resolve_encoder(str(tiny_bert)), 64, total_tokens=60)
    (table,) = [table for table in tables(seen) if table.title.startswith("Tokens")]
    cells = {row[0]: dict(zip(table.columns, row, strict=True)) for row, _ in table.rows}
    for field, count in tokens.left_out.items():
        assert cells[field]["left out"] == f"{count:,}"
        assert cells[field]["budget"] == ("64" if field == "synonyms" else "whole")
    assert sum(tokens.left_out.values()) > 20 and cells["text.fields within 60"]["max"] == str(tokens.longest)


def test_old_recipes_keep_their_fingerprint_and_their_tokens(tmp_path, minilm):
    """A recipe without the new keys is the same run, and a sidecar of it has its old name."""
    recipe = load_recipe(None, ["text.fields=[iupac_name]"])
    assert not {"total_tokens", "projection"} & recipe.identity_fields()["text"].keys()
    assert recipe.fingerprint() != load_recipe(None, ["text.total_tokens=77"]).fingerprint()
    shards = with_text(tmp_path / "set", columns_of(9))
    tokens = TokenSet.ensure(shards, ["iupac_name"], minilm, 64)
    parts = '["IUPAC name: {value}.", 64, false, false]'
    assert tokens.places["iupac_name"] == f"iupac_name-{hashlib.sha256(parts.encode()).hexdigest()[:8]}"
    whole = TokenSet.ensure(shards, ["iupac_name"], minilm, 64, total_tokens=77)
    assert whole.places != tokens.places and whole.reads is not None and tokens.reads is None
