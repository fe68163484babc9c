"""ZeRO stages, processes, accumulation, offload: all of them train the same model."""

from __future__ import annotations

import shutil

import pyarrow.parquet as pq
import pytest
from command_line import metrics
from run_results import copies, deviation, losses, mae, with_weights_of
from safetensors.torch import load_file
from worlds import together, write

from mmgnn_dist.config import load_recipe
from mmgnn_dist.data.text.encoder_files import resolve_encoder
from mmgnn_dist.errors import UserError

STAGES = (0, 1, 2, 3)


@pytest.fixture(scope="module")
def start(tmp_path_factory, small_shards, tiny_bert):
    """Write a run directory of a given name."""
    root = tmp_path_factory.mktemp("runs")

    def of(name, *words):
        return write(root / name, small_shards, tiny_bert, *words)

    return of


@pytest.fixture(scope="module")
def reference(start):
    """One process, nothing cut, one pass a step; 10 or 11 molecules a step, so shares differ."""
    run = start("reference", "train.batch=11", "train.max_steps=5", "train.zero_stage=0")
    together(1, [run])
    return run


@pytest.fixture(scope="module")
def two_processes(start, reference):
    """Every stage in two processes, each with another accumulation."""
    runs = {}
    for stage, micro in zip(STAGES, ("3", "2", "null", "3"), strict=True):
        words = [f"train.zero_stage={stage}", f"train.micro_batch={micro}"]
        run = start(f"two_{stage}", "train.batch=11", "train.max_steps=5", *words)
        runs[stage] = with_weights_of(run, reference)
    together(2, list(runs.values()))
    return runs


def test_stages_and_accumulation_in_two_processes_are_one_process(reference, two_processes):
    """Shares of ranks and passes differ by one molecule, and many a molecule has no label or no text."""
    for stage, run in two_processes.items():
        assert len(losses(run)) == 5
        assert deviation(run, reference) < 1e-5, stage


def test_one_set_of_weights_has_one_error(reference, two_processes):
    """Seventeen test molecules in steps of eleven over two processes: each counted once."""
    for run in two_processes.values():
        assert mae(run) == pytest.approx(mae(reference), rel=1e-6)
        assert len(pq.read_table(run / "predictions.parquet")) == 17


def test_every_rank_has_the_same_weights(two_processes):
    for stage in (0, 1, 2):
        first, second = copies(two_processes[stage])
        assert first == second


OFFLOADED = ["train.offload=parameters", "text.checkpointing=true"]
PLANS = {
    "full": OFFLOADED,
    # weights in lists, which no module has as its own
    "lists": [
        *OFFLOADED,
        "model.backbone={name: equiformer, hidden: [8, 4, 4], layers: 1, heads: 2, head: [4, 2, 2], "
        "mlp: [8, 4, 4], features: 16, gaussians: 8, radial: [8, 8], cutoff: 4.0}",
    ],
    "lora": ["text.mode=lora", "model.backbone={name: painn, hidden: 8, interactions: 1}"],
}


@pytest.mark.parametrize(
    "plan", ["full", *(pytest.param(plan, marks=pytest.mark.slow) for plan in ("lists", "lora"))]
)
def test_stage_3_continues_bit_for_bit(start, plan):
    """With every dropout on; stopped at step 2 of 4, another group of processes goes on."""
    words = ["train.zero_stage=3", "train.max_steps=4", "train.dropout=true", "model.dropout=0.1"]
    whole, halves = (start(f"{name}_{plan}", *words, *PLANS[plan]) for name in ("whole", "halves"))
    (halves / "stop_at").write_text("2")
    together(2, [whole, halves])
    assert len(losses(halves)) == 2
    together(2, [halves])
    assert (losses(halves) == losses(whole)).all()
    for key in ("weights", "averaged_weights", "metrics"):
        assert metrics(halves)[key] == metrics(whole)[key]
    checkpoint = load_file(halves / "checkpoints" / "step_000004" / "ema.safetensors")
    exported = load_file(halves / "export" / "model.safetensors")
    for name, value in checkpoint.items():  # whole tensors, whoever held which part
        assert exported[f"model.{name}"].shape == value.shape


def test_random_encoder_has_the_sizes_that_are_asked_for(tmp_path, tiny_bert):
    """No weights are in the folder, and so none can be read."""
    shutil.copytree(tiny_bert, tmp_path / "sizes", ignore=shutil.ignore_patterns("*.safetensors"))
    with pytest.raises(UserError, match=r"no \*.safetensors weights.*text.random=\{\}"):
        resolve_encoder(str(tmp_path / "sizes"))
    from mmgnn_dist.models.text_encoder.hf_model import load_encoder

    files = resolve_encoder(str(tmp_path / "sizes"), random={"num_hidden_layers": 5, "hidden_size": 24})
    model = load_encoder(files)
    assert len(model.encoder.layer) == 5
    assert model.embeddings.word_embeddings.weight.shape[1] == 24
    assert model.embeddings.word_embeddings.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert files.model_fingerprint != resolve_encoder(str(tiny_bert)).model_fingerprint
    with pytest.raises(UserError, match=r"text.random.num_layers: config.json of .* such key .did you mean"):
        resolve_encoder(str(tiny_bert), random={"num_layers": 2})


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["train.offload=optimizer", "train.zero_stage=0"], "needs train.zero_stage=1, 2 or 3"),
        (
            ["train.offload=parameters", "train.zero_stage=2"],
            "train.zero_stage=1 with train.offload=optimizer",
        ),
        (["train.offload=cpu"], "train.offload='cpu'"),
        (["train.zero_stage=4"], "train.zero_stage=4"),
        (["text.random={}", "text.mode=lora"], "use text.mode=full"),
        (["text.random={num_hidden_layers: [1]}"], "text.random.num_hidden_layers"),
    ],
)
def test_impossible_combinations_are_refused(words, says):
    with pytest.raises(UserError) as error:
        load_recipe(None, words)
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["large", "qm9"])
def test_recipes_of_launch_are_whole(name):
    from pathlib import Path

    recipe = load_recipe(Path(__file__).parents[2] / "launch" / f"{name}.yaml")
    assert recipe.name == name
