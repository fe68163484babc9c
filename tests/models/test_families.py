"""Encoders of other families through the same door: a tiny random model of each class, saved to a folder."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    AutoModel,
    BertConfig,
    BertModel,
    CLIPTextConfig,
    CLIPTextModel,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5EncoderModel,
)

from mmgnn_dist.config import load_recipe
from mmgnn_dist.data.encoder_files import EncoderFiles
from mmgnn_dist.models.text import TextEncoder

SIZE = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
FAMILIES = {
    "bert": lambda: BertModel(BertConfig(**SIZE)),
    "roberta": lambda: RobertaModel(RobertaConfig(**SIZE, max_position_embeddings=40)),
    "clip": lambda: CLIPTextModel(CLIPTextConfig(**SIZE, max_position_embeddings=40, eos_token_id=59)),
    "t5": lambda: T5EncoderModel(
        T5Config(vocab_size=60, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    ),
}


@pytest.fixture(params=FAMILIES)
def folder(request, tmp_path):
    torch.manual_seed(0)
    FAMILIES[request.param]().save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("mode", ["full", "lora"])
def test_every_family_encodes_and_trains(folder, mode):
    encoder = TextEncoder(
        EncoderFiles("tiny", folder, None), load_recipe(None, [f"text.mode={mode}"]).text, blank=(2,)
    )
    texts = [[5, 6, 7, 59], [8, 59], [], [9, 10, 11, 12, 13, 59]]
    tokens = torch.tensor([token for text in texts for token in text])
    ptr = torch.tensor([0, *(len(text) for text in texts)]).cumsum(0)
    vectors, present = encoder.eval()(tokens, ptr)
    assert present.tolist() == [True, True, False, True] and vectors.shape == (4, 16)
    reference = AutoModel.from_pretrained(folder)
    if hasattr(reference, "decoder"):
        reference = reference.get_encoder()
    for text, vector in zip(texts, vectors, strict=True):
        if text:
            expected = reference.eval()(input_ids=torch.tensor([text])).last_hidden_state[0].mean(0)
            torch.testing.assert_close(vector, expected, rtol=1e-5, atol=1e-5)
    vectors.square().sum().backward()
    trainable = {name: p for name, p in encoder.named_parameters() if p.requires_grad}
    assert trainable and all(p.grad is not None for p in trainable.values())
    assert (mode == "lora") is all("lora_" in name for name in trainable)
