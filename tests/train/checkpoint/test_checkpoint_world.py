"""A checkpoint continues in any number of ranks: weights, moments, steps and average stay what they are."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from command_line import start_all

from mmgnn_dist.train.checkpoint import store as checkpoint
from mmgnn_dist.train.checkpoint.reshard import _apart


def segment(folder, stage: int, world: int) -> dict[str, torch.Tensor]:
    """Let `world` ranks go on for three steps; returns the state that they ended with."""
    ranks = start_all("world_worker", world, folder, stage)
    assert {rank.wait() for rank in ranks} == {0}, "\n".join(rank.output() for rank in ranks)
    return torch.load(folder / "trained.pt")


def steps_of(state) -> set[float]:
    return {float(value) for name, value in state.items() if name.startswith("step/")}


def assert_equal(a, b):
    """Every rank of sharding counts its own steps, so only their values can be compared."""
    assert steps_of(a) == steps_of(b)
    named = [name for name in a if not name.startswith("step/")]
    assert named and set(named) == {name for name in b if not name.startswith("step/")}
    for name in named:
        assert torch.equal(a[name], b[name]), name


def chain(folder, stage: int, worlds: list[int]) -> None:
    before = segment(folder, stage, worlds[0])
    assert steps_of(before) == {3}
    for done, world in enumerate(worlds[1:], 1):
        after = segment(folder, stage, world)
        assert_equal(torch.load(folder / f"loaded_{world}.pt"), before)
        assert steps_of(after) == {3 * (done + 1)}
        before = after
        found = [path.name for path in (folder / "checkpoints").iterdir()]
        assert found == [checkpoint.folder_of(3 * (done + 1))]
    states = sorted((folder / "checkpoints" / found[0] / "ds").glob("*mp_rank_00_model_states.pt"))
    weights = torch.load(states[0], weights_only=False)
    assert sorted(weights["module"]) == [
        "0.bias",
        "0.weight",
        "1.bias",
        "1.weight",
        "3.weight",
    ]  # 2 is frozen


def test_step_counts_are_where_the_parameters_are():
    """As torch's fused optimiser wants it; the universal checkpoint brings one shared count on the host."""
    shared = torch.tensor(3.0)
    parameters = [torch.nn.Parameter(torch.zeros(2, device=device)) for device in ("meta", "cpu", "cpu")]
    optimizer = SimpleNamespace(state={p: {"step": shared} for p in parameters})
    with _apart(SimpleNamespace(optimizer=SimpleNamespace(param_groups=[], optimizer=optimizer))):
        pass
    steps = [optimizer.state[p]["step"] for p in parameters]
    assert [step.device for step in steps] == [p.device for p in parameters]
    steps[1] += 1
    assert (float(steps[1]), float(steps[2])) == (4, 3)


def test_two_four_one(tmp_path):
    chain(tmp_path, 2, [2, 4, 1])


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_two_four_one_two(tmp_path, stage):
    chain(tmp_path, stage, [2, 4, 1, 2])
