"""Encoders of every family: packed against padded, depths, checkpointing, adapters, and what is refused."""

from __future__ import annotations

import pytest
import torch
from make_encoder import DECODERS, LAYERS, MODELS, WIDTH, make_encoder
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from transformers import AutoModel, T5EncoderModel

from mmgnn_dist.config import load_recipe
from mmgnn_dist.data.text.encoder_files import resolve_encoder
from mmgnn_dist.data.text.tokenizer import load_tokenizer, special_tokens
from mmgnn_dist.errors import UserError
from mmgnn_dist.models.text_encoder.encoder import TextEncoder
from mmgnn_dist.models.text_encoder.hf_model import lora_targets
from mmgnn_dist.models.text_encoder.packing import PACKED

CAUSAL = {files_type for files_type in DECODERS if files_type != "gemma3_both_ways"}
# a bias of the keys shifts all scores of a row alike, and softmax gives that no gradient but rounding
NO_GRADIENT = ("key.bias", "k_lin.bias", "k_proj.bias", "key_proj.bias", ".k.bias")


ALL_TESTS = "gemma2"  # the decoder with most kinds of attention; the others run all tests in `make soak`
OTHER_DECODERS = sorted(DECODERS.keys() - {ALL_TESTS})


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.slow if name in OTHER_DECODERS else ()) for name in MODELS],
)
def files(request, tmp_path_factory):
    return resolve_encoder(str(make_encoder(tmp_path_factory.mktemp(request.param), request.param)))


def make(files, *overrides, **options):
    return TextEncoder(files, load_recipe(None, [*overrides]).text, blank=(2,), **options)


def texts_of(files, count=37, longest=60):
    """Texts as the tokens of the loader come: special tokens around ordinary ones; some absent."""
    tokenizer = load_tokenizer(files)
    before, after = special_tokens(tokenizer)
    ordinary = [i for i in range(len(tokenizer)) if i not in tokenizer.all_special_ids]
    draw = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, longest, (count,), generator=draw).tolist()
    lengths[:3] = [longest, 1, 1]
    picked = [torch.randint(len(ordinary), (n,), generator=draw).tolist() for n in lengths]
    full = [[*before, *(ordinary[i] for i in some), *after] for some in picked]
    return [[] if i % 7 == 4 else text for i, text in enumerate(full)]


def packed(texts):
    ptr = torch.tensor([0, *(len(text) for text in texts)]).cumsum(0)
    return torch.tensor([token for text in texts for token in text], dtype=torch.int64), ptr


def transformers_own(files):
    """The text encoder as transformers reads it, with its own attention."""
    if files.config["model_type"] == "t5":
        return T5EncoderModel.from_pretrained(files.folder).eval()
    # bounded scores (Gemma 2) are in the plain form of attention alone
    plain = {"attn_implementation": "eager"} if files.config["model_type"] in CAUSAL else {}
    model = AutoModel.from_pretrained(files.folder, **plain).eval()
    if files.config["model_type"] == "bart":
        return model.encoder
    return getattr(model, "text_model", getattr(model, "language_model", model))


@pytest.mark.parametrize("family", OTHER_DECODERS)
def test_states_of_decoders(tmp_path, family):
    test_states_are_those_of_transformers_alone_and_padded(
        resolve_encoder(str(make_encoder(tmp_path, family)))
    )


