"""Ray over all nodes of the Slurm allocation around this process, while a `with` block runs.

srun starts one task for each node (`node.py`). The first task is the head. Its port is computed from the
job's number, so that two jobs use different ports, and a random token keeps out other clients. There is no
dashboard. Ray ends when this process closes the pipe to srun or dies, or when the job ends.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from mmgnn_dist.cluster.slurm.supervisor import own_address
from mmgnn_dist.data.prepare.ray_run import LOOPBACK, ray_parent
from mmgnn_dist.errors import TryAgain, UserError

FIRST, SPAN, EACH = 20000, 1200, 10  # SPAN blocks of EACH ports, from FIRST on; a job has one block
PATIENCE = 300.0  # seconds in which all nodes must join
STARTED = re.compile(rb"^ *(\d+): .*Ray runtime started\.", re.M)  # what `ray start` says, as srun labels it
LEAVING = 60.0  # seconds in which they must end


@contextmanager
def ray_around() -> Iterator[None]:
    """Start Ray on all nodes of this allocation and join it; do nothing outside of an allocation.

    Raises:
        UserError: if this is not the first node, or srun is missing.
        TryAgain: if not all nodes join.
    """
    if "SLURM_JOB_ID" not in os.environ:
        yield
        return
    if os.environ.get("SLURM_NODEID", "") != "0" or os.environ.get("SLURM_PROCID", "0") != "0":
        raise UserError(
            "inside of an allocation this starts Ray on all its nodes, from the first one: call it once, in "
            "the batch script (slurm/ray.sbatch)"
        )
    if shutil.which("srun") is None:
        raise UserError(
            "inside of an allocation this starts Ray on all its nodes by srun, which is not on PATH here (a "
            "container?): call it outside, or 'unset SLURM_JOB_ID' for Ray on this node alone"
        )
    nodes = int(os.environ["SLURM_JOB_NUM_NODES"])
    ip = _own_ip() if nodes > 1 else "127.0.0.1"
    if nodes == 1:
        os.environ.update([LOOPBACK])
    else:
        print(
            f"mmgnn: Ray's servers listen on all interfaces of the nodes, not on {ip} alone, as Ray cannot "
            "be told; the random token of this job keeps out other clients",
            file=sys.stderr,
        )
    address = f"{ip}:{free_of(int(os.environ['SLURM_JOB_ID']), ip)}"
    os.environ.update(
        RAY_AUTH_MODE="token",
        RAY_AUTH_TOKEN=secrets.token_hex(32),
        RAY_USAGE_STATS_ENABLED="0",
        RAY_gcs_rpc_server_reconnect_timeout_s="5",
    )
    with tempfile.TemporaryFile("w+") as log:
        step = _start(nodes, address, log)
        try:
            _join(nodes, address, step, log)
            yield
        finally:
            _end(step)


def ray_temp_dir() -> Path:
    """Return a new name for the folder of Ray's sockets and logs on each node: short, not to be guessed."""
    temp_dir = ray_parent(os.environ.get("TMPDIR", "/tmp"))
    start = f"{os.environ['SLURM_JOB_ID']}.{os.environ.get('SLURM_RESTART_COUNT', '0')}"
    return temp_dir / f"r{start}.{secrets.token_hex(2)}"


def ports_of(job: int) -> range:
    """Return the ports that belong to a job."""
    first = FIRST + job % SPAN * EACH
    return range(first, first + EACH)


def free_of(job: int, address: str = "") -> int:
    """Return the first port of a job that is free on this node, at one of its addresses.

    Raises:
        TryAgain: if none is free.
    """
    for port in ports_of(job):
        with socket.socket() as probe:
            try:
                probe.bind((address, port))
            except OSError:
                continue
            return port
    ports = ports_of(job)
    raise TryAgain(f"ports {ports[0]} to {ports[-1]} are all in use on this node: submit the job again")


def _own_ip() -> str:
    name = own_address()
    try:
        return socket.gethostbyname(name)
    except OSError:
        raise UserError(
            f"this node's name {name} does not resolve: export GLOO_SOCKET_IFNAME=INTERFACE, or "
            "run mmgnn doctor --on-cluster"
        ) from None


def _start(nodes: int, address: str, log: IO[str]) -> subprocess.Popen[bytes]:
    options = [f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "--overlap", "--cpu-bind=none"]
    options += ["--kill-on-bad-exit=1", "--label"]
    command = [sys.executable, "-u", "-m", "mmgnn_dist.cluster.ray.node", address, str(ray_temp_dir())]
    return subprocess.Popen(["srun", *options, *command], stdin=subprocess.PIPE, stdout=log, stderr=log)


def _join(nodes: int, address: str, step: subprocess.Popen[bytes], log: IO[str]) -> None:
    import ray

    host, port = address.split(":")
    end = time.monotonic() + PATIENCE
    while True:
        if step.poll() is not None or time.monotonic() > end:
            raise TryAgain(f"Ray did not start on the nodes of this job: {_last(log)}")
        with socket.socket() as probe:
            if probe.connect_ex((host, int(port))) == 0:
                break
        time.sleep(0.2)
    # on a busy machine `ray start` gives up after 30 s, though its raylet has joined: it is started again,
    # and whoever has counted on the first one waits minutes for it
    while (started := len(started_nodes(log))) < nodes:
        if step.poll() is not None or time.monotonic() > end:
            raise TryAgain(
                f"Ray has started on {started} of {nodes} nodes after {PATIENCE:.0f} s: {_last(log)}"
            )
        time.sleep(0.2)
    while not ray.is_initialized():
        try:
            ray.init(
                address=address, _node_ip_address=host, log_to_driver=False, logging_level=logging.CRITICAL
            )
        except (
            ConnectionError,
            RuntimeError,
            ValueError,
            TimeoutError,
        ) as error:  # its raylet has not started yet
            if step.poll() is not None or time.monotonic() > end:
                raise TryAgain(f"Ray cannot be joined at {address} ({error}): {_last(log)}") from None
            time.sleep(0.5)
    while (joined := sum(_alive(ray.nodes()))) < nodes:
        if step.poll() is not None or time.monotonic() > end:
            raise TryAgain(f"Ray has {joined} of {nodes} nodes after {PATIENCE:.0f} s: {_last(log)}")
        time.sleep(0.2)


def started_nodes(log: IO[str]) -> set[bytes]:
    """Return the tasks of srun whose Ray has started; srun goes on to write where the file stands."""
    return set(STARTED.findall(os.pread(log.fileno(), os.fstat(log.fileno()).st_size, 0)))


def _alive(nodes: list[dict[str, Any]]) -> list[bool]:
    return [bool(node["Alive"]) for node in nodes]


def _last(log: IO[str]) -> str:
    log.seek(0)
    lines = [line for line in log.read().splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def _end(step: subprocess.Popen[bytes]) -> None:
    import ray

    ray.shutdown()
    assert step.stdin
    step.stdin.close()
    try:
        step.wait(LEAVING)
    except subprocess.TimeoutExpired:
        step.terminate()
