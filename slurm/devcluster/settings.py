"""Settings of the dev cluster: ports, partitions, QoS, accounts, and the text of its configuration files.

They include everything that the profiles in `slurm/` name, so that each profile can be tried. Nodes declare
more CPUs and memory than the machine has: nothing binds or limits tasks, a node only counts what its jobs ask
for.
"""

from __future__ import annotations

from pathlib import Path

BLOCKS = range(16800, 26800, 100)  # first port of each block, below the ephemeral ports of Linux
PORTS = {"slurmctld": 17, "slurmdbd": 19, "slurmd": 20}  # offsets in a block; node K: slurmd + K
ACCOUNTS = ("dev", "m0000_g", "myproject")
QOS: dict[str, tuple[str, ...]] = {
    "normal": (),
    "regular": (),
    "debug": ("MaxWall=00:30:00", "Flags=DenyOnLimit"),
    "preempt": (),
}
NODE = "CPUs=256 RealMemory=500000 Gres=gpu:a100:4 Feature=gpu,a100"
PARTITIONS = {
    "main": "Default=YES MaxTime=2-00:00:00 PriorityTier=1 PreemptMode=REQUEUE",
    "gpu": "MaxTime=2-00:00:00 PriorityTier=1 PreemptMode=REQUEUE",
    "graced": "MaxTime=2-00:00:00 PriorityTier=1 PreemptMode=REQUEUE GraceTime=60",
    "cancelled": "MaxTime=2-00:00:00 PriorityTier=1 PreemptMode=CANCEL",
    "urgent": "MaxTime=04:00:00 PriorityTier=100 PreemptMode=OFF",
}


def slurm_conf(folder: Path, host: str, nodes: list[str], ports: dict[str, int]) -> str:
    """Return the text of slurm.conf; all daemons listen on the loopback interface."""
    socket = folder / "munge" / "munge.socket"
    settings = {
        "ClusterName": "dev",
        "SlurmctldHost": f"{host}(127.0.0.1)",
        "SlurmctldPort": ports["slurmctld"],
        "SlurmUser": "root",
        "SlurmdUser": "root",
        "AuthType": "auth/munge",
        "CredType": "cred/munge",
        # a requeued job waits cred_expire seconds (default 120) before it may start again
        "AuthInfo": f"socket={socket},cred_expire=5",
        "StateSaveLocation": folder / "state",
        "SlurmdSpoolDir": folder / "spool.%n",
        "SlurmctldPidFile": folder / "slurmctld.pid",
        "SlurmdPidFile": folder / "inner.%n.pid",
        "SlurmctldLogFile": folder / "log/slurmctld.log",
        "SlurmdLogFile": folder / "log/slurmd.%n.log",
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        "SwitchType": "switch/none",
        "MpiDefault": "none",
        "ReturnToService": 2,
        "SlurmdTimeout": 20,
        "MinJobAge": 600,
        "KillWait": 10,
        "SchedulerType": "sched/backfill",
        "SchedulerParameters": "sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_CPU",
        "GresTypes": "gpu",
        "Licenses": "solver:2",
        "SlurmdParameters": "config_overrides",
        "JobRequeue": 1,
        "PreemptType": "preempt/partition_prio",
        "PreemptMode": "REQUEUE",
        "JobAcctGatherType": "jobacct_gather/linux",
        "JobAcctGatherFrequency": 5,
        # otherwise slurmd gives jobs an unlimited core size, and a crash leaves gigabytes behind
        "PropagateResourceLimits": "CORE",
        "EnforcePartLimits": "ALL",
        "CommunicationParameters": "NoCtldInAddrAny,NoInAddrAny",
        "AccountingStorageType": "accounting_storage/slurmdbd",
        "AccountingStorageHost": "127.0.0.1",
        "AccountingStoragePort": ports["slurmdbd"],
        "AccountingStoragePass": socket,
        "AccountingStorageEnforce": "associations,limits,qos",
        "AccountingStorageTRES": "gres/gpu",
    }
    lines = [f"{key}={value}" for key, value in settings.items()]
    lines += [
        f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[name]} {NODE}" for name in nodes
    ]
    lines += [f"PartitionName={name} Nodes=ALL State=UP {options}" for name, options in PARTITIONS.items()]
    return "\n".join(lines) + "\n"


def slurmdbd_conf(folder: Path, host: str, ports: dict[str, int]) -> str:
    """Return the text of slurmdbd.conf; slurmdbd uses the database through its socket, as root."""
    settings = {
        "AuthType": "auth/munge",
        "AuthInfo": f"socket={folder / 'munge' / 'munge.socket'}",
        "CommunicationParameters": "NoInAddrAny",
        "DbdHost": host,
        "DbdAddr": "127.0.0.1",
        "DbdPort": ports["slurmdbd"],
        "SlurmUser": "root",
        "LogFile": folder / "log/slurmdbd.log",
        "PidFile": folder / "slurmdbd.pid",
        "StorageType": "accounting_storage/mysql",
        "StorageUser": "root",
        "StorageLoc": "slurm_acct",
        "StorageHost": "localhost",
    }
    return "\n".join(f"{key}={value}" for key, value in settings.items()) + "\n"