def test_states_are_those_of_transformers_alone_and_padded(files):
    texts = texts_of(files)
    encoder = make(files).eval()
    assert encoder.packed is (encoder.model.config.model_type in PACKED)
    with torch.no_grad():
        states = encoder.states(*packed(texts))
        reference = transformers_own(files)
        there = [text for text in texts if text]
        alone = [reference(input_ids=torch.tensor([text])).last_hidden_state[0] for text in there]
        longest = max(map(len, there))
        tokenizer = load_tokenizer(files)
        pad = [tokenizer.pad_token_id or 0]
        ends = slice(None, None, -1 if tokenizer.padding_side == "left" else 1)
        ids = torch.tensor([(text[ends] + pad * (longest - len(text)))[ends] for text in there])
        mask = torch.tensor([([1] * len(text) + [0] * (longest - len(text)))[ends] for text in there])
        padded = reference(input_ids=ids, attention_mask=mask).last_hidden_state[mask.bool()]
    assert states.shape == (sum(map(len, texts)), WIDTH)
    torch.testing.assert_close(states, torch.cat(alone), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(states, padded, rtol=1e-5, atol=1e-5)


def test_pooled_vectors(files):
    texts = texts_of(files, count=9)
    reference = transformers_own(files)
    for pooling, place in (("mean", slice(None)), ("cls", slice(0, 1)), ("last", slice(-1, None))):
        encoder = make(files, f"text.pooling={pooling}").eval()
        with torch.no_grad():
            vectors, present = encoder(*packed(texts))
            for text, vector, there in zip(texts, vectors, present, strict=True):
                assert bool(there) is bool(text)
                expected = torch.zeros(WIDTH)
                if text:
                    own = reference(input_ids=torch.tensor([text])).last_hidden_state[0]
                    expected = own[place].mean(0)
                torch.testing.assert_close(vector, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("mode", "dropout"), [("full", True), ("full", False), ("lora", True)])
def test_checkpointing_changes_no_gradient(files, mode, dropout):
    found = []
    for checkpointing in ("false", "true"):
        torch.manual_seed(3)
        encoder = make(files, f"text.mode={mode}", f"text.checkpointing={checkpointing}", dropout=dropout)
        if mode == "lora":  # adapters start at B = 0: move them, so that A has gradients
            with torch.no_grad():
                for name, p in encoder.named_parameters():
                    if "lora_B" in name:
                        p.normal_(generator=torch.Generator().manual_seed(4))
        encoder.train()
        torch.manual_seed(5)
        vectors, saved = watched(encoder, packed(texts_of(files, count=9)))
        vectors.pow(3).sum().backward()
        gradients = {name: p.grad for name, p in encoder.named_parameters() if p.requires_grad}
        found.append((gradients, vectors, saved))
    (plain, a, much), (again, b, little) = found
    torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert plain.keys() == again.keys() and little < much / 2
    for name, gradient in plain.items():
        assert gradient is not None, name
        torch.testing.assert_close(again[name], gradient, rtol=1e-6, atol=1e-6)
    if dropout:
        torch.manual_seed(6)
        assert not torch.equal(encoder(*packed(texts_of(files, count=9)))[0], b)


def watched(encoder, batch):
    """Vectors of a batch, and how many numbers are kept for the backward pass."""
    sizes = []

    def note(tensor):
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        return encoder(*batch)[0], sum(sizes)


@pytest.mark.parametrize("mode", ["full", "lora", "frozen"])
def test_one_step_moves_what_the_mode_says(files, mode):
    encoder = make(files, f"text.mode={mode}").train()
    before = {name: p.detach().clone() for name, p in encoder.named_parameters()}
    vectors, _ = encoder(*packed(texts_of(files, count=9)))
    trainable = [p for p in encoder.parameters() if p.requires_grad]
    if mode == "frozen":
        assert not trainable and not vectors.requires_grad
        return
    vectors.pow(3).sum().backward()
    assert all(p.grad is not None for p in trainable)
    torch.optim.AdamW(trainable, lr=1e-3, weight_decay=0.0).step()
    moved = {name for name, p in encoder.named_parameters() if not torch.equal(p, before[name])}
    if mode == "lora":  # B starts at zero, so A has a gradient of zero in the first step
        assert moved == {name for name in before if "lora_B" in name}
    else:
        assert not {name for name in before.keys() - moved if not name.endswith(NO_GRADIENT)}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_states_on_a_gpu(files):
    tokens, ptr = packed(texts_of(files))
    with torch.no_grad():
        expected = make(files).eval().states(tokens, ptr)
        there = make(files).eval().cuda().states(tokens.cuda(), ptr.cuda())
        low = make(files, autocast=torch.bfloat16).eval().cuda().states(tokens.cuda(), ptr.cuda())
    torch.testing.assert_close(there.cpu(), expected, rtol=1e-3, atol=1e-3)  # TF32
    assert low.dtype == torch.float32
    torch.testing.assert_close(low.cpu(), expected, rtol=0.1, atol=0.1)
    encoder = make(files, "text.checkpointing=true").cuda().train()
    encoder(tokens.cuda(), ptr.cuda())[0].square().sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())


