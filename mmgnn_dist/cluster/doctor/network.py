"""Checks between ranks: interfaces, host names, clocks, the shared disk, and the speed of the all-reduce."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import struct
import time
from pathlib import Path

from mmgnn_dist.cluster.doctor.line import Line, fail, ok, warn
from mmgnn_dist.cluster.slurm.supervisor import own_address

SLOW_NAMES = 2.0  # seconds
SKEW, FAR = 1.0, 30.0  # seconds between two clocks: above them a warning, a failure
MESSAGE_BYTES = 32 << 20  # size of the tensor that is summed, and of the file that is written
REPEATS = 5
SLOW_NCCL = 1e9  # bytes/s; every link between GPUs is faster, so NCCL uses the wrong interface
SLOW_DISK = 20e6  # bytes/s


def addresses() -> dict[str, str]:
    """Return the IPv4 address of each interface that has one."""
    interface_addresses = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(probe.fileno(), 0x8915, struct.pack("256s", name[:15].encode()))
            except OSError:  # SIOCGIFADDR: the interface has no address
                continue
            interface_addresses[name] = socket.inet_ntoa(answer[20:24])
    return interface_addresses


def interface() -> list[Line]:
    """Check that the interfaces set for NCCL and GLOO exist and have an address."""
    interface_addresses = addresses()
    names = ", ".join(f"{name} {address}" for name, address in interface_addresses.items())
    variables = {name: os.environ.get(name, "") for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")}
    cure = f"set interface in the profile to one of {', '.join(interface_addresses)} (ip -br addr)"
    for variable, value in variables.items():
        exact = variable.startswith("GLOO") or value.startswith("=")
        wanted = [part for part in value.lstrip("=").split(",") if part]
        if value.startswith("^"):
            continue
        missing = [
            w
            for w in wanted
            if not any(name == w if exact else name.startswith(w) for name in interface_addresses)
        ]
        if missing:
            return [fail("interface", f"{variable}={value}, but there is {names}", cure)]
    chosen = variables["GLOO_SOCKET_IFNAME"]
    return [
        ok(
            "interface",
            f"{chosen} {interface_addresses[chosen]}" if chosen else f"chosen automatically among {names}",
        )
    ]


def hosts() -> list[Line]:
    """Check that the host names by which ranks find each other resolve, and how fast."""
    if chosen := os.environ.get("GLOO_SOCKET_IFNAME"):
        return [ok("host names", f"not needed: ranks meet at the address of {chosen}")]
    names = [os.environ.get("SLURMD_NODENAME"), socket.gethostname()]
    for name in dict.fromkeys(name for name in names if name):
        began = time.monotonic()
        try:
            address = socket.getaddrinfo(name, None, socket.AF_INET)[0][4][0]
        except OSError as error:
            cure = "set interface in the profile, so that addresses are used, or have it added to /etc/hosts"
            return [fail("host names", f"{name} does not resolve ({error.strerror or error})", cure)]
        if str(address).startswith("127.") and int(os.environ.get("SLURM_JOB_NUM_NODES", "1")) > 1:
            cure = "set interface in the profile, so that ranks use the address that others reach"
            return [fail("host names", f"{name} is {address}, which no other node reaches", cure)]
        if (spent := time.monotonic() - began) > SLOW_NAMES:
            cure = "set interface in the profile; its DNS is not reached from the nodes"
            return [warn("host names", f"{name} is {address}, resolved after {spent:.0f} s", cure)]
    return [ok("host names", f"{name} is {address}")]


def listeners() -> list[Line]:
    """Tell on which interfaces a job listens; Ray over several nodes cannot be bound to one of them.

    Ray 2.60 binds its servers (GCS, raylet, object manager, workers) to the loopback interface or to all
    interfaces, whatever the address of the node; and a node on the loopback interface has no other node.
    """
    several = int(os.environ.get("SLURM_JOB_NUM_NODES", "1")) > 1
    try:
        own = socket.gethostbyname(own_address())
    except (OSError, ValueError):  # `interface` and `hosts` have told why
        return []
    others = {name: address for name, address in addresses().items() if address not in (own, "127.0.0.1")}
    found = f"torch's store on {own} alone"
    if not several or not others:
        return [ok("listeners", found if several else f"{found}, Ray on 127.0.0.1")]
    cure = "close these networks to others (firewall), or run preparations and sweeps on one node (--nodes=1)"
    named = ", ".join(f"{name} {address}" for name, address in others.items())
    told = f"{found}; Ray over several nodes, behind a token of its job, also on {named}"
    return [warn("listeners", told, cure)]


def disk(folder: Path, rank: int) -> list[Line]:
    """Check writing, locking and renaming in the shared folder, and compare its clock with this node's."""
    path = folder / f"probe_{rank}"
    cure = "put run directories on the disk that all nodes share: --dir, --run"
    began = time.monotonic()
    try:
        with open(path.with_suffix(".part"), "wb") as probe:
            fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
            probe.write(os.urandom(MESSAGE_BYTES))
            probe.flush()
            os.fsync(probe.fileno())
        path.with_suffix(".part").rename(path)
    except OSError as error:
        return [fail("shared disk", f"{folder}: {error.strerror}", cure)]
    rate = MESSAGE_BYTES / (time.monotonic() - began)
    skew = abs(path.stat().st_mtime - time.time())
    path.unlink()
    summary = f"{folder}: {rate / 1e6:.0f} MB/s, locks, renames"
    lines = [warn("shared disk", summary, cure) if rate < SLOW_DISK else ok("shared disk", summary)]
    if skew > SKEW:
        difference = f"{skew:.0f} s from that of {folder}"
        lines.append(
            (fail if skew > FAR else warn)("clock", difference, "have the site set the clock (chrony, NTP)")
        )
    return lines


