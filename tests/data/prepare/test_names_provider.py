"""Names by openclatura: kept if the audit holds, counted by reason if not, read back by OPSIN."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest

from mmgnn_dist.chem.molecules import Molecules
from mmgnn_dist.chem.states.electronic_state import StatedStates
from mmgnn_dist.data.prepare.text import names_provider
from mmgnn_dist.data.prepare.text.providers import gather_text, make_providers
from mmgnn_dist.errors import UserError

pytest.importorskip("openclatura")
# molecules of kinds that QM9 has; the names are PubChem's (checked by hand)
KNOWN = {"CC(C)=O": "propan-2-one", "C1CCOC1": "oxolane", "CCO": "ethanol", "NC=O": "formamide"}
RINGS = ["CC1CC1C#N", "OC1C2CC1O2", "C1=CC2CC2C1=O", "O=C1CN2CC12", "CC12OC1C2(C)O", "N#CC1CN1C=O"]
ABSTAINED = "Cn1ncc(=NO)cn1"  # a ring with indicated hydrogen, which the audit does not rebuild


def molecules(smiles, names=None):
    n = len(smiles)
    none, zero = pa.nulls(n, pa.large_string()), np.zeros(n, np.int64)
    text = pa.table({"iupac_name": pa.array(names or [None] * n, pa.large_string())})
    made = pa.array(smiles, pa.large_string())
    return Molecules(
        "m",
        zero,
        none,
        made,
        none,
        zero[:0],
        zero,
        np.zeros(0),
        zero,
        zero > 0,
        np.zeros((n, 0)),
        zero > 0,
        zero,
        none,
        text,
        StatedStates.nothing(n),
    )


def named(smiles, check="audit", names=None, providers=("file", "names")):
    made = make_providers(providers, [], (), check)
    found = molecules(smiles, names)
    from mmgnn_dist.data.prepare.text.join import clean_text

    found = Molecules(**{**vars(found), "text": clean_text(found.text, "own.csv")})
    table = gather_text(found, made)
    origins = [json.loads(value or "{}") for value in table["field_sources"].to_pylist()]
    return table["iupac_name"].to_pylist(), origins, made[-1].without_text


def test_names_and_reasons():
    names, origins, without = named([*KNOWN, None, "C1CC", "C" * 201, ABSTAINED])
    assert names[:4] == list(KNOWN.values()) and names[4:] == [None] * 4
    assert all(o["iupac_name"].startswith("openclatura ") for o in origins[:4]) and not any(origins[4:])
    assert without.total() == 4
    assert {"no SMILES", "SMILES not readable", "more than 200 heavy atoms"} < set(without)
    assert any(reason.startswith("the audit abstains") for reason in without)


def test_a_name_that_is_there_stays():
    names, origins, _ = named(["CC(C)=O", "CCO"], names=["acetone", None])
    assert names == ["acetone", "ethanol"] and origins[0]["iupac_name"] == "own.csv"


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("java"), reason="OPSIN needs Java")
def test_opsin_reads_the_same_molecules(monkeypatch):
    """OPSIN starts once: it reads the names of all molecules, also of those that need no second opinion."""
    pytest.importorskip("py2opsin")
    read_back, smiles = names_provider._read_back, [*RINGS, *KNOWN, ABSTAINED]
    found = []

    def read_all(texts, entries, rows):
        assert rows == [len(smiles) - 1]
        found.extend(read_back(texts, entries, list(range(len(smiles)))))
        return [row for row in rows if row in found]

    monkeypatch.setattr(names_provider, "_read_back", read_all)
    names, origins, without = named(smiles, check="opsin")
    assert found == list(range(len(smiles))) and all(names) and not without
    assert (
        origins[-1]["iupac_name"].endswith("read back by OPSIN") and "OPSIN" not in origins[0]["iupac_name"]
    )


def test_opsin_without_java_is_refused_at_once(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="needs Java"):
        make_providers(["names"], [], (), "opsin")