def test_depths_follow_the_layers(files):
    encoder = make(files)
    found = encoder.depths()
    assert found.keys() == {name for name, _ in encoder.named_parameters()}
    assert set(found.values()) == set(range(LAYERS + 1))
    for name, depth in found.items():
        if "embeddings." in name or "embed_tokens" in name or "shared" in name:
            assert depth == 0, name
        elif name.startswith("model.final_"):
            assert depth == LAYERS, name
    number = [int(part) for name in found for part in name.split(".") if part.isdigit()]
    assert set(number) >= set(range(LAYERS))


def test_adapters_go_beside_query_and_value_of_every_layer(files):
    beside = lora_targets(make(files).model)
    encoder = make(files, "text.mode=lora")
    adapted = {name for name, p in encoder.named_parameters() if p.requires_grad}
    assert all("lora_" in name for name in adapted) and len(adapted) == 2 * LAYERS * len(beside)
    assert len(beside) == 2 or "qkv" in beside[0]
    known = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(encoder.model.config.model_type)
    assert known is None or known == beside


def test_other_names_of_layers_are_refused():
    with pytest.raises(UserError, match="no query and value layers in Linear.*text.mode=full or frozen"):
        lora_targets(torch.nn.Linear(2, 2))


def test_missing_weights_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    path = make_encoder(tmp_path, "bert") / "model.safetensors"
    weights = load_file(path)
    lacking = {name: w.clone() for name, w in weights.items() if "layer.1.output" not in name}
    save_file(lacking, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 4 weights of its BertModel, encoder.layer.1.output"):
        make(resolve_encoder(str(tmp_path)))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="is cut or damaged"):
        resolve_encoder(str(tmp_path))


def test_pickled_weights_alone_are_refused(tmp_path):
    from safetensors.torch import load_file

    path = make_encoder(tmp_path, "bert") / "model.safetensors"
    torch.save(load_file(path), tmp_path / "pytorch_model.bin")
    path.unlink()
    with pytest.raises(UserError, match=r"no \*\.safetensors weights, and pickles are not loaded: convert"):
        resolve_encoder(str(tmp_path))


@pytest.mark.parametrize(
    ("family", "why"),
    [("t5", "is the first of the text"), ("clip", "sees none of"), ("qwen2", "sees none of")],
)
def test_cls_is_refused_where_it_says_nothing(tmp_path, family, why):
    files = resolve_encoder(str(make_encoder(tmp_path, family)))
    with pytest.raises(UserError, match=why):
        files.check_pooling("cls")
    files.check_pooling("mean")
    files.check_pooling("last")


@pytest.mark.parametrize("family", ["roberta", "qwen3"])
def test_frozen_weights_in_bf16_keep_adapters_in_float32(tmp_path, family):
    """States agree to the 8 bits of bf16's mantissa, vectors are float32, and adapters learn."""
    files = resolve_encoder(str(make_encoder(tmp_path, family)))
    words = ("text.mode=lora", "text.frozen_precision=bf16")
    encoder, whole = make(files, *words).eval(), make(files, "text.mode=lora").eval()
    kinds = {(p.requires_grad, p.dtype) for p in encoder.parameters()}
    assert kinds == {(True, torch.float32), (False, torch.bfloat16)}
    batch = packed(texts_of(files, count=9))
    vectors, expected = encoder(*batch)[0], whole(*batch)[0]
    assert vectors.dtype == torch.float32
    torch.testing.assert_close(vectors, expected, rtol=0.1, atol=0.1)
    vectors.sum().backward()
    assert all(p.grad is not None for p in encoder.parameters() if p.requires_grad)
    with pytest.raises(UserError, match="is for frozen weights, which text.mode=full has not"):
        make(files, "text.frozen_precision=bf16")
