"""What other packages add is found by their metadata, and a faulty plugin stops nobody else."""

from __future__ import annotations

import sys

import pytest
from installed import install

from mmgnn_dist import plugins as module
from mmgnn_dist.errors import UserError
from mmgnn_dist.plugins import plugins


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder where packages can be installed."""
    monkeypatch.syspath_prepend(tmp_path)
    module._installed.cache_clear()
    yield tmp_path
    module._installed.cache_clear()


def test_a_plugin_is_found_without_being_imported_and_then_loaded(site):
    (site / "one_reader.py").write_text("class Reader: pass\n")
    install(site, "one", {"readers": {"mine": "one_reader:Reader"}}, version="2.1")
    plugin = plugins("readers")["mine"]
    assert (plugin.package, plugin.version, plugin.value) == ("one", "2.1", "one_reader:Reader")
    assert "one_reader" not in sys.modules
    assert plugin.load().__name__ == "Reader"
    assert set(plugin.identity) == {"group", "name", "package", "version", "sha256"}


def test_every_file_of_a_package_is_in_its_hash_and_no_compiled_one(site):
    package = site / "hashed"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "part.py").write_text("x = 1\n")
    install(site, "hashed", {"fusions": {"mine": "hashed.part:x"}})

    def digest() -> str:
        module._installed.cache_clear()
        return plugins("fusions")["mine"].sha256

    first = digest()
    (package / "part.pyc").write_text("compiled")
    assert digest() == first
    (package / "table.csv").write_text("1")
    assert digest() != first


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("not_there_at_all:Reader", "ModuleNotFoundError"),
        ("faulty_reader:Missing", "AttributeError"),
        ("raising_reader:Reader", "ValueError: no luck"),
    ],
)
def test_a_faulty_plugin_is_named_in_one_line(site, value, told):
    (site / "faulty_reader.py").write_text("")
    (site / "raising_reader.py").write_text("raise ValueError('no\\nluck')\n")
    install(site, "faulty", {"readers": {"mine": value}})
    with pytest.raises(UserError) as caught:
        plugins("readers")["mine"].load()
    said = str(caught.value)
    assert told in said and "'mine'" in said and "faulty 1.0" in said and "\n" not in said


def test_no_plugin_takes_a_name_that_is_taken(site):
    (site / "taking.py").write_text("x = y = 1\n")
    install(site, "first", {"fusions": {"gate": "taking:x", "twice": "taking:x"}})
    install(site, "second", {"fusions": {"twice": "taking:y"}})
    found = plugins("fusions", builtin=["gate"])
    with pytest.raises(UserError, match="mmgnn_dist itself has this name"):
        found["gate"].load()
    with pytest.raises(UserError, match="several packages add it: first, second"):
        found["twice"].load()
