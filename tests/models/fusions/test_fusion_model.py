"""The fused model with every fusion, with and without physical context: what reads what, what is equal."""

from __future__ import annotations

import itertools

import pytest
import torch
from model_batches import batch_of
from transformers import BertConfig, BertModel

from mmgnn_dist.config import load_recipe
from mmgnn_dist.data.loading.batch import Batch
from mmgnn_dist.data.loading.context import ContextScaler
from mmgnn_dist.data.text.encoder_files import EncoderFiles
from mmgnn_dist.models.fused import FusedModel, TextSource

SMALL = "model.backbone={name: painn, hidden: 16, interactions: 2, radial: 8, cutoff: 5.0}"
FUSIONS = ["gate", "concat", "film", "cross_attention", "gate_paper"]
FORMS = ["sum", "mean", "dipole"]
STATISTICS = ContextScaler(
    torch.arange(6.0), torch.full((6,), 2.0), torch.tensor([9, 9, 9, 9, 9, 0], dtype=torch.int64)
)
WATER, ETHANOL = [2, 23, 3], [2, 38, 19, 21, 3]
PAIRS = list(itertools.product(FUSIONS, [False, True]))
each = pytest.mark.parametrize(
    ("fusion", "context"), PAIRS, ids=[f"{f}-context" if c else f for f, c in PAIRS]
)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> TextSource:
    """A tiny BERT with random weights."""
    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    BertModel(
        BertConfig(
            vocab_size=60, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
        )
    ).save_pretrained(folder)
    return TextSource(EncoderFiles("tiny", folder, None), blank=(2, 3))


def make(source: TextSource, fusion: str, context: bool = False, *overrides: str) -> FusedModel:
    words = [SMALL, f"model.fusion={fusion}", f"model.context={str(context).lower()}", *overrides]
    model = FusedModel(load_recipe(None, words), FORMS, source, context=STATISTICS)
    with torch.no_grad():  # the last layer starts at zero: give it weights, so that outputs differ
        model.readout.contribution.weight.normal_(generator=torch.Generator().manual_seed(5))
    return model


def batch(texts: list[list[int]], sizes: tuple[int, ...] = (3, 4, 7), known: bool = True) -> Batch:
    """Molecules with texts, and with context unless it is not to be known; the last has none of it."""
    made = batch_of(list(sizes), texts, targets=len(FORMS))
    made.context = torch.randn(len(sizes), 6, generator=torch.Generator().manual_seed(7))
    made.context_mask = torch.tensor([[True, False, True, True, True, True]] * len(sizes)) & known
    made.context_mask[-1] = False
    return made


@pytest.mark.parametrize(
    ("fusion", "context", "mode"),
    [
        (*pair, mode)
        for pair in PAIRS
        for mode in ("full", "lora", "frozen")
        if (pair[0], mode) != ("cross_attention", "frozen")
    ],
)
def test_without_text_every_parameter_has_a_gradient_and_tokens_are_not_read(source, fusion, context, mode):
    width = 16 if mode == "frozen" else None
    model = make(TextSource(source.files, source.blank, width), fusion, context, f"text.mode={mode}").eval()
    outputs = []
    for seed in (1, 2):
        made = batch([[], [], []], known=False)
        made.tokens = torch.randint(5, 50, (seed * 7,), generator=torch.Generator().manual_seed(seed))
        vectors = torch.randn(3, 16) if mode == "frozen" else None  # what a sidecar must not have
        scaled, _ = model(made, vectors)
        outputs.append(scaled.detach())
        model.zero_grad()
        scaled.sum().backward()
        trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        assert [name for name, p in trainable.items() if p.grad is None] == []
        assert float(model.absent.grad.abs().sum()) > 0
        text = [p for name, p in trainable.items() if name.startswith(("encoder", "project", "context"))]
        assert text and not any(p.grad.any() for p in text)
    assert torch.equal(*outputs)


