"""IUPAC names for molecules that no database names: by the rules of openclatura (PyPI, MIT), from SMILES.

A name is kept if openclatura's own audit rebuilds the molecule from it. Where the audit abstains (some fused
rings and charges), `data.check_names=opsin` lets OPSIN (Lowe et al. 2011, doi 10.1021/ci100384d) read it: it
is kept if the InChIKey is the same. All other molecules stay without a name, and are counted by reason.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa

from mmgnn_dist.chem.molecules import Molecules
from mmgnn_dist.chem.rdkit_tools import chem, logged, rdkit_version
from mmgnn_dist.chem.readers.source import Spread
from mmgnn_dist.data.prepare.text_provider import TextProvider
from mmgnn_dist.errors import UserError, need

PORTION = 64  # molecules named in one call
MOST_ATOMS = 200  # heavy atoms; the time of a name grows faster than its molecule
ABSTAINED = "the audit abstains"
NO_SMILES, UNREAD, TOO_LARGE = "no SMILES", "SMILES not readable", f"more than {MOST_ATOMS} heavy atoms"

Named = tuple[str | None, str]  # name, and why it is not kept ("" if it is)


class NamesText(TextProvider):
    """IUPAC names by openclatura.

    Args:
        check: `data.check_names`: `audit` or `opsin`.
        spread: maps a function over portions, perhaps in parallel.

    Raises:
        UserError: openclatura is not installed; or OPSIN is asked for and py2opsin or Java is missing.
    """

    name, fields = "names", ("iupac_name",)

    def __init__(self, check: str, spread: Spread = map) -> None:
        self.release = _release("openclatura")
        self.version = f"{self.release}, RDKit {rdkit_version()}"
        self._opsin, self._spread = check == "opsin", spread
        if self._opsin:
            self.version += f", py2opsin {_release('py2opsin')}"
            if not shutil.which("java"):
                raise UserError(
                    "data.check_names=opsin needs Java, and there is no 'java' here: install Java 8 or later "
                    "on every node that prepares, or use data.check_names=audit"
                )

    def texts(self, molecules: Molecules) -> pa.Table:
        """The names that are kept."""
        smiles = molecules.smiles.to_pylist()
        portions = [tuple(smiles[first : first + PORTION]) for first in range(0, len(smiles), PORTION)]
        named = [entry for portion in self._spread(name_molecules, portions) for entry in portion]
        abstained = [row for row, (_, why) in enumerate(named) if why.startswith(ABSTAINED)]
        read_back = set(_read_back(smiles, named, abstained)) if self._opsin and abstained else set()
        names: list[str | None] = []
        origins: list[str | None] = []
        for row, (name, why) in enumerate(named):
            kept = name if not why or row in read_back else None
            names.append(kept)
            how = f"openclatura {self.release}" + (", read back by OPSIN" if row in read_back else "")
            origins.append(json.dumps({"iupac_name": how}) if kept else None)
            if kept is None:
                self.without_text[why] += 1
        return pa.table(
            {
                "iupac_name": pa.array(names, pa.large_string()),
                "field_sources": pa.array(origins, pa.large_string()),
            }
        )


def name_molecules(smiles: Iterable[str | None]) -> list[Named]:
    """Name some molecules and audit the names.

    Args:
        smiles: SMILES of the molecules, None where there is none.

    Returns:
        The name of each molecule, None without one, and the reason for which it is not kept, or "".
    """
    with logged():
        return [_name(text) for text in smiles]


def _name(smiles: str | None) -> Named:
    from openclatura import name

    if not smiles:
        return None, NO_SMILES
    mol = chem().MolFromSmiles(smiles)
    if mol is None:
        return None, UNREAD
    if mol.GetNumHeavyAtoms() > MOST_ATOMS:
        return None, TOO_LARGE
    result = name(smiles, verify_self=True)
    if not result.ok:
        return None, f"no name ({_kind(result.error or 'no reason given')})"
    if result.self_verified:
        return result.name, ""
    audit = result.self_audit
    if audit is not None and audit.verdict == "abstained":
        return result.name, f"{ABSTAINED} ({_kind(audit.reason)})"
    return None, f"the audit fails ({audit.verdict if audit is not None else 'no audit'})"


def _kind(reason: str) -> str:
    """A reason without its numbers and names, so that equal ones can be counted."""
    first = reason.partition(";")[0].replace("[abstained]", "").strip()
    return re.sub(r"'[^']*'|\d+[a-z]?", "…", first)[:80]


def _read_back(smiles: list[str | None], named: list[Named], rows: list[int]) -> list[int]:
    """The rows whose names OPSIN reads as the same structure, by InChIKey."""
    from py2opsin import py2opsin

    with TemporaryDirectory(prefix="mmgnn-opsin-") as folder:
        keys = py2opsin(
            [named[row][0] or "" for row in rows], "StdInChIKey", tmp_fpath=str(Path(folder) / "names.txt")
        )
    if not isinstance(keys, list) or len(keys) != len(rows):
        raise UserError(
            "OPSIN gives no answer: check that 'java -version' works, or use data.check_names=audit"
        )
    rdkit = chem()
    with logged():
        return [
            row
            for row, key in zip(rows, keys, strict=True)
            if key and key == rdkit.MolToInchiKey(rdkit.MolFromSmiles(smiles[row]))
        ]


def _release(package: str) -> str:
    """Version of an installed package.

    Raises:
        UserError: it is not installed.
    """
    try:
        return version(package)
    except PackageNotFoundError:
        raise need(package, "names") from None
