"""The folder of an encoder with CLIP's own vocabulary, from the merges in the wheel of open_clip_torch."""

from __future__ import annotations

import gzip
import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from transformers import CLIPTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

MERGES = 49152 - 256 - 2  # what CLIP reads of the file (openai/CLIP, simple_tokenizer.py)


def clip_folder(folder: Path) -> Path:
    """Write tokenizer and config.json of openai/clip-vit-large-patch14, without weights."""
    package = find_spec("open_clip")  # does not import it: it needs torchvision and timm
    if package is None or not package.submodule_search_locations:
        pytest.skip("no CLIP vocabulary: pip install --no-deps open_clip_torch")
    file = Path(package.submodule_search_locations[0]) / "bpe_simple_vocab_16e6.txt.gz"
    merges = gzip.decompress(file.read_bytes()).decode().split("\n")[1 : MERGES + 1]
    letters = list(bytes_to_unicode().values())
    words = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair.split()) for pair in merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    CLIPTokenizerFast.from_pretrained(folder).save_pretrained(folder)
    text = {"model_type": "clip_text_model", "vocab_size": len(words), "max_position_embeddings": 77}
    (folder / "config.json").write_text(json.dumps({"model_type": "clip", "text_config": text}))
    return folder
