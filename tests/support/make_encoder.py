"""Tiny random encoders of many families, each saved to a folder with a tokenizer of its kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

WORDS = [
    "propan-2-one",
    "bicyclo[1.1.1]pentan-1-ol",
    "2-methyl-1,3-oxazole",
    "azane",
    "N,N-dimethylformamide",
    "Molecular formula: C3H6O.",
    "IUPAC name: 4-ethyl-5-fluoro-benzonitrile.",
    "water",
    "Synonyms: acetone; 67-64-1.",
]
WIDTH, LAYERS = 16, 3
BERT = {
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 80,
}
T5 = {"d_model": WIDTH, "d_kv": 8, "d_ff": 32, "num_layers": LAYERS, "num_heads": 2}
VISION = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "intermediate_size": 8,
    "image_size": 4,
    "patch_size": 2,
}
# decoders: two query heads share one of keys and values; windows of attention in Mistral, Gemma 2 and 3
DECODER = {**BERT, "num_key_value_heads": 1, "head_dim": 8, "attention_dropout": 0.1}
WINDOWS = {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
Make = Callable[[dict[str, Any]], Any]  # sizes and ids of the vocabulary -> model
MODELS: dict[str, tuple[str, Make]] = {
    "bert": ("wordpiece", lambda v: hf.BertModel(hf.BertConfig(**BERT, **v))),
    "distilbert": (
        "wordpiece",
        lambda v: hf.DistilBertModel(
            hf.DistilBertConfig(
                dim=WIDTH, n_layers=LAYERS, n_heads=2, hidden_dim=32, max_position_embeddings=80, **v
            )
        ),
    ),
    "electra": ("wordpiece", lambda v: hf.ElectraModel(hf.ElectraConfig(**BERT, embedding_size=8, **v))),
    "roberta": ("bytes", lambda v: hf.RobertaModel(hf.RobertaConfig(**BERT, **v))),
    "camembert": ("bytes", lambda v: hf.CamembertModel(hf.CamembertConfig(**BERT, **v))),
    "xlm-roberta": ("bytes", lambda v: hf.XLMRobertaModel(hf.XLMRobertaConfig(**BERT, **v))),
    "clip-text": ("clip", lambda v: hf.CLIPTextModel(hf.CLIPTextConfig(**BERT, attention_dropout=0.1, **v))),
    "clip": (
        "clip",
        lambda v: hf.CLIPModel(
            hf.CLIPConfig(text_config={**BERT, "attention_dropout": 0.1, **v}, vision_config=VISION)
        ),
    ),
    "t5": ("unigram", lambda v: hf.T5EncoderModel(hf.T5Config(**T5, **v))),
    "t5-whole": ("unigram", lambda v: hf.T5Model(hf.T5Config(**T5, **v))),
    "bart": (
        "bytes",
        lambda v: hf.BartModel(
            hf.BartConfig(
                d_model=WIDTH,
                encoder_layers=LAYERS,
                decoder_layers=1,
                encoder_attention_heads=2,
                decoder_attention_heads=2,
                encoder_ffn_dim=32,
                decoder_ffn_dim=32,
                max_position_embeddings=80,
                **v,
            )
        ),
    ),
    "modernbert": (
        "wordpiece",
        lambda v: hf.ModernBertModel(
            hf.ModernBertConfig(
                **BERT, cls_token_id=2, sep_token_id=3, attention_dropout=0.1, local_attention=16, **v
            )
        ),
    ),
    "mpnet": ("bytes", lambda v: hf.MPNetModel(hf.MPNetConfig(**BERT, **v))),
    "deberta-v2": (
        "wordpiece",
        lambda v: hf.DebertaV2Model(
            hf.DebertaV2Config(
                **BERT, relative_attention=True, pos_att_type=["p2c", "c2p"], norm_rel_ebd="layer_norm", **v
            )
        ),
    ),
}
DECODERS: dict[str, tuple[str, Make]] = {
    "llama": ("llama", lambda v: hf.LlamaForCausalLM(hf.LlamaConfig(**DECODER, **v))),
    "mistral": (
        "mistral",
        lambda v: hf.MistralForCausalLM(hf.MistralConfig(**DECODER, sliding_window=16, **v)),
    ),
    "qwen2": ("qwen2", lambda v: hf.Qwen2ForCausalLM(hf.Qwen2Config(**DECODER, **v))),
    "qwen3": ("qwen3", lambda v: hf.Qwen3ForCausalLM(hf.Qwen3Config(**DECODER, **v))),
    "gemma": ("gemma", lambda v: hf.GemmaForCausalLM(hf.GemmaConfig(**DECODER, **v))),
    "gemma2": (
        "gemma",
        lambda v: hf.Gemma2ForCausalLM(
            hf.Gemma2Config(**DECODER, **WINDOWS, attn_logit_softcapping=0.5, query_pre_attn_scalar=4, **v)
        ),
    ),
    "gemma3_text": ("gemma", lambda v: hf.Gemma3ForCausalLM(hf.Gemma3TextConfig(**DECODER, **WINDOWS, **v))),
    "gemma3_both_ways": (  # as EmbeddingGemma
        "gemma",
        lambda v: hf.Gemma3TextModel(
            hf.Gemma3TextConfig(**DECODER, **WINDOWS, use_bidirectional_attention=True, **v)
        ),
    ),
    "gemma3": (
        "gemma",
        lambda v: hf.Gemma3ForConditionalGeneration(
            hf.Gemma3Config(
                text_config={**DECODER, **WINDOWS, **v}, vision_config=VISION, mm_tokens_per_image=4
            )
        ),
    ),
}
MODELS |= DECODERS
# tokenizers of decoders: named tokens, tokens around a text, side of the padding
AROUND: dict[str, tuple[dict[str, str], str, str]] = {
    "llama": ({"bos": "<|begin_of_text|>", "eos": "<|end_of_text|>"}, "<|begin_of_text|> $A", "right"),
    "mistral": ({"unk": "<unk>", "bos": "<s>", "eos": "</s>"}, "<s> $A", "left"),
    "qwen2": ({"pad": "<|endoftext|>", "eos": "<|im_end|>"}, "$A", "right"),
    "qwen3": ({"pad": "<|endoftext|>", "eos": "<|im_end|>"}, "$A <|endoftext|>", "left"),
    "gemma": ({"pad": "<pad>", "eos": "<eos>", "bos": "<bos>", "unk": "<unk>"}, "<bos> $A", "left"),
}


def _tokenizer(kind: str) -> Any:
    """A trained tokenizer with the special tokens that its family puts around a text."""
    side = "right"
    if kind == "wordpiece":
        inner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        inner.normalizer = normalizers.Lowercase()
        inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        named = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
        trainer: Any = trainers.WordPieceTrainer(vocab_size=120, special_tokens=list(named.values()))
        around = "[CLS] $A [SEP]"
    elif kind == "unigram":
        inner = Tokenizer(models.Unigram())
        inner.pre_tokenizer = pre_tokenizers.Metaspace()
        inner.decoder = decoders.Metaspace()
        named = {"pad": "<pad>", "eos": "</s>", "unk": "<unk>"}
        trainer = trainers.UnigramTrainer(
            vocab_size=90, special_tokens=list(named.values()), unk_token="<unk>", show_progress=False
        )
        around = "$A </s>"
    else:
        inner = Tokenizer(models.BPE())
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        named = {"cls": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>"}
        if kind == "clip":
            named = {"pad": "<pad>", "bos": "<|startoftext|>", "eos": "<|endoftext|>"}
        elif kind in AROUND:
            named, around, side = AROUND[kind]
        trainer = trainers.BpeTrainer(
            vocab_size=320,
            special_tokens=list(named.values()),
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )
        if kind not in AROUND:
            around = "<|startoftext|> $A <|endoftext|>" if kind == "clip" else "<s> $A </s>"
    inner.train_from_iterator(WORDS * 3, trainer)
    special = [(token, inner.token_to_id(token)) for token in named.values()]
    inner.post_processor = processors.TemplateProcessing(single=around, special_tokens=special)
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=inner, padding_side=side, **{f"{name}_token": token for name, token in named.items()}
    )


def make_encoder(folder: Path, family: str, seed: int = 0) -> Path:
    """Write a random model of a family and its tokenizer."""
    kind, make = MODELS[family]
    tokenizer = _tokenizer(kind)
    ids = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    for name in ("bos", "eos"):
        if getattr(tokenizer, f"{name}_token") is not None:
            ids[f"{name}_token_id"] = getattr(tokenizer, f"{name}_token_id")
    torch.manual_seed(seed)
    model = make(ids)
    with torch.no_grad():  # many weights start at nothing: give them some, so that every part is seen
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
