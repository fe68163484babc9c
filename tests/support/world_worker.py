"""A rank that continues a small engine from a checkpoint, trains three steps and saves.

The first rank writes down the named float32 weights and moments after loading (`loaded_WORLD.pt`) and before
it leaves (`trained.pt`). The model has groups of a few numbers only, so that some ranks have nothing of them.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from mmgnn_dist.train.checkpoint import store as checkpoint
from mmgnn_dist.train.checkpoint.writer import Saver
from mmgnn_dist.train.ranks import init_distributed


def make(stage: int, world: int):
    import deepspeed
    from deepspeed.utils import logger

    logger.setLevel(logging.ERROR)
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(7, 5), nn.LayerNorm(5), nn.Linear(5, 6), nn.Linear(6, 3, bias=False))
    model[2].requires_grad_(False)
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p], "lr": 0.01, "name": name, "peak": 0.01, "weight_decay": 0.01 * p.ndim}
        for name, p in named
    ]
    config = {
        "train_micro_batch_size_per_gpu": 8 // world,
        "train_batch_size": 8,
        "gradient_clipping": 1.0,
        "zero_optimization": {"stage": stage},
        "steps_per_print": 10**9,
    }
    optimizer = torch.optim.AdamW(groups, fused=True)
    engine, *_ = deepspeed.initialize(
        model=model, optimizer=optimizer, config=config, dist_init_required=False
    )
    return engine


def state_of(engine) -> dict[str, torch.Tensor]:
    """Named weights and moments, whole, put together from the flat partitions of all ranks.

    DeepSpeed's own `safe_get_full_optimizer_state` knows the first parameter group only.
    """
    found = {
        f"group/{group['name']}": torch.tensor([group["lr"], group["weight_decay"], group["peak"]])
        for group in engine.optimizer.param_groups
    }
    names = {p: name for name, p in engine.module.named_parameters() if p.requires_grad}
    if not engine.zero_optimization():
        for p, name in names.items():
            state = engine.optimizer.state[p]
            found |= {f"{name}/{key}": state[key] for key in ("exp_avg", "exp_avg_sq")}
            found |= {f"{name}/weight": p, f"step/{name}": state["step"]}
        return {name: value.detach().clone().float() for name, value in found.items()}
    zero = engine.optimizer
    if engine.zero_optimization_stage() == 3:
        for p, name in names.items():
            keys = {"weight": None, "exp_avg": "exp_avg", "exp_avg_sq": "exp_avg_sq"}
            found |= {f"{name}/{key}": zero.get_full_hp_param(p, state) for key, state in keys.items()}
        flat = zero.fp32_partitioned_groups_flat
        found |= {f"step/{i}": zero.optimizer.state[group]["step"] for i, group in enumerate(flat)}
        return {name: value.detach().clone().float() for name, value in found.items()}
    for group, flat in zip(zero.bit16_groups, zero.single_partition_of_fp32_groups, strict=True):
        state = zero.optimizer.state[flat]
        for p in group:
            for key, source in (("weight", flat), *((k, state.get(k)) for k in ("exp_avg", "exp_avg_sq"))):
                whole = torch.zeros(p.numel(), device=p.device)
                if p._hp_mapping is not None:
                    there, here = p._hp_mapping.lp_fragment_address, p._hp_mapping.hp_fragment_address
                    part = source.detach().narrow(0, here.start, here.numel)
                    whole.narrow(0, there.start, there.numel).copy_(part)
                dist.all_reduce(whole)
                found[f"{names[p]}/{key}"] = whole.view_as(p)
            if p._hp_mapping is not None:
                found[f"step/{names[p]}"] = torch.as_tensor(float(state["step"]))
    return found


def work() -> None:
    folder, stage = Path(sys.argv[1]), int(sys.argv[2])
    ranks = init_distributed(1)
    engine = make(stage, ranks.world)
    about = {"encoder": None}
    saver = Saver(folder / "checkpoints", engine, ranks, 1, about)
    state = {"step": 0, "best_step": -1}
    ema = {"w": torch.zeros(3)}
    found = checkpoint.agreed_newest(folder / "checkpoints", ranks)
    if found:
        state, ema = checkpoint.load(found, engine, ranks, None)
        loaded = state_of(engine)
        if ranks.is_rank0:
            torch.save({**loaded, "ema": ema["w"]}, folder / f"loaded_{ranks.world}.pt")
    for _ in range(3):
        generator = torch.Generator().manual_seed(state["step"])
        share = slice(ranks.rank * 8 // ranks.world, (ranks.rank + 1) * 8 // ranks.world)
        inputs = torch.randn(8, 7, generator=generator)[share].to(ranks.device)
        engine.backward(engine(inputs).square().mean())
        engine.step()
        state["step"] += 1
        ema["w"] += torch.rand(3, generator=generator)
    saver.save(ema, state)
    trained = state_of(engine)
    if ranks.is_rank0:
        torch.save({**trained, "ema": ema["w"]}, folder / "trained.pt")
    saver.wait()
    saver.close()


def main() -> int:
    try:
        work()
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    return 0
