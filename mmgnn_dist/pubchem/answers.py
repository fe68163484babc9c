"""Answers of PUG REST: the kind of an answer, and the rows in it.

The body decides, not the status alone: a fault may come with status 200, and an HTML page with any status
is not an answer of PubChem. Column names changed over the years (`IsomericSMILES` became `SMILES`, and a
request for `CanonicalSMILES` returns `ConnectivitySMILES`), so the comparison ignores case and underscores.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Kind(Enum):
    """What an answer means for its request."""

    FOUND = "found"
    NONE = "none"  # PubChem has nothing for the request
    REFUSED = "refused"  # the request itself is wrong: asking again is useless
    WAITING = "waiting"  # a list key; the result is fetched later
    FAULT = "fault"  # asking again may help


@dataclass(frozen=True)
class Verdict:
    """The kind of an answer, the list key of a waiting one, and the description of a fault."""

    kind: Kind
    list_key: str = ""
    why: str = ""

    @property
    def key_lost(self) -> bool:
        """Whether the list key may be lost; without data, PubChem says 'No CID found' or 'No records ...'."""
        return self.kind is Kind.NONE and bool(self.why) and ": No " not in self.why


PUG_PROPERTIES = (
    "Title",
    "IUPACName",
    "MolecularFormula",
    "MolecularWeight",
    "XLogP",
    "HBondDonorCount",
    "HBondAcceptorCount",
    "RotatableBondCount",
    "TPSA",
    "SMILES",
)
OLD_PROPERTIES = tuple("IsomericSMILES" if name == "SMILES" else name for name in PUG_PROPERTIES)
_FIELDS = {
    "title": "title",
    "iupacname": "iupac_name",
    "molecularformula": "molecular_formula",
    "molecularweight": "molecular_weight",
    "xlogp": "xlogp",
    "hbonddonorcount": "h_bond_donor_count",
    "hbondacceptorcount": "h_bond_acceptor_count",
    "rotatablebondcount": "rotatable_bond_count",
    "tpsa": "tpsa",
}
_SMILES = ("smiles", "isomericsmiles", "connectivitysmiles", "canonicalsmiles")  # the most informative first
_TABLES = (("PropertyTable", "Properties"), ("InformationList", "Information"))
PORTAL = (200, 511)  # statuses with which the login page of a network answers for the service
NOT_FOUND, BAD_REQUEST = "PUGREST.NotFound", "PUGREST.BadRequest"


def classify_answer(status: int, body: bytes) -> Verdict:
    """Classify an answer by its status and body."""
    try:
        value = json.loads(body)
    except ValueError:
        what = "a body that is not JSON"
        if status in PORTAL and body.lstrip()[:1] == b"<":
            what = "a web page instead of data: does the network ask for a login?"
        return Verdict(Kind.FAULT, why=f"{status} with {what} ({_start(body)})")
    if not isinstance(value, dict):
        return Verdict(Kind.FAULT, why=f"{status} with a body that is not PUG REST's ({_start(body)})")
    if "Fault" in value:
        return _fault(status, value["Fault"])
    waiting = value.get("Waiting")
    if isinstance(waiting, dict) and waiting.get("ListKey"):
        return Verdict(Kind.WAITING, list_key=str(waiting["ListKey"]))
    if status == 200:
        if _no_cid(value):
            return Verdict(Kind.NONE)
        if _table(value) is not None:
            return Verdict(Kind.FOUND)
    return Verdict(Kind.FAULT, why=f"{status} with a body that is not PUG REST's ({_start(body)})")


def rows(body: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (CID, columns by normalised name) of each row of an answer; skip CID 0, which means no match."""
    for row in _table(json.loads(body)) or []:
        if not isinstance(row, dict):
            continue
        columns = {str(name).replace("_", "").lower(): value for name, value in row.items()}
        try:
            cid = int(columns.pop("cid", 0))
        except (TypeError, ValueError):
            continue
        if cid > 0:
            yield cid, columns


def text_fields(row: dict[str, Any]) -> dict[str, Any]:
    """Return the text fields, and `smiles`, of a row of properties, by our names."""
    fields = {field: row[name] for name, field in _FIELDS.items() if row.get(name) not in (None, "")}
    for name in _SMILES:
        if row.get(name):
            return fields | {"smiles": row[name]}
    return fields


def _table(value: dict[str, Any]) -> list[Any] | None:
    for outer, inner in _TABLES:
        table = value.get(outer)
        if isinstance(table, dict) and isinstance(table.get(inner), list):
            return list(table[inner])
    return None


def _no_cid(value: dict[str, Any]) -> bool:
    """Whether the answer is a list of CIDs that means 'none': {"IdentifierList": {"CID": [0]}}."""
    cid_list = value.get("IdentifierList")
    return isinstance(cid_list, dict) and not any(cid_list.get("CID") or [0])


def _fault(status: int, fault: Any) -> Verdict:
    fault = fault if isinstance(fault, dict) else {}
    code = str(fault.get("Code", "fault without a code"))
    message = str(fault.get("Message", "")).strip()
    why = f"{status} {code}" + (f": {message}" if message else "")
    kind = {NOT_FOUND: Kind.NONE, BAD_REQUEST: Kind.REFUSED}.get(code, Kind.FAULT)
    return Verdict(kind, why=" ".join(why.split()))


def _start(body: bytes) -> str:
    """Return the first words of a body, for a message."""
    text = " ".join(body[:60].decode("utf-8", "replace").split())
    return f"'{text}...'" if text else "empty"
