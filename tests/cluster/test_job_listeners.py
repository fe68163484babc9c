"""Where jobs with Ray, and the elements of an array, listen while they run, as `ss -ltnp` would show it.

Training over several nodes is seen in `tests/cluster/slurm/test_jobs.py` and `test_successors.py` beside it.
"""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from command_line import mmgnn
from jobs import changed, wait
from listeners import listeners
from processes_left import MARK, none_left
from ray_batch import batch
from sweep_states import RECIPE

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

LOOPBACK = {"127.0.0.1", "::1"}
OF_STUDY = RECIPE.partition("sweep:")[0]
STUDY = ("study.arms=[graph, again]", "study.folds=[0]", "study.workers=1", "train.epochs=2")


@contextmanager
def heard(mark: str) -> Iterator[dict[str, set[str]]]:
    """Addresses on which the processes with a mark listened, with their command lines, while this is open."""
    found: dict[str, set[str]] = {}
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.2):
            for address, names in listeners(mark).items():
                found.setdefault(address, set()).update(names)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize("kind", ["preparation", "sweep", "study"])
def test_ray_listens_elsewhere_only_over_several_nodes(cluster, sample_shards, tmp_path, kind, nodes):
    shards = shutil.copytree(sample_shards.path, tmp_path / "shards")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text((RECIPE if kind == "sweep" else OF_STUDY) % shards)
    words = {
        "preparation": [
            "data",
            "prepare",
            "sample",
            "--to",
            tmp_path / "set",
            "data.workers=2",
            "data.rows_per_shard=40",
        ],
        "sweep": ["sweep", recipe, "--dir", tmp_path / "sweep", "sweep.samples=2", "train.epochs=4"],
        "study": ["study", recipe, "--ray", "--dir", tmp_path / "study", *STUDY],
    }[kind]
    log = tmp_path / f"{tmp_path.name}.log"
    with heard(f"{MARK}={log.stem}") as found:
        batch(log, sys.executable, "-m", "mmgnn_dist.cli", *words, nodes=nodes)
    none_left(log.stem)
    assert found
    elsewhere = set().union(*(words for address, words in found.items() if address not in LOOPBACK))
    print({address: sorted(words[:150] for words in all_words) for address, all_words in found.items()})
    if nodes == 1:
        assert not elsewhere
    else:  # servers of Ray, and Ray's part in the command itself, which can be bound to loopback or to all
        assert all(
            "/ray/" in words or words.startswith("ray::") or "mmgnn_dist.cli" in words for words in elsewhere
        )


def test_an_array_listens_on_the_loopback_interface(cluster, sample_shards, tmp_path):
    shards = shutil.copytree(sample_shards.path, tmp_path / "shards")
    recipe, folder, profile = tmp_path / "recipe.yaml", tmp_path / "study", changed(tmp_path, nodes=1)
    recipe.write_text(OF_STUDY % shards)
    with heard(str(cluster.folder)) as found:
        mmgnn("study", recipe, "--profile", profile, "--dir", folder, *STUDY)
        wait((folder / "report" / "report.html").is_file, "the report", folder)
    assert set(found) <= LOOPBACK
