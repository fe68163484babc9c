"""Token sidecars of a shard set: SHARDS/tokens/KEY/FIELD-WORDING/shard-00000.arrow, one run per molecule.

KEY stands for encoder and tokenizer, WORDING for the sentence and the budget of the field. Runs carry no
special tokens: a molecule's input is prefix + runs of the chosen fields + suffix, put together by the loader
(`textinput`), so another choice of fields redoes nothing. Synonyms that are sampled have a run each. Every
file says which shard (SHA-256) it was made from and what was cut; FIELD-WORDING.json, written last, vouches
for the files. Files are content-determined and replaced whole, so two processes may make the same sidecar at
once, and an interrupted one continues at its shard.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa

from mmgnn_dist.data.shardset.ragged import ragged_index
from mmgnn_dist.data.shardset.shards import Shard, ShardSet
from mmgnn_dist.data.text.encoder_files import EncoderFiles
from mmgnn_dist.data.text.sentences import TEMPLATE, Wording, render, render_synonyms, sentence_of
from mmgnn_dist.data.text.sidecar_records import SidecarCounts, SidecarEntry, SidecarManifest, total_counts
from mmgnn_dist.errors import UserError, need
from mmgnn_dist.files import atomic_path, read_json, sha256, write_json

META = b"mmgnn.tokens"
PROBE = "water"
Progress = Callable[[int, int, str], None]  # (sentences done, sentences in all, field)


@dataclass(frozen=True)
class Runs:
    """Tokens of one field in one shard, mapped: run i is values[ptr[i]:ptr[i + 1]], empty where absent.

    A molecule has the run of its row; where `items` is given it has the runs items[row]:items[row + 1], at
    least one, of which the loader takes one.
    """

    values: np.ndarray  # uint16 or int32 [tokens]
    ptr: np.ndarray  # int64 [runs + 1]
    items: np.ndarray | None = None  # int64 [rows + 1]

    def longest(self) -> np.ndarray:
        """Tokens of the longest run of each molecule, int64 [rows]."""
        length = np.diff(self.ptr)
        if self.items is None or not len(length):
            return length
        return np.maximum.reduceat(length, self.items[:-1])


class TokenSet:
    """Token runs of some fields of a shard set; made by `ensure`.

    Attributes:
        folder: SHARDS/tokens/KEY.
        places: name of each field's sidecar in it, FIELD-WORDING.
        key: stands for tokenizer, sentences and budgets of all fields.
        fields: names of the fields.
        encoder: name of the encoder.
        runs: for each field the `Runs` of every shard.
        prefix, suffix: special tokens around the joined runs, arrays of the runs' dtype.
        rows: molecules of the shard set.
        pad: id to pad with.
        vocab: number of ids.
        ordinary: ids that are no special token, int64.
        max_positions: most tokens the encoder can place, specials included; None: no limit.
        budgets: most tokens of each field.
        counts: for each field: rows, present (molecules), runs (that are not empty), tokens, cut_molecules,
            cut_tokens.
    """

    def __init__(
        self,
        folder: Path,
        places: dict[str, str],
        encoder: EncoderFiles,
        tokenizer: Any,
        manifests: dict[str, SidecarManifest],
    ):
        self.folder = folder
        self.places = places
        self.fields = list(places)
        self.key = f"{folder.name}/{','.join(places.values())}"
        self.encoder = encoder.name
        self.budgets: dict[str, int] = {field: manifests[field]["budget"] for field in places}
        self.max_positions = encoder.max_positions
        self.rows: int = max((manifests[field]["counts"]["rows"] for field in places), default=0)
        self.vocab = len(tokenizer)
        self.ordinary = np.setdiff1d(np.arange(self.vocab), tokenizer.all_special_ids)
        self.pad: int = tokenizer.pad_token_id or 0
        self.prefix, self.suffix = (np.array(ids, _dtype(tokenizer)) for ids in special_tokens(tokenizer))
        self.runs = {
            field: [_open(folder / place / file["name"]) for file in manifests[field]["files"]]
            for field, place in places.items()
        }
        self.counts: dict[str, dict[str, int]] = {field: manifests[field]["counts"] for field in places}

    @classmethod
    def ensure(
        cls,
        shards: ShardSet,
        fields: Sequence[str],
        encoder: EncoderFiles,
        budget: int,
        progress: Progress | None = None,
        budgets: Mapping[Any, int] | None = None,
        template: Mapping[Any, str] | None = None,
        sample_synonyms: bool = False,
        digest: Callable[[Path], str] = sha256,
    ) -> TokenSet:
        """Open the sidecars of `fields`; make what is missing, damaged, or of another shard.

        Args:
            shards: the shard set.
            fields: text fields, in the order in which they are joined.
            encoder: whose tokenizer.
            budget: tokens kept of one field of one molecule; what is cut is counted.
            progress: called with (sentences done, sentences in all, field).
            budgets: budget of single fields, instead of `budget`.
            template: sentences instead of the built-in ones (see `text.render`).
            sample_synonyms: a run for each synonym, instead of one for all.
            digest: what gives the SHA-256 of a file.

        Raises:
            UserError: no such field, no fast tokenizer, transformers missing, folder not writable.
        """
        tokenizer = load_tokenizer(encoder)
        folder = shards.path / "tokens" / token_key(encoder)
        total, done = shards.rows * len(fields), 0
        manifests: dict[str, SidecarManifest] = {}
        places: dict[str, str] = {}
        for field in fields:
            wording = Wording(
                field,
                sentence_of(field, template or {}),
                (budgets or {}).get(field, budget),
                each=sample_synonyms and field == "synonyms",
            )
            places[field] = wording.place
            manifest_file = folder / f"{wording.place}.json"
            old = _old_manifest(manifest_file)
            known = {file["name"]: file for file in old["files"]}
            files = []
            try:
                for entry, shard in zip(shards.manifest["shards"], shards.shards, strict=True):
                    path = folder / wording.place / entry["name"]
                    file = _check(path, entry["sha256"], known.get(path.name), digest)
                    if file is None:
                        file = _write(path, shard, entry["sha256"], wording, tokenizer, digest)
                    files.append(file)
                    done += shard.rows
                    if progress:
                        progress(done, total, field)
                content = {**asdict(wording), "counts": total_counts(files), "files": files}
                manifests[field] = cast(SidecarManifest, content)
                if manifests[field] != old:
                    write_json(manifest_file, manifests[field])
            except OSError as error:
                raise UserError(f"cannot write tokens to {folder}: {error.strerror or error}") from None
        return cls(folder, places, encoder, tokenizer, manifests)

    def lengths(self, fields: Sequence[str] | None = None) -> np.ndarray:
        """Tokens of each molecule with its special tokens, 0 without text, int64 [rows].

        Of synonyms that are sampled the longest counts.
        """
        runs = [self.runs[field] for field in (self.fields if fields is None else fields)]
        length = sum(np.concatenate([run.longest() for run in field]) for field in runs)
        return np.where(length > 0, length + len(self.prefix) + len(self.suffix), 0)

    @property
    def blank(self) -> tuple[int, ...]:
        """Input of the encoder for an empty text: its special tokens, or one pad where it has none."""
        return tuple(np.concatenate([self.prefix, self.suffix]).tolist()) or (self.pad,)

    @cached_property
    def longest(self) -> int:
        """Length of the longest molecule, all fields and special tokens included."""
        return int(self.lengths().max(initial=0))

    def check_length(self) -> None:
        """Refuse an input that is longer than the encoder's positions.

        Raises:
            UserError: naming both lengths and what to change.
        """
        if self.max_positions is not None and self.longest > self.max_positions:
            raise UserError(
                f"the longest text has {self.longest} tokens, {self.encoder} reads {self.max_positions}: "
                f"lower text.field_tokens={max(self.budgets.values())} or text.budgets, or take fewer of the "
                f"{len(self.fields)} fields"
            )

    def summary(self) -> str:
        """One line: coverage, tokens of a run, and what was cut, per field."""
        parts = []
        for field, count in self.counts.items():
            mean = count["tokens"] / max(count["runs"], 1)
            part = f"{field} {count['present']}/{count['rows']} molecules, {mean:.1f} tokens"
            if count["cut_molecules"]:
                part += (
                    f", {count['cut_tokens']} cut from {count['cut_molecules']} molecules at "
                    f"{self.budgets[field]}"
                )
            parts.append(part)
        return f"tokens of {self.encoder}: " + "; ".join(parts)


def token_key(encoder: EncoderFiles) -> str:
    """Name of the folder of sidecars with this tokenizer."""
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", encoder.name.rstrip("/").rsplit("/", 1)[-1])[:48]
    parts = json.dumps([encoder.fingerprint, TEMPLATE])
    return f"{slug}-{hashlib.sha256(parts.encode()).hexdigest()[:12]}"


def load_tokenizer(encoder: EncoderFiles) -> Any:
    """The fast tokenizer of an encoder, from its folder, without running any code of it."""
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise need("transformers", "train") from None
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            encoder.folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UserError(
            f"{encoder.folder} has no readable tokenizer: {' '.join(str(error).split())[:160]}"
        ) from None
    if not tokenizer.is_fast:
        raise UserError(
            f"the tokenizer of {encoder.name} has no fast form (tokenizer.json): take another encoder"
        )
    return tokenizer


def special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Ids that the model wants before and after the text, seen by comparing a probe with and without them."""
    bare = tokenizer(PROBE, add_special_tokens=False)["input_ids"]
    whole = tokenizer(PROBE, add_special_tokens=True)["input_ids"]
    for first in range(len(whole) - len(bare) + 1):
        if whole[first : first + len(bare)] == bare:
            return whole[:first], whole[first + len(bare) :]
    raise UserError(
        f"the special tokens of {tokenizer.name_or_path} do not stand around the text: another encoder"
    )


