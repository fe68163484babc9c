"""Ranks of one machine meet, whatever else opens ports there."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.distributed as dist
from command_line import write_recipe

from mmgnn_dist.cli.main import main
from mmgnn_dist.config import load_recipe
from mmgnn_dist.errors import EXIT_FAULT, EXIT_STOPPED, UserError
from mmgnn_dist.signals import STOP_SIGNALS, Stopped
from mmgnn_dist.train import launch
from mmgnn_dist.train.engine import compute_type
from mmgnn_dist.train.launch import start_here
from mmgnn_dist.train.ranks import Ranks, init_distributed, uses_gpus

RANK = """
import os, psutil, sys, torch
print(os.environ["MASTER_PORT"], flush=True)
sys.stdin.readline()
first = 8 * int(os.environ["RANK"]) * int(os.environ.get("BOUND", 0))
os.sched_getaffinity = lambda pid: set(range(first, first + 8))
from mmgnn_dist.train.ranks import init_distributed
ranks = init_distributed(0, 30)
total = float(ranks.all_reduce_sum(torch.ones(1)))
listening = [c.laddr.ip for c in psutil.Process().net_connections("tcp") if c.status == "LISTEN"]
print(total, torch.get_num_threads(), *set(listening), flush=True)
os._exit(0)
"""


@pytest.mark.parametrize(("bound", "threads"), [("0", 4), ("1", 8)])
def test_nobody_takes_the_port_and_only_shared_cores_are_divided(monkeypatch, bound, threads):
    """Two ranks share eight cores, or a launcher has bound each to eight of its own; they listen on lo."""
    monkeypatch.setenv("BOUND", bound)
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    ranks = start_here([sys.executable, "-c", RANK], 2, **pipes)
    try:
        (port,) = {int(rank.stdout.readline()) for rank in ranks}
        with pytest.raises(OSError, match="in use"):
            socket.create_server(("127.0.0.1", port))
        for rank in ranks:
            rank.stdin.close()  # now they may meet
        assert [rank.stdout.read().strip() for rank in ranks] == [f"2.0 {threads} 127.0.0.1"] * 2
    finally:
        for rank in ranks:
            rank.kill()


def test_a_stop_before_ranks_can_listen_is_a_stop(monkeypatch, tmp_path):
    """As in set-up, while libraries are imported; afterwards signals are the caller's again."""
    monkeypatch.setattr(
        launch, "start_here", lambda *_, **__: [subprocess.Popen(["sleep", "60"]) for _ in range(2)]
    )
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    assert launch.launch(tmp_path, 2) == EXIT_STOPPED
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before


def test_a_rank_that_is_killed_is_a_fault(monkeypatch, tmp_path):
    monkeypatch.setattr(launch, "start_here", lambda *_, **__: [subprocess.Popen(["sh", "-c", "kill -9 $$"])])
    assert launch.launch(tmp_path, 1) == EXIT_FAULT


@pytest.mark.parametrize(("codes", "told"), [([1, 2], 2), ([3, 1, 2, 1], 2), ([2, 1, -9], -9), ([3, 0], 3)])
def test_the_rank_that_knows_why_is_told(codes, told):
    """Ranks that ended of themselves or of a lost peer within the same moment."""
    commands = ["kill -9 $$" if code < 0 else f"exit {code}" for code in codes]
    ranks = [subprocess.Popen(["sh", "-c", command]) for command in commands]
    for rank in ranks:
        rank.wait()
    assert launch._wait(ranks) == told


def test_a_rank_that_sees_its_own_gpu_alone(monkeypatch):
    """As Slurm shows it with --gpus-per-task; DeepSpeed takes the device from LOCAL_RANK."""
    chosen = []
    place = {
        "RANK": "3",
        "WORLD_SIZE": "4",
        "LOCAL_RANK": "3",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "1",
        "DS_ACCELERATOR": "cuda",
    }
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    ranks = init_distributed(torch.get_num_threads())
    assert (ranks.rank, ranks.device, chosen) == (3, torch.device("cuda", 0), [ranks.device])
    assert os.environ["LOCAL_RANK"] == "0"
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    assert init_distributed(torch.get_num_threads()).device == torch.device("cpu") and not uses_gpus()


@pytest.mark.parametrize("emulated", [True, False])
def test_bf16_is_taken_where_the_gpu_has_it(monkeypatch, emulated):
    """torch counts emulation unless it is asked not to: a V100 or T4 would be slower than in float32."""
    found = lambda including_emulation=True: including_emulation or not emulated  # noqa: E731
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", found)
    cuda = torch.device("cuda")
    assert compute_type(load_recipe(None, []), cuda) == (None if emulated else torch.bfloat16)
    if emulated:
        with pytest.raises(UserError, match="no bf16 instructions"):
            compute_type(load_recipe(None, ["train.precision=bf16"]), cuda)


def test_ranks_wait_for_the_first_one_as_long_as_it_gets_on():
    store, seen = dist.HashStore(), []
    cpu = torch.device("cpu")
    first = Ranks(0, 2, cpu, beat=lambda what: seen.append((0, what)), store=store)
    other = Ranks(1, 2, cpu, lambda what: seen.append((1, what)), lambda: seen.append((1, "")), store=store)

    def work(moved):
        for _ in range(4):
            time.sleep(0.3)
            moved()
        return "made"

    with ThreadPoolExecutor(2) as pool:
        found = [pool.submit(ranks.run_on_rank0, "text", work) for ranks in (first, other)]
        assert [one.result(20) for one in found] == ["made", None]
    assert seen.count((1, "")) >= 3  # its watch is fed while the first one moves
    beats = [sum(rank == r and bool(what) for rank, what in seen) for r in (0, 1)]
    assert beats[0] == beats[1]  # both are as far afterwards


def test_all_ranks_leave_when_the_first_is_stopped_in_its_work():
    store, cpu = dist.HashStore(), torch.device("cpu")
    pair = Ranks(0, 2, cpu, signals=[signal.SIGTERM], store=store), Ranks(1, 2, cpu, store=store)
    with ThreadPoolExecutor(2) as pool:
        for one in [pool.submit(ranks.run_on_rank0, "text", lambda moved: moved()) for ranks in pair]:
            with pytest.raises(Stopped):
                one.result(20)


def test_more_ranks_than_gpus_are_refused(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("DS_ACCELERATOR", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    recipe = write_recipe(tmp_path, tmp_path)
    assert main(["train", str(recipe), "--run", str(tmp_path / "run"), "--nproc", "3"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "3 ranks on a machine with 2 GPU(s)" in error and not (tmp_path / "run").exists()


def test_ranks_of_torchrun_meet_in_its_store():
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python"]
    said = subprocess.run(  # noqa: PLW1510
        [sys.executable, *words, sys.executable, "-c", RANK],
        input="",
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout.count("2.0") == 2  # the ranks share one pipe, and may write into one line