@each
def test_modalities_share_fusion_and_readout(source, fusion, context):
    """Same names, same shapes and the same start; `graph` and `text` have nothing more than constants."""
    models = {m: make(source, fusion, context, f"model.modality={m}") for m in ("graph", "text", "both")}
    parts = ("fusion", "readout", "absent", "join")
    shared = [
        {name: p for name, p in model.named_parameters() if name.startswith(parts)}
        for model in models.values()
    ]
    assert shared[0].keys() == shared[1].keys() == shared[2].keys() and len(shared[0]) > 6
    assert any(name.startswith("join") for name in shared[0]) is context
    for other in shared[1:]:
        assert all(torch.equal(p, other[name]) for name, p in shared[0].items())
    rest = {
        m: {name.split(".")[0] for name, _ in model.named_parameters()} - {*parts}
        for m, model in models.items()
    }
    reads = {"encoder", "project"} | ({"context"} if context else set())
    assert rest == {"graph": {"backbone"}, "text": reads | {"no_graph"}, "both": reads | {"backbone"}}
    for a, b in itertools.combinations(models.values(), 2):
        ours, theirs = dict(a.named_parameters()), dict(b.named_parameters())
        assert all(torch.equal(ours[name], theirs[name]) for name in ours.keys() & theirs.keys())


@each
def test_graph_reads_neither_text_nor_context(source, fusion, context):
    model = make(source, fusion, context, "model.modality=graph").eval()
    full, none = batch([WATER, ETHANOL, WATER]), batch([[], [], []], known=False)
    assert torch.equal(model(full)[0], model(none)[0])


@each
def test_text_reads_no_positions(source, fusion, context):
    """Of the graph it knows nothing but how many terms a sum has; the pooled fusion not even that."""
    model = make(source, fusion, context, "model.modality=text").eval()
    made = batch([WATER, ETHANOL, WATER])
    first = model(made)[0]
    made.pos, made.z = made.pos.flip(0) * 1.1, made.z.flip(0)
    kept = [0, 1, 2] if fusion == "gate_paper" else [0, 1]
    assert torch.equal(first[:, kept], model(made)[0][:, kept])
    larger = batch([WATER, ETHANOL, WATER], sizes=(5, 2, 9))
    columns = [0, 1, 2] if fusion == "gate_paper" else [1]
    torch.testing.assert_close(model(larger)[0][:, columns], first[:, columns], rtol=1e-5, atol=1e-5)


