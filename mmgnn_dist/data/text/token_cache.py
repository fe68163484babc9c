"""Token sidecars of a shard set: SHARDS/tokens/KEY/FIELD-WORDING/shard-00000.arrow, one run per molecule.

KEY identifies encoder and tokenizer, WORDING the sentence and the budget of the field. Runs have no special
tokens: the loader (`text_input`) joins prefix + runs of the chosen fields + suffix to a molecule's input, so
another choice of fields needs no new sidecar. Sampled synonyms have one run each. Every file records the
SHA-256 of its shard and what was cut; FIELD-WORDING.json, written last, holds the checksums of the files. The
content of a file is deterministic and files are replaced whole, so two processes may make the same sidecar at
once, and an interrupted one continues at its shard.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np

from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.data.text.encoder_files import EncoderFiles
from mmgnn_dist.data.text.selection import read_selection
from mmgnn_dist.data.text.sentences import TEMPLATE, own_sentences, sentence_of, wording_of
from mmgnn_dist.data.text.sidecar_files import is_whole, sound_entry
from mmgnn_dist.data.text.sidecar_records import SidecarManifest, read_sidecar, total_counts
from mmgnn_dist.data.text.token_runs import open_runs, token_dtype, write_runs
from mmgnn_dist.data.text.tokenizer import load_tokenizer, special_tokens
from mmgnn_dist.data.text.total_budget import fitting_fields
from mmgnn_dist.errors import UserError
from mmgnn_dist.files import sha256, write_json

Progress = Callable[[int, int, str], None]  # (sentences done, sentences in all, field)


class TokenSet:
    """Token runs of some fields of a shard set; made by `ensure`.

    Attributes:
        folder: SHARDS/tokens/KEY.
        places: name of each field's sidecar in `folder`, FIELD-WORDING.
        key: identifies tokenizer, sentences and budgets of all fields.
        fields: names of the fields.
        encoder: name of the encoder.
        runs: the `Runs` of every shard, by field.
        prefix, suffix: special tokens around the joined runs, arrays of the runs' dtype.
        rows: molecules of the shard set.
        pad: id of the padding token.
        vocab: number of ids.
        ordinary: ids of all tokens that are not special, int64.
        numeric: those of them that have a digit, int64.
        mask: id of the mask, else of the unknown token; None: the tokenizer has neither.
        max_positions: most tokens the encoder can read, special ones included; None: no limit.
        budgets: most tokens of each field; None: it is read whole.
        total_tokens: most tokens of the joined text, special ones included; None: no limit but the budgets.
        counts: for each field: rows, present (molecules), runs (not empty), tokens, cut_molecules,
            cut_tokens, unknown (tokens that stand for a word that the tokenizer does not know).
        selected: for which molecules the set selects each field, bool [rows]; None: it selects none.
        reads: which molecules read each field, bool [rows]: selected, and within `total_tokens`; None: all
            molecules read all fields.
        left_out: molecules that do not read a field that they have, because of `total_tokens`, by field.
    """

    def __init__(
        self,
        folder: Path,
        places: dict[str, str],
        encoder: EncoderFiles,
        tokenizer: Any,
        manifests: dict[str, SidecarManifest],
        files: dict[str, list[Path]],
        selected: dict[str, np.ndarray] | None = None,
        total_tokens: int | None = None,
    ):
        self.folder = folder
        self.places = places
        self.fields = list(places)
        self.key = f"{folder.name}/{','.join(places.values())}"
        self.encoder = encoder.name
        self.budgets: dict[str, int | None] = {field: manifests[field]["budget"] for field in places}
        self.max_positions = encoder.max_positions
        self.rows: int = max((manifests[field]["counts"]["rows"] for field in places), default=0)
        self.vocab = len(tokenizer)
        self.ordinary = np.setdiff1d(np.arange(self.vocab), tokenizer.all_special_ids)
        words = tokenizer.convert_ids_to_tokens(self.ordinary.tolist())
        self.numeric = self.ordinary[[bool(re.search("[0-9]", word or "")) for word in words]]
        masks = tokenizer.mask_token_id, tokenizer.unk_token_id
        self.mask: int | None = next((mask for mask in masks if mask is not None), None)
        self.pad: int = tokenizer.pad_token_id or 0
        self.prefix, self.suffix = (
            np.array(ids, token_dtype(tokenizer)) for ids in special_tokens(tokenizer)
        )
        self.runs = {field: [open_runs(path) for path in files[field]] for field in places}
        self.counts: dict[str, dict[str, int]] = {field: manifests[field]["counts"] for field in places}
        self.selected = self.reads = selected
        self.total_tokens = total_tokens
        self.left_out = dict.fromkeys(places, 0)
        if total_tokens is not None:
            self._fit(total_tokens - len(self.prefix) - len(self.suffix))

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
        selected_fields: bool = True,
        total_tokens: int | None = None,
    ) -> TokenSet:
        """Open the sidecars of `fields`; make those that are missing, damaged or of another shard.

        Args:
            shards: the shard set.
            fields: text fields, in the order in which they are joined.
            encoder: the encoder whose tokenizer is used.
            budget: most tokens kept of one field of one molecule; cut tokens are counted.
            progress: called with (sentences done, sentences in all, field).
            budgets: budgets of individual fields, instead of `budget`.
            template: sentences instead of the built-in ones (see `text.render`).
            sample_synonyms: make one run per synonym, instead of one for all.
            digest: function that computes the SHA-256 of a file.
            selected_fields: a molecule reads only the fields that the set chooses for it, if it chooses any.
            total_tokens: most tokens of the joined text, special ones included (see `fitting_fields`); no
                name, formula or number is then cut.

        Raises:
            UserError: the encoder cannot read `total_tokens`; no such field, no fast tokenizer, transformers
                not installed, folder not writable.
        """
        tokenizer = load_tokenizer(encoder)
        _check_total(total_tokens, encoder, sum(map(len, special_tokens(tokenizer))))
        own, folder = (base / "tokens" / token_key(encoder) for base in (shards.path, shards.sidecars))
        total, done = shards.rows * len(fields), 0
        sentences = {**own_sentences(shards.text_columns), **(template or {})}
        manifests: dict[str, SidecarManifest] = {}
        places: dict[str, str] = {}
        paths: dict[str, list[Path]] = {}
        for field in fields:
            sentence, most = sentence_of(field, sentences), (budgets or {}).get(field, budget)
            wording = wording_of(field, sentence, most, sample_synonyms, total_tokens)
            places[field] = wording.place
            if folder != own and is_whole(own, wording.place, shards, digest):
                manifests[field] = read_sidecar(own / f"{wording.place}.json")
                paths[field] = [own / wording.place / file["name"] for file in manifests[field]["files"]]
                done += shards.rows
                continue
            manifest_file = folder / f"{wording.place}.json"
            old = read_sidecar(manifest_file)
            old_entries = {file["name"]: file for file in old["files"]}
            files = []
            try:
                for entry, shard in zip(shards.manifest["shards"], shards.shards, strict=True):
                    path = folder / wording.place / entry["name"]
                    file = sound_entry(path, entry["sha256"], old_entries.get(path.name), digest)
                    if file is None:
                        file = write_runs(path, shard, entry["sha256"], wording, tokenizer, digest)
                    files.append(file)
                    done += shard.rows
                    if progress:
                        progress(done, total, field)
                content = {**wording.record, "counts": total_counts(files), "files": files}
                manifests[field] = cast(SidecarManifest, content)
                paths[field] = [folder / wording.place / file["name"] for file in files]
                if manifests[field] != old:
                    write_json(manifest_file, manifests[field])
            except OSError as error:
                raise UserError(
                    f"cannot write tokens to {folder}: {error.strerror or error}; give data.cache=DIR"
                ) from None
        selected = read_selection(shards, fields) if selected_fields else None
        return cls(folder, places, encoder, tokenizer, manifests, paths, selected, total_tokens)

    def _fit(self, room: int) -> None:
        """Leave whole fields out of the texts that have more than `room` tokens, and count them."""
        lengths = {field: self._longest(field) for field in self.fields}
        fitting = fitting_fields(lengths, room)
        self.left_out = {field: int(((lengths[field] > 0) & ~fits).sum()) for field, fits in fitting.items()}
        chosen = self.selected or {}
        self.reads = {field: fits & chosen.get(field, True) for field, fits in fitting.items()}

    def _longest(self, field: str) -> np.ndarray:
        """Tokens of the longest run of each molecule that the set selects for it, int64 [rows]."""
        longest = np.concatenate([run.longest() for run in self.runs[field]])
        return longest if self.selected is None else longest * self.selected[field]

    def lengths(self, fields: Sequence[str] | None = None) -> np.ndarray:
        """Number of tokens of each molecule, special ones included, 0 without text, int64 [rows].

        Of sampled synonyms the longest counts.
        """
        length = np.zeros(self.rows, np.int64)
        for field in self.fields if fields is None else fields:
            longest = self._longest(field)
            length += longest if self.reads is None else longest * self.reads[field]
        return np.where(length > 0, length + len(self.prefix) + len(self.suffix), 0)

    @property
    def blank(self) -> tuple[int, ...]:
        """Input of the encoder for an empty text: its special tokens, or one padding token if it has none."""
        return tuple(np.concatenate([self.prefix, self.suffix]).tolist()) or (self.pad,)

    @cached_property
    def longest(self) -> int:
        """Number of tokens of the longest text, all fields and special tokens included."""
        return int(self.lengths().max(initial=0))

    def check_length(self) -> None:
        """Refuse an input that is longer than the encoder's positions.

        Raises:
            UserError: the input is too long; the message names both lengths and what to change.
        """
        most = self.max_positions
        if most is not None and self.longest > most:
            raise UserError(
                f"the longest text has {self.longest} tokens, {self.encoder} reads {most}: lower "
                f"text.field_tokens={max(budget or 0 for budget in self.budgets.values())} or text.budgets, "
                f"take fewer of the {len(self.fields)} fields, or leave whole fields out by "
                f"text.total_tokens={most}"
            )

    def check_unknown(self, most: float) -> None:
        """Refuse a tokenizer that does not know the words of a field.

        Args:
            most: largest share of the tokens of a field that may be unknown.

        Raises:
            UserError: the share is larger; the message names the field, the share and what to change.
        """
        for field, count in self.counts.items():
            share = count["unknown"] / max(count["tokens"], 1)
            if share > most:
                raise UserError(
                    f"{share:.1%} of the tokens of {field} are unknown to {self.encoder}, more than "
                    f"text.max_unknown={most:g} allows: take an encoder of this language and alphabet, leave "
                    "the field out of text.fields, or raise text.max_unknown"
                )

    def summary(self) -> str:
        """One line with coverage, mean tokens of a run, what is cut, unknown or left out, per field."""
        parts = []
        for field, count in self.counts.items():
            mean = count["tokens"] / max(count["runs"], 1)
            part = f"{field} {count['present']}/{count['rows']} molecules, {mean:.1f} tokens"
            if count["cut_molecules"]:
                part += (
                    f", {count['cut_tokens']} cut from {count['cut_molecules']} molecules at "
                    f"{self.budgets[field]}"
                )
            if count["unknown"]:
                part += f", {count['unknown']} unknown ({count['unknown'] / count['tokens']:.2%})"
            if self.left_out[field]:
                part += f", left out for {self.left_out[field]} by text.total_tokens={self.total_tokens}"
            if self.selected is not None:
                part += f", selected for {int(self.selected[field].sum())}"
            parts.append(part)
        return f"tokens of {self.encoder}: " + "; ".join(parts)


def _check_total(total: int | None, encoder: EncoderFiles, special: int) -> None:
    """Refuse a budget of the joined text that the encoder cannot read, or that holds no text."""
    if total is None:
        return
    most = encoder.max_positions
    if most is not None and total > most:
        raise UserError(
            f"text.total_tokens={total} is more than the {most} tokens that {encoder.name} reads: give at "
            f"most {most}"
        )
    if total <= special:
        raise UserError(
            f"text.total_tokens={total} leaves no room beside the {special} special tokens of "
            f"{encoder.name}: give at least {special + 1}"
        )


def token_key(encoder: EncoderFiles) -> str:
    """Name of the folder of sidecars with this tokenizer."""
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", encoder.name.rstrip("/").rsplit("/", 1)[-1])[:48]
    parts = json.dumps([encoder.fingerprint, TEMPLATE])
    return f"{slug}-{hashlib.sha256(parts.encode()).hexdigest()[:12]}"