def encode(texts: Iterable[str | None], tokenizer: Any) -> tuple[np.ndarray, np.ndarray]:
    """Tokens without special ones: values int64 [tokens] and ptr int64 [texts + 1]; None has no tokens.

    Equal sentences are tokenised once (counts and formulas repeat). The leading space makes byte-level
    tokenizers read each run as the continuation of the run before; for the others it means nothing.
    """
    column = pa.array(texts, pa.large_string()).dictionary_encode()
    if len(column.dictionary) == 0:
        return np.empty(0, np.int64), np.zeros(len(column) + 1, np.int64)
    words = [" " + text for text in column.dictionary.to_pylist()]
    ids = tokenizer(words, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
    bounds = np.cumsum([0, *map(len, ids)], dtype=np.int64)
    flat = np.fromiter(chain.from_iterable(ids), np.int64, count=int(bounds[-1]))
    present = column.is_valid().to_numpy(zero_copy_only=False)
    which = column.indices.fill_null(0).to_numpy()
    index, ptr = ragged_index(bounds[which], np.where(present, np.diff(bounds)[which], 0))
    return flat[index], ptr


def _dtype(tokenizer: Any) -> type[np.generic]:
    return np.uint16 if len(tokenizer) <= 1 << 16 else np.int32


def _write(
    path: Path,
    shard: Shard,
    shard_sha: str,
    wording: Wording,
    tokenizer: Any,
    digest: Callable[[Path], str],
) -> SidecarEntry:
    template = {wording.field: wording.sentence}
    if wording.each:
        texts, entries = render_synonyms(shard.table, template)
    else:
        texts, entries = render(shard.table, wording.field, template), [1] * shard.rows
    values, full = encode(texts, tokenizer)
    length = np.diff(full)
    kept = np.minimum(length, wording.budget)
    index, ptr = ragged_index(full[:-1], kept)
    molecule = np.repeat(np.arange(shard.rows), entries)
    about: SidecarCounts = {
        "shard_sha256": shard_sha,
        "rows": shard.rows,
        "present": len(np.unique(molecule[length > 0])),
        "runs": int((length > 0).sum()),
        "tokens": int(kept.sum()),
        "cut_molecules": len(np.unique(molecule[length > kept])),
        "cut_tokens": int((length - kept).sum()),
    }
    run = pa.LargeListArray.from_arrays(pa.array(ptr), pa.array(values[index].astype(_dtype(tokenizer))))
    if wording.each:
        run = pa.LargeListArray.from_arrays(pa.array(np.cumsum([0, *entries])), run)
    batch = pa.record_batch({"run": run}).replace_schema_metadata({META: json.dumps(about).encode()})
    with atomic_path(path) as part, pa.ipc.new_file(str(part), batch.schema) as writer:
        writer.write_batch(batch)
    return _entry(path, about, digest)


def _entry(path: Path, about: SidecarCounts, digest: Callable[[Path], str]) -> SidecarEntry:
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": digest(path), **about}


def _check(
    path: Path, shard_sha: str, known: SidecarEntry | None, digest: Callable[[Path], str]
) -> SidecarEntry | None:
    """The entry of a file that is whole and belongs to its shard, else None."""
    if not path.is_file():
        return None
    try:
        about: SidecarCounts = json.loads(pa.ipc.open_file(pa.memory_map(str(path))).schema.metadata[META])
    except (pa.ArrowException, OSError, TypeError, KeyError, ValueError):
        return None
    entry = _entry(path, about, digest)
    return entry if about["shard_sha256"] == shard_sha and known in (None, entry) else None


def _old_manifest(path: Path) -> SidecarManifest:
    """What FIELD.json says; nothing if it is not there or not whole (it is made from the files again)."""
    try:
        return read_json(path)
    except (OSError, ValueError):
        return {"budget": 0, "counts": {}, "files": []}


def _open(path: Path) -> Runs:
    run = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0).column("run")
    items = None
    if pa.types.is_large_list(run.values.type):
        items, run = run.offsets.to_numpy(zero_copy_only=True), run.values
    return Runs(run.values.to_numpy(zero_copy_only=True), run.offsets.to_numpy(zero_copy_only=True), items)
