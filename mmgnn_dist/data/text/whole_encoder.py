"""Whether the files of an encoder are whole: weights, configuration, vocabulary, every file that is listed.

A download that broke off, a copy without its large files, or a link into a cache that is gone leaves a folder
that loads as another model: a tokenizer without its vocabulary knows five words, and every text is unknown.
Such folders are refused before anything else is done with them. The weights are not read, only their headers.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

from mmgnn_dist.errors import UserError

# files that hold a whole vocabulary, alone or together
VOCABULARIES = (
    ("tokenizer.json",),
    ("vocab.txt",),
    ("sentencepiece.bpe.model",),
    ("spiece.model",),
    ("tokenizer.model",),
    ("vocab.json", "merges.txt"),
)
INDEX = "model.safetensors.index.json"
_NUMBERED = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.safetensors")
_POINTER = b"version https://git-lfs"


def check_whole(folder: Path, patterns: Iterable[str], weights: bool, cure: str) -> None:
    """Refuse an encoder of which a part is missing.

    Args:
        folder: folder with the files.
        patterns: patterns of the names of its files.
        weights: whether its weights are needed.
        cure: what the user can do, the end of the message.

    Raises:
        UserError: a link leads nowhere; a file may not be read; config.json or the vocabulary is missing or
            cut; weights are needed and there are none, one of their files is missing, or one is cut.
    """
    for path in sorted({path for pattern in patterns for path in folder.glob(pattern)}):
        if path.is_symlink() and not path.exists():
            raise UserError(f"{path} is a link to {path.readlink()}, which is not there: {cure}")
        if not os.access(path, os.R_OK, effective_ids=True):
            raise UserError(f"{path} is not readable for you: have its owner allow it (chmod), or {cure}")
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} is not a model (it has no config.json): {cure}")
    if not isinstance(_read_json(folder / "config.json", cure), dict):
        raise UserError(f"{folder / 'config.json'} is no JSON object: {cure}")
    if not any(all((folder / name).is_file() for name in names) for names in VOCABULARIES):
        allowed = ", ".join(" with ".join(names) for names in VOCABULARIES)
        raise UserError(
            f"{folder} has no vocabulary of its tokenizer (one of {allowed}), so every word would be "
            f"unknown: {cure}"
        )
    if (folder / "tokenizer.json").is_file():
        _read_json(folder / "tokenizer.json", cure)
    if weights:
        _check_weights(folder, cure)


def _check_weights(folder: Path, cure: str) -> None:
    files = sorted(folder.glob("*.safetensors"))
    names = {file.name for file in files}
    if (folder / INDEX).is_file() and "model.safetensors" not in names:
        index = _read_json(folder / INDEX, cure)
        listed = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(listed, dict) or not listed:
            raise UserError(f"{folder / INDEX} lists no weights: {cure}")
        if absent := sorted(set(map(str, listed.values())) - names):
            raise UserError(f"{folder} lacks {absent[0]}, which {INDEX} lists{_more(absent)}: {cure}")
    elif not files:
        raise UserError(
            f"{folder} has no *.safetensors weights, and pickles are not loaded: convert them, or give "
            "text.random={} to start from random weights"
        )
    for file in files:
        if match := _NUMBERED.fullmatch(file.name):
            wanted = [
                f"{match[1]}-{number:05d}-of-{match[3]}.safetensors" for number in range(1, int(match[3]) + 1)
            ]
            if absent := sorted(set(wanted) - names):
                raise UserError(f"{folder} lacks {absent[0]}{_more(absent)} of its weights: {cure}")
        _check_size(file, cure)


def _check_size(path: Path, cure: str) -> None:
    """Compare the size of a safetensors file with the size that its header gives."""
    size = path.stat().st_size
    with open(path, "rb") as content:
        length = int.from_bytes(content.read(8), "little")
        try:
            if length > size - 8:
                raise ValueError("the header is cut")
            header = json.loads(content.read(length))
            end = max(
                (entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"),
                default=0,
            )
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            content.seek(0)
            kind = "a pointer of Git LFS" if content.read(len(_POINTER)) == _POINTER else "cut or damaged"
            raise UserError(f"{path} is {kind}, not a file of weights: {cure}") from None
    if size != 8 + length + end:
        told = f"{size} bytes, its header says {8 + length + end}"
        raise UserError(f"{path} is cut or damaged ({told}): {cure}")


def _read_json(path: Path, cure: str) -> object:
    """Read a JSON file of the encoder."""
    try:
        content: object = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read ({str(error)[:80]}): {cure}") from None
    return content


def _more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""
