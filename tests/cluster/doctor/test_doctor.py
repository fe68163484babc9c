"""`mmgnn doctor`: five planted faults on the dev cluster, each named with its cure, and a healthy one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from command_line import mmgnn
from jobs import PROFILE, ask
from make_encoder import make_encoder

from mmgnn_dist.cli.main import main
from mmgnn_dist.cluster.doctor.network import addresses


def profile(to: Path, **keys: object) -> Path:
    path = to / "mine.yaml"
    content = {k: v for k, v in (yaml.safe_load(PROFILE.read_text()) | keys).items() if v is not None}
    path.write_text(yaml.safe_dump(content))
    return path


def doctor(recipe: Path, where: Path, to: Path, *words: str, code: int = 0) -> dict[str, dict]:
    """The lines of an examination on the cluster; of several for one thing the worst, with all its nodes."""
    given = ["doctor", recipe, "--on-cluster", "--profile", where, "--dir", to / "doctor", "--json", *words]
    done = mmgnn(*given, code=code)
    worst: dict[str, dict] = {}
    for line in json.loads(done.stdout)["lines"]:
        order = ("OK", "WARN", "FAIL")
        known = worst.setdefault(line["what"], line)
        if order.index(line["level"]) > order.index(known["level"]):
            worst[line["what"]] = line
        elif line["level"] == known["level"] == "OK":  # free space, say, need not be the same on two nodes
            known["nodes"] = sorted({*known["nodes"], *line["nodes"]})
    return worst


@pytest.mark.slurm
def test_a_healthy_cluster_is_ok_throughout(cluster, recipe, tmp_path):
    found = doctor(recipe, profile(tmp_path), tmp_path)
    elsewhere = [address for address in addresses().values() if not address.startswith("127.")]
    assert found.pop("listeners")["level"] == ("WARN" if elsewhere else "OK")
    busy = ("shared disk", "host names")  # measured in seconds, which other tests share
    allowed = {what: ("OK", "WARN") if what in busy else ("OK",) for what in found}
    assert not [line for what, line in found.items() if line["level"] not in allowed[what]]
    for what in ("packages", "GPUs", "interface", "host names", "temporary files", "limits", "encoder"):
        assert found[what]["nodes"] == ["node1", "node2"], what
    assert "2 ranks" in found["all-reduce"]["found"] and "GB/s" in found["all-reduce"]["found"]
    assert {"requeue", "shards", "shared disk", "clock", "accounting", "profile"} <= set(found)
    assert "by a requeue" in found["restart"]["found"]


@pytest.mark.slurm
def test_a_profile_is_compared_with_the_site_without_a_job(cluster, tmp_path, capsys):
    wrong = profile(tmp_path, account="nobody", licenses="solver:9", nodes=7, constraint="v100")
    before = ask("squeue", "-h", "-t", "all", "-o", "%i")
    assert main(["doctor", "--profile", str(wrong), "--json"]) == 2
    told = json.loads(capsys.readouterr().out)["lines"]
    faults = [line["found"] for line in told if line["what"] == "profile"]
    assert all(
        line["level"] == "FAIL" and str(wrong) in line["cure"] for line in told if line["found"] in faults
    )
    for fault, says in zip(faults, ("nodes=7", "no feature v100", "you have dev", "solver:2"), strict=True):
        assert says in fault
    assert main(["doctor", "--profile", str(profile(tmp_path, partition="cancelled"))]) == 0
    shown = capsys.readouterr().out
    assert "in 10 jobs that follow: PreemptMode of partition cancelled is CANCEL" in shown
    assert "to start at" in shown and ask("squeue", "-h", "-t", "all", "-o", "%i") == before


@pytest.mark.slurm
def test_five_faults_at_a_time_are_named_with_their_cures(cluster, recipe, tmp_path):
    """A wrong interface, a full temporary folder on the first node, a lost weight file, JobRequeue=0, and no
    interface for gloo, so that ranks meet by the nodes' names, which nothing here resolves."""
    encoder, full = make_encoder(tmp_path / "model", "bert"), tmp_path / "full"
    (encoder / "model.safetensors").unlink()
    full.mkdir()
    fill = f"mount -t tmpfs -o size=4m tmpfs {full}; head -c 8000000 /dev/zero > {full}/fill || true"
    wrong = {"DS_ACCELERATOR": "cpu", "NCCL_SOCKET_IFNAME": "ib7"}
    where = profile(tmp_path, interface=None, environment=wrong, scratch=str(full), setup=[fill])
    conf = cluster.folder / "slurm.conf"
    before = conf.read_text()
    try:
        conf.write_text(before.replace("JobRequeue=1", "JobRequeue=0"))
        ask("scontrol", "reconfigure")
        found = doctor(recipe, where, tmp_path, f"text.encoder={encoder}", code=2)
    finally:
        conf.write_text(before)
        ask("scontrol", "reconfigure")
    assert found["interface"]["level"] == "FAIL" and found["interface"]["nodes"] == ["node1", "node2"]
    assert "ib7" in found["interface"]["found"] and "set interface" in found["interface"]["cure"]
    assert found["temporary files"]["level"] == "FAIL" and found["temporary files"]["nodes"] == ["node1"]
    assert str(full) in found["temporary files"]["found"] and "scratch" in found["temporary files"]["cure"]
    assert found["encoder"]["level"] == "FAIL" and "fetch-model" in found["encoder"]["cure"]
    assert str(encoder) in found["encoder"]["found"]
    assert found["requeue"]["level"] == "WARN" and "JobRequeue=0" in found["requeue"]["found"]
    assert "--requeue" in found["requeue"]["cure"]
    assert found["host names"]["level"] == "FAIL" and "node1 does not resolve" in found["host names"]["found"]
    assert "set interface" in found["host names"]["cure"]
    assert (
        found["all-reduce"]["found"] == "not tried" and "host names, interface" in found["all-reduce"]["cure"]
    )
    assert found["GPUs"]["level"] == found["limits"]["level"] == "OK"


def test_here_without_a_cluster(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "ib7")
    monkeypatch.setenv("TMPDIR", str(tmp_path / ("long" * 20)))
    (tmp_path / ("long" * 20)).mkdir()
    done = mmgnn("doctor", code=2)
    assert "FAIL  interface        NCCL_SOCKET_IFNAME=ib7, but there is lo 127.0.0.1" in done.stdout
    assert "too long for Ray's sockets" in done.stdout and "cure: set scratch in the profile" in done.stdout
    assert "(temporary files, interface, all-reduce)" in done.stderr
    assert not list(tmp_path.glob(".mmgnn-doctor-*"))


def test_where_nothing_can_be_written_one_line_says_so(monkeypatch, capsys):
    monkeypatch.chdir("/proc")
    assert main(["doctor"]) == 2
    told = capsys.readouterr().err
    assert "/proc cannot be written" in told and told.strip().count("\n") == 0


def test_a_job_needs_a_profile(capsys):
    assert main(["doctor", "--on-cluster"]) == 2
    assert "--profile slurm/NAME.yaml" in capsys.readouterr().err