@each
def test_both_reads_text_of_its_own_molecule(source, fusion, context):
    model = make(source, fusion, context).eval()
    first = model(batch([WATER, [], ETHANOL]))[0]
    other = model(batch([ETHANOL, [], ETHANOL]))[0]
    torch.testing.assert_close(first[1:], other[1:], rtol=0, atol=1e-5)
    assert not torch.allclose(first[0], other[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_context_is_read_where_it_is_known(source, fusion):
    """A changed number changes its molecule alone; an unknown one, or one that training lacked, nothing."""
    model = make(source, fusion, True).eval()
    first = model(batch([WATER, [], ETHANOL]))[0]

    def changed(row: int, field: int) -> torch.Tensor:
        made = batch([WATER, [], ETHANOL])
        made.context[row, field] += 3.0
        return model(made)[0]

    other = changed(1, 0)
    assert torch.equal(first[[0, 2]], other[[0, 2]]) and not torch.allclose(first[1], other[1])
    for unread in ((0, 1), (1, 5), (2, 0)):  # masked; not in training; a molecule without any context
        assert torch.equal(changed(*unread), first)


def test_context_statistics_are_part_of_the_weights(source):
    model = make(source, "gate", True).eval()
    recipe = load_recipe(None, [SMALL, "model.context=true"])
    fresh = FusedModel(recipe, FORMS, source).eval()
    made = batch([WATER, [], ETHANOL])
    assert not torch.equal(fresh(made)[0], model(made)[0])
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(made)[0], model(made)[0])
    assert torch.equal(fresh.context.mean, STATISTICS.mean) and fresh.context.count.tolist()[-1] == 0


@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize("fusion", ["gate", "gate_paper"])
@pytest.mark.parametrize("forced", [0.0, 1.0])
def test_forced_gate_reads_one_side_alone(source, fusion, forced, context):
    """In value and in gradient: at 1 text and context are of no matter, at 0 the positions are not."""
    model = make(source, fusion, context).eval()
    last = model.fusion.gate_graph if fusion == "gate" else model.fusion.gate
    with torch.no_grad():
        last.weight.zero_()
        if fusion == "gate":
            model.fusion.gate_text.weight.zero_()
        last.bias.fill_(1e4 if forced else -1e4)
    first = batch([WATER, ETHANOL, []])
    scaled, gate = model(first)
    torch.testing.assert_close(gate, torch.full((3,), forced))
    columns = scaled if fusion == "gate_paper" else scaled[:, :2]  # a dipole has its positions besides
    columns.square().sum().backward()

    def size(*names: str) -> float:
        return sum(float(p.grad.abs().sum()) for n, p in model.named_parameters() if n.startswith(names))

    text = size("encoder", "project", "join", "absent", "context", "fusion.value_text")
    graph = size("backbone", "fusion.value_graph")
    silent, heard = (text, graph) if forced else (graph, text)
    assert silent < 1e-6 < heard
    other = batch([[], WATER, ETHANOL] if forced else [WATER, ETHANOL, []])
    if forced:
        other.context = other.context + 1.0
    else:
        other.pos = other.pos * 1.2
    moved = model(other)[0]
    torch.testing.assert_close(moved[:, :2], scaled[:, :2], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_gates_are_returned_by_gates_alone(source, fusion):
    model = make(source, fusion, True).eval()
    _, gate = model(batch([WATER, [], ETHANOL]))
    if fusion in ("gate", "gate_paper"):
        assert gate.shape == (3,) and ((gate > 0) & (gate < 1)).all() and gate.std() > 0
    else:
        assert gate is None


@each
def test_outputs_do_not_turn_with_the_molecule_nor_depend_on_any_order(source, fusion, context):
    model = make(source, fusion, context).eval()
    texts, sizes = [WATER, [], ETHANOL], (3, 4, 7)
    made = batch(texts, sizes)
    first, gate = model(made)
    turned = batch(texts, sizes)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(3)))[0]
    turned.pos = turned.pos @ turn + torch.tensor([1.0, -2.0, 0.5])
    torch.testing.assert_close(model(turned)[0], first, rtol=1e-5, atol=1e-5)

    order = [2, 0, 1]  # of molecules; atoms of each backwards
    atoms = torch.cat([torch.arange(made.ptr[b + 1] - 1, made.ptr[b] - 1, -1) for b in order])
    moved = batch_of([sizes[b] for b in order], [texts[b] for b in order], targets=len(FORMS))
    moved.z, moved.pos = made.z[atoms], made.pos[atoms]
    moved.context, moved.context_mask = made.context[order], made.context_mask[order]
    found, moved_gate = model(moved)
    torch.testing.assert_close(found, first[order], rtol=1e-5, atol=1e-5)
    if gate is not None:
        torch.testing.assert_close(moved_gate, gate[order], rtol=1e-5, atol=1e-5)
    for b in range(3):  # each alone
        alone = batch_of([sizes[b]], [texts[b]], targets=len(FORMS))
        alone.z, alone.pos = made.z[made.ptr[b] : made.ptr[b + 1]], made.pos[made.ptr[b] : made.ptr[b + 1]]
        alone.context, alone.context_mask = made.context[[b]], made.context_mask[[b]]
        torch.testing.assert_close(model(alone)[0], first[[b]], rtol=1e-5, atol=1e-5)