def together(rank: int, world: int) -> list[Line]:
    """Join all ranks, compare their clocks, and measure the all-reduce that averages gradients.

    The environment holds the variables that torch.distributed needs. The bandwidth is that of one link in a
    ring of n ranks: 2 (n - 1) / n times the bytes, per second.
    """
    import torch
    import torch.distributed as dist

    from mmgnn_dist.train.ranks import init_distributed

    device = init_distributed(1).device
    times = [torch.zeros(1, dtype=torch.float64, device=device) for _ in range(world)]
    values = torch.ones(MESSAGE_BYTES // 4, device=device)
    dist.all_reduce(values)
    dist.barrier()
    dist.all_gather(times, torch.tensor([time.time()], dtype=torch.float64, device=device))
    dist.barrier()
    began = time.monotonic()
    for _ in range(REPEATS):
        dist.all_reduce(values)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    spent = (time.monotonic() - began) / REPEATS
    sum_correct = bool((values == float(world) ** (REPEATS + 1)).all())
    dist.destroy_process_group()
    if rank:
        return []
    clocks = [float(value) for value in times]
    skew = max(clocks) - min(clocks)
    rate = MESSAGE_BYTES * 2 * (world - 1) / world / spent
    backend = "NCCL" if device.type == "cuda" else "gloo"
    summary = f"{backend}, {world} ranks: {rate / 1e9:.2f} GB/s"
    check = "all-reduce"
    if not sum_correct:
        lines = [fail(check, f"{backend} gives a wrong sum", "try NCCL_P2P_DISABLE=1, and tell the site")]
    elif backend == "NCCL" and rate < SLOW_NCCL:
        lines = [warn(check, summary, "set interface to the fast network, look at NCCL_DEBUG=INFO")]
    else:
        lines = [ok(check, summary)]
    if skew > SKEW:
        cure = "have the site set the clocks (chrony, NTP)"
        lines.append((fail if skew > FAR else warn)("clock", f"nodes differ by {skew:.1f} s", cure))
    else:
        lines.append(ok("clock", f"nodes differ by {max(0.0, skew):.2f} s at most"))
    return lines


def plain(error: BaseException) -> str:
    """Return an error in one line."""
    return re.sub(r"\s+", " ", f"{type(error).__name__}: {error}").strip()[:300]
