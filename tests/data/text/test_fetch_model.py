"""`mmgnn fetch-model`: from a hub on this machine into the cache, and from the cache without one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub import COMMIT, NAME, call, serve


@pytest.fixture
def hub(tmp_path) -> Iterator[dict[str, str]]:
    with serve(tmp_path) as environment:
        yield environment


def test_fetched_once_used_without_network(hub, tmp_path):
    offline = hub | {"HF_HUB_OFFLINE": "1"}
    missing = call(offline, "fetch-model", f"{NAME}@{COMMIT}")
    assert missing.returncode == 2 and missing.stderr.count("\n") == 1
    assert (
        f"mmgnn fetch-model {NAME}@{COMMIT}" in missing.stderr and str(tmp_path / "cache") in missing.stderr
    )
    done = call(hub, "fetch-model", f"{NAME}@{COMMIT}", "--json")
    assert done.returncode == 0, done.stderr
    folder = Path(json.loads(done.stdout)["folder"])
    assert folder.name == COMMIT and (folder / "model.safetensors").is_file()
    assert not (folder / "weights.bin").exists()
    again = call(offline | {"HF_ENDPOINT": "http://127.0.0.1:9"}, "fetch-model", f"{NAME}@{COMMIT}", "--json")
    assert again.returncode == 0 and json.loads(again.stdout)["folder"] == str(folder)


def test_without_a_revision_the_commit_is_told(hub):
    done = call(hub, "fetch-model", NAME)
    assert done.returncode == 0, done.stderr
    assert f"text.revision={COMMIT}" in done.stdout


def test_an_unknown_model_is_one_line(hub):
    done = call(hub, "fetch-model", "someone/else@main")
    assert done.returncode == 2 and "someone/else@main" in done.stderr and done.stderr.count("\n") == 1
