"""Ranks of one machine meet, whatever else opens ports there."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from mmgnn_dist.train.launch import start_here

RANK = """
import os, sys, torch
print(os.environ["MASTER_PORT"], flush=True)
sys.stdin.readline()
from mmgnn_dist.train.ranks import start_ranks
ranks = start_ranks(1, 30)
print(float(ranks.total(torch.ones(1))), flush=True)
os._exit(0)
"""


def test_nobody_takes_the_port_before_the_first_rank_listens_there():
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    ranks = start_here([sys.executable, "-c", RANK], 2, **pipes)
    try:
        (port,) = {int(rank.stdout.readline()) for rank in ranks}
        with pytest.raises(OSError, match="in use"):
            socket.create_server(("127.0.0.1", port))
        for rank in ranks:
            rank.stdin.close()  # now they may meet
        assert [rank.stdout.read().strip() for rank in ranks] == ["2.0"] * 2
    finally:
        for rank in ranks:
            rank.kill()


def test_ranks_of_torchrun_meet_in_its_store():
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python"]
    said = subprocess.run(  # noqa: PLW1510
        [sys.executable, *words, sys.executable, "-c", RANK], input="", capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert said.stdout.split().count("2.0") == 2
